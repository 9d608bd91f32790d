package hangup

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is for what must happen; it decides nothing.
const patience = 20 * time.Second

func listener(t *testing.T) (*Listener, <-chan int32) {
	t.Helper()
	told := make(chan int32, 100)
	l := New(func(id int32) { told <- id })
	probe, other := pair(t, "tcp", "127.0.0.1:0")
	defer other.Close()
	if _, err := l.Add(probe); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("nobody can be listened to on " + runtime.GOOS)
	}
	l.Remove(probe)
	return l, told
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
	l, told := listener(t)
	for what, addr := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := pair(t, what, addr)
			id, err := l.Add(ours)
			require.NoError(t, err)
			require.NoError(t, theirs.Close())
			select {
			case got := <-told:
				assert.Equal(t, id, got)
			case <-time.After(patience):
				require.FailNow(t, "not told")
			}
			l.Remove(ours)
		})
	}
}

// What was said last does not hide that it was the last.
func TestToldBehindUnreadWords(t *testing.T) {
	l, told := listener(t)
	ours, theirs := pair(t, "tcp", "127.0.0.1:0")
	id, err := l.Add(ours)
	require.NoError(t, err)
	_, err = theirs.Write([]byte("goodbye"))
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	assert.Equal(t, id, <-told)
	words, err := io.ReadAll(ours)
	require.NoError(t, err)
	assert.Equal(t, "goodbye", string(words), "nothing is swallowed")
	l.Remove(ours)
}

// An answer is no hangup, nor is the end of a connection that is closed on this side.
func TestNotToldOfAnythingElse(t *testing.T) {
	l, told := listener(t)
	ours, theirs := pair(t, "tcp", "127.0.0.1:0")
	_, err := l.Add(ours)
	require.NoError(t, err)
	for range 100 {
		_, err := theirs.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(ours, make([]byte, 1))
		require.NoError(t, err)
	}
	require.NoError(t, ours.Close())
	_, err = io.ReadAll(theirs)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	l.Remove(nil)

	// Who hangs up behind all that is the first to be told of.
	ours, theirs = pair(t, "tcp", "127.0.0.1:0")
	id, err := l.Add(ours)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	assert.Equal(t, id, <-told)
	l.Remove(ours)
}

// A connection that has been removed is somebody else's.
func TestNotToldOfWhatWasRemoved(t *testing.T) {
	l, told := listener(t)
	stays, last := pair(t, "tcp", "127.0.0.1:0")
	id, err := l.Add(stays)
	require.NoError(t, err)
	ours, theirs := pair(t, "tcp", "127.0.0.1:0")
	_, err = l.Add(ours)
	require.NoError(t, err)
	l.Remove(ours)
	require.NoError(t, theirs.Close())
	require.NoError(t, last.Close())
	assert.Equal(t, id, <-told)
	assert.Empty(t, told)
	l.Remove(stays)
}

// Many at once are each told of, once, and nothing is left of it all.
func TestManyHangUpAtOnce(t *testing.T) {
	l, told := listener(t)
	before := runtime.NumGoroutine()
	var ours, theirs []net.Conn
	ids := make(map[int32]bool)
	for range 50 {
		o, x := pair(t, "tcp", "127.0.0.1:0")
		id, err := l.Add(o)
		require.NoError(t, err)
		ids[id] = true
		ours, theirs = append(ours, o), append(theirs, x)
	}
	require.Len(t, ids, 50)
	for _, x := range theirs {
		require.NoError(t, x.Close())
	}
	for range 50 {
		id := <-told
		assert.True(t, ids[id], "%d", id)
		delete(ids, id)
	}
	for _, o := range ours {
		l.Remove(o)
	}
	assert.Nil(t, l.ear)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

// What is no socket cannot be listened to, and that leaves nothing.
func TestNoSocket(t *testing.T) {
	l, _ := listener(t)
	a, b := net.Pipe()
	defer b.Close()
	_, err := l.Add(a)
	require.ErrorIs(t, err, errNoSocket)
	closed, _ := pair(t, "tcp", "127.0.0.1:0")
	require.NoError(t, closed.Close())
	_, err = l.Add(closed)
	require.Error(t, err)
	assert.Nil(t, l.ear)
}
