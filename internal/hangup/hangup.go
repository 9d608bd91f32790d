// Package hangup tells when the other side of a connection closes it: at once, and
// for nothing until then, since the kernel says so. It does on Linux; elsewhere nobody
// can be listened to.
package hangup

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// A Listener listens for the ends of connections. It needs no closing: it has a
// descriptor as long as there is somebody to listen to, and no goroutine.
type Listener struct {
	rung chan struct{} // has room for one: Wait is to end

	mu    sync.Mutex // guards what follows
	ear   *ear       // nil: there is nobody to listen to
	lines int        // how many there are
	last  int32      // the id given last
	deaf  bool       // a Wait has begun without an ear, and is to begin anew if there is one
}

// New returns a listener that listens to nobody yet.
func New() *Listener { return &Listener{rung: make(chan struct{}, 1)} }

var errNoSocket = errors.New("hangup: the connection is no socket")

// Add begins to listen to conn, and returns its id, which is not 0. Unless Add fails,
// Remove must follow.
func (l *Listener) Add(conn any) (id int32, err error) {
	socket, err := rawConn(conn)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ear == nil {
		if l.ear, err = newEar(); err != nil {
			return 0, err
		}
		if l.deaf {
			l.ring()
		}
	}
	l.last = max(l.last+1, 1)
	if err := l.ear.add(socket, l.last); err != nil {
		l.closeIfUnused()
		return 0, err
	}
	l.lines++
	return l.last, nil
}

// Remove undoes Add. A connection that has been closed on this side needs no more than
// to be counted: then conn may be nil.
func (l *Listener) Remove(conn any) {
	socket, err := rawConn(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.ear.remove(socket)
	}
	l.lines--
	l.closeIfUnused()
}

func (l *Listener) closeIfUnused() {
	if l.lines == 0 {
		l.ear.close()
		l.ear = nil
	}
}

// Wait returns when connections have been closed by their other sides, with their ids,
// each of which is told once; or without any when d has passed, after a Wake, and perhaps
// before. One goroutine at a time may wait.
func (l *Listener) Wait(d time.Duration) (ids []int32) {
	l.mu.Lock()
	ear := l.ear
	l.deaf = ear == nil
	l.mu.Unlock()
	if ear != nil {
		return ear.wait(d, l.rung)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.rung:
	}
	l.mu.Lock()
	l.deaf = false
	l.mu.Unlock()
	return nil
}

// Wake ends the Wait that is under way, or else the next.
func (l *Listener) Wake() {
	l.ring()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ear != nil {
		l.ear.wake()
	}
}

func (l *Listener) ring() {
	select {
	case l.rung <- struct{}{}:
	default:
	}
}

// rawConn returns what conn is beneath, if that has a descriptor.
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
