package hangup

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience bounds waits for events that must happen. No result depends on it.
const patience = 20 * time.Second

func listener(t *testing.T) *Listener {
	t.Helper()
	l := New()
	probe, other := pair(t, "tcp", "127.0.0.1:0")
	defer other.Close()
	if _, err := l.Add(probe); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("nobody can be listened to on " + runtime.GOOS)
	}
	l.Remove(probe)
	return l
}

// added returns both ends of a connection that l listens to, and its id.
func added(t *testing.T, l *Listener) (id int32, ours, theirs net.Conn) {
	t.Helper()
	ours, theirs = pair(t, "tcp", "127.0.0.1:0")
	id, err := l.Add(ours)
	require.NoError(t, err)
	return id, ours, theirs
}

// told waits for n connections to be closed, and returns their ids.
func told(t *testing.T, l *Listener, n int) (ids []int32) {
	t.Helper()
	for end := time.Now().Add(patience); len(ids) < n; {
		require.True(t, time.Now().Before(end), "not told")
		ids = append(ids, l.Wait(time.Second)...)
	}
	return ids
}

// pair returns both ends of a connection.
func pair(t *testing.T, network, addr string) (ours, theirs net.Conn) {
	t.Helper()
	server, err := net.Listen(network, addr)
	require.NoError(t, err)
	defer server.Close()
	ours, err = net.Dial(network, server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close() })
	theirs, err = server.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

func TestToldOfAHangup(t *testing.T) {
	l := listener(t)
	for what, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := pair(t, what, addr)
			id, err := l.Add(ours)
			require.NoError(t, err)
			defer l.Remove(ours)
			require.NoError(t, theirs.Close())
			assert.Equal(t, []int32{id}, told(t, l, 1))
			assert.Empty(t, l.Wait(time.Millisecond), "once")
		})
	}
}

// A Wait that has begun reports the end of a connection.
func TestToldWhileWaiting(t *testing.T) {
	l := listener(t)
	id, ours, theirs := added(t, l)
	ids := make(chan []int32)
	go func() { ids <- l.Wait(patience) }()
	time.AfterFunc(10*time.Millisecond, func() { theirs.Close() })
	assert.Equal(t, []int32{id}, <-ids)
	l.Remove(ours)
}

// So does a Wait that began before there was any connection.
func TestToldOfOneAddedWhileWaiting(t *testing.T) {
	l := listener(t)
	ids := make(chan []int32)
	go func() {
		for all := l.Wait(patience); ; all = l.Wait(patience) {
			if len(all) > 0 {
				ids <- all
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond) // it waits by now, or finds the epoller; both are suitable
	id, ours, theirs := added(t, l)
	require.NoError(t, theirs.Close())
	select {
	case all := <-ids:
		assert.Equal(t, []int32{id}, all)
	case <-time.After(patience / 2):
		require.FailNow(t, "not told")
	}
	l.Remove(ours)
}

// Unread data does not hide the end of the connection.
func TestToldBehindUnreadWords(t *testing.T) {
	l := listener(t)
	id, ours, theirs := added(t, l)
	_, err := theirs.Write([]byte("goodbye"))
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	assert.Equal(t, []int32{id}, told(t, l, 1))
	words, err := io.ReadAll(ours)
	require.NoError(t, err)
	assert.Equal(t, "goodbye", string(words), "nothing is swallowed")
	l.Remove(ours)
}

// An answer is not a hangup, and neither is a close on this side.
func TestNotToldOfAnythingElse(t *testing.T) {
	l := listener(t)
	_, ours, theirs := added(t, l)
	for range 100 {
		_, err := theirs.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(ours, make([]byte, 1))
		require.NoError(t, err)
	}
	require.NoError(t, ours.Close())
	_, err := io.ReadAll(theirs)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())

	// The first hangup after these is the first to be reported.
	id, last, other := added(t, l)
	require.NoError(t, other.Close())
	assert.Equal(t, []int32{id}, told(t, l, 1))
	l.Remove(last)
	l.Remove(nil)
	assert.Nil(t, l.epoller)
}

// A removed connection is not reported.
func TestNotToldOfWhatWasRemoved(t *testing.T) {
	l := listener(t)
	id, stays, last := added(t, l)
	_, ours, theirs := added(t, l)
	l.Remove(ours)
	require.NoError(t, theirs.Close())
	require.NoError(t, last.Close())
	assert.Equal(t, []int32{id}, told(t, l, 1))
	l.Remove(stays)
}

// After Remove(nil), a connection that is still open can be added again.
func TestAddedTwice(t *testing.T) {
	l := listener(t)
	_, other, _ := added(t, l)
	_, ours, theirs := added(t, l)
	l.Remove(nil)
	id, err := l.Add(ours)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	assert.Equal(t, []int32{id}, told(t, l, 1))
	l.Remove(ours)
	l.Remove(other)
}

// Many at the same time are each reported once.
func TestManyHangUpAtOnce(t *testing.T) {
	l := listener(t)
	var ours, theirs []net.Conn
	var ids []int32
	for range 50 {
		id, o, x := added(t, l)
		ours, theirs, ids = append(ours, o), append(theirs, x), append(ids, id)
	}
	for _, x := range theirs {
		require.NoError(t, x.Close())
	}
	assert.ElementsMatch(t, ids, told(t, l, 50))
	for _, o := range ours {
		l.Remove(o)
	}
	assert.Nil(t, l.epoller)
}

// A wait ends after its time, by Wake, and when the last connection is removed.
func TestWaitEnds(t *testing.T) {
	l := listener(t)
	for what, add := range map[string]bool{"listening": true, "to nobody": false} {
		t.Run(what, func(t *testing.T) {
			ours, _ := pair(t, "tcp", "127.0.0.1:0")
			if add {
				_, err := l.Add(ours)
				require.NoError(t, err)
			}
			begun := time.Now()
			assert.Empty(t, l.Wait(10*time.Millisecond))
			assert.GreaterOrEqual(t, time.Since(begun), 10*time.Millisecond)

			l.Wake()
			assert.Empty(t, l.Wait(time.Hour))
			woke := make(chan struct{})
			time.AfterFunc(10*time.Millisecond, func() {
				l.Wake()
				close(woke)
			})
			assert.Empty(t, l.Wait(time.Hour))
			<-woke // otherwise the rest of Wake would end the first Wait of the next test
			if add {
				_ = l.Wait(0) // takes what is left of that Wake
				time.AfterFunc(10*time.Millisecond, func() { l.Remove(ours) })
				assert.Empty(t, l.Wait(time.Hour))
			}
		})
	}
}

// A connection that is not a socket cannot be added, and Add leaves nothing
// behind.
func TestNoSocket(t *testing.T) {
	l := listener(t)
	a, b := net.Pipe()
	defer b.Close()
	_, err := l.Add(a)
	require.ErrorIs(t, err, errNoSocket)
	closed, _ := pair(t, "tcp", "127.0.0.1:0")
	require.NoError(t, closed.Close())
	_, err = l.Add(closed)
	require.Error(t, err)
	assert.Nil(t, l.epoller)
}

// A guarded is a connection of a user's dialer. Its code must not run under a
// mutex.
type guarded struct {
	net.Conn
	l *Listener
	t *testing.T
}

func (g guarded) SyscallConn() (syscall.RawConn, error) {
	raw, err := g.Conn.(syscall.Conn).SyscallConn()
	return guardedRaw{raw, g}, err
}

type guardedRaw struct {
	syscall.RawConn
	guarded guarded
}

func (r guardedRaw) Control(f func(uintptr)) error {
	if assert.True(r.guarded.t, r.guarded.l.mu.TryLock()) {
		r.guarded.l.mu.Unlock()
	}
	return r.RawConn.Control(f)
}

func TestNoCodeOfADialerUnderTheMutex(t *testing.T) {
	l := listener(t)
	ours, theirs := pair(t, "tcp", "127.0.0.1:0")
	conn := guarded{ours, l, t}
	id, err := l.Add(conn)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	assert.Equal(t, []int32{id}, told(t, l, 1))
	l.Remove(conn)
}
