package hangup

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// A Listener listens for the ends of connections. It has a descriptor while
// there is a connection to listen to, and no goroutine, so it need not be
// closed.
type Listener struct {
	woken chan struct{} // has room for one; an element ends Wait

	mu            sync.Mutex // guards the fields below
	epoller       *epoller   // nil: there is no connection
	registrations int        // the number of connections
	last          int32      // the last id
	without       bool       // a Wait has begun without an epoller, and must start over when there is one
}

// New returns a Listener without connections.
func New() *Listener { return &Listener{woken: make(chan struct{}, 1)} }

var errNoSocket = errors.New("hangup: the connection is not a socket")

// Add begins to listen to conn, and returns its id, which is not 0. Unless Add
// fails, Remove must follow.
func (l *Listener) Add(conn any) (id int32, err error) {
	socket, err := rawConn(conn)
	if err != nil {
		return 0, err
	}
	var failed error
	// The mutex is locked inside: Control may be code of the user's dialer.
	if err := socket.Control(func(fd uintptr) { id, failed = l.add(int(fd)) }); err != nil {
		return 0, err
	}
	return id, failed
}

func (l *Listener) add(socket int) (id int32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoller == nil {
		if l.epoller, err = newEpoller(); err != nil {
			return 0, err
		}
		if l.without {
			l.wake()
		}
	}
	l.last = max(l.last+1, 1)
	if err := l.epoller.add(socket, l.last); err != nil {
		l.closeIfUnusedLocked()
		return 0, err
	}
	l.registrations++
	return l.last, nil
}

// Remove undoes Add. conn may be nil for a connection that was closed on this
// side.
func (l *Listener) Remove(conn any) {
	if socket, err := rawConn(conn); err == nil {
		_ = socket.Control(func(fd uintptr) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.epoller.remove(int(fd))
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.registrations--
	l.closeIfUnusedLocked()
}

func (l *Listener) closeIfUnusedLocked() {
	if l.registrations == 0 {
		l.epoller.close()
		l.epoller = nil
	}
}

// Wait returns the ids of connections that were closed by their other sides. It
// returns each id once. It returns no id after d, after a Wake, and sometimes
// earlier. Only one goroutine at a time may call it.
func (l *Listener) Wait(d time.Duration) (ids []int32) {
	l.mu.Lock()
	epoller := l.epoller
	l.without = epoller == nil
	l.mu.Unlock()
	if epoller != nil {
		return epoller.wait(d, l.woken)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.woken:
	}
	l.mu.Lock()
	l.without = false
	l.mu.Unlock()
	return nil
}

// Wake ends the current Wait, or the next one if there is none.
func (l *Listener) Wake() {
	l.wake()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoller != nil {
		l.epoller.wake()
	}
}

func (l *Listener) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// rawConn returns the connection beneath conn, if it has a descriptor.
func rawConn(conn any) (syscall.RawConn, error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errNoSocket
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	has := false
	if err := raw.Control(func(uintptr) { has = true }); err != nil {
		return nil, err
	}
	if !has {
		return nil, errNoSocket
	}
	return raw, nil
}
