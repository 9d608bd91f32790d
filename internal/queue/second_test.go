package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// foreign has a session of its own wait for the lock. It returns what unlocks it, to be called when it has it.
func (b *bubble) foreign(name string) (got <-chan error, unlock func()) {
	b.Helper()
	conn, err := b.db.Conn(b.Context())
	require.NoError(b, err)
	granted := make(chan error, 1)
	go func() {
		granted <- conn.QueryRowContext(b.Context(), "SELECT GET_LOCK(?, ?)", name, 600.5).Scan(new(int))
	}()
	synctest.Wait()
	return granted, func() {
		b.Helper()
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT RELEASE_LOCK(?)", name).Scan(new(int)))
		require.NoError(b, conn.Close())
	}
}

// Who comes while another waits, and waits for longer, has a place on the server from then on.
func TestSecond_WhoComesLaterHasAPlace(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		foreign, unlock := b.foreign("l")
		third := b.call(background, "l", Forever)
		first.fails(b, fault.ErrTimeout)
		synctest.Wait()
		assert.Len(b, b.waitsFor("l"), 4, "the foreign one's, one for the first, one for the second, and now for the third")
		second.waits(b)
		b.server.Unlock("l")
		g := second.granted(b)
		require.NoError(b, g.Release())
		require.NoError(b, <-foreign)
		third.waits(b)
		unlock()
		require.NoError(b, third.granted(b).Release())
	})
}

// Those who wait for about as long share one wait.
func TestSecond_NotForALittleLonger(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		for range 3 {
			b.call(background, "l", 10*time.Second)
			time.Sleep(300 * time.Millisecond)
		}
		assert.Len(b, b.waitsFor("l"), 1)
		time.Sleep(time.Minute)
		b.server.Unlock("l")
	})
}

// Nor where there is no room for it.
func TestSecond_NotAtTheCap(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		b.server.Lock("m")
		l, m := b.call(background, "l", 10*time.Second), b.call(background, "m", 10*time.Second)
		for _, name := range []string{"l", "m"} {
			b.call(background, name, 20*time.Second)
			assert.Len(b, b.waitsFor(name), 1)
		}
		l.fails(b, fault.ErrTimeout)
		m.fails(b, fault.ErrTimeout)
		time.Sleep(time.Minute)
		b.server.Unlock("l")
		b.server.Unlock("m")
	})
}

// The second wait goes on while the first in line has the lock, and is the next's.
func TestSecond_GoesOnBehindTheFirst(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		foreign, unlock := b.foreign("l")
		b.server.Unlock("l")
		held := first.granted(b)
		second.waits(b)
		require.NoError(b, held.Release())
		g := second.granted(b)
		assert.Len(b, b.waitsFor("l"), 3, "the foreign one's, and the two")
		require.NoError(b, g.Release())
		require.NoError(b, <-foreign)
		unlock()
	})
}

// The second wait ends when nobody is left who wants it.
func TestSecond_EndsWithItsCaller(t *testing.T) {
	for _, granted := range []bool{false, true} {
		inBubble(t, 0, func(b *bubble) {
			b.server.Lock("l")
			first := b.call(background, "l", 10*time.Second)
			second := b.call(background, "l", 20*time.Second)
			require.Len(b, b.waitsFor("l"), 2)
			second.cancel(nil)
			second.fails(b, context.Canceled)
			if granted {
				b.server.Unlock("l")
				require.NoError(b, first.granted(b).Release())
			} else {
				first.cancel(nil)
				first.fails(b, context.Canceled)
			}
			assert.Zero(b, b.active())
			if !granted {
				b.server.Unlock("l")
			}
		})
	}
}

// It may not end before the first.
func TestSecond_DiesBeforeTheFirst(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		waits := b.waitsFor("l")
		require.Len(b, waits, 2)
		b.server.Kill(waits[1])
		first.fails(b, fault.ErrTimeout)
		second.waits(b)
		b.server.Unlock("l")
		require.NoError(b, second.granted(b).Release())
	})
}

// The first may be killed: the second goes on, whoever it is for.
func TestSecond_TheFirstDies(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		foreign, unlock := b.foreign("l")
		b.server.Kill(b.waitsFor("l")[0])
		synctest.Wait()
		b.server.Unlock("l")
		require.NoError(b, first.granted(b).Release())
		require.NoError(b, <-foreign)
		second.waits(b)
		unlock()
		require.NoError(b, second.granted(b).Release())
	})
}

// A holder that has lost its lock, and is not told yet, has it alone in this process.
func TestSecond_NotBesideAHolderWhoHasLost(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		b.server.Unlock("l")
		held := first.granted(b)
		ctx := under(held)
		b.server.Steal("l")
		second.waits(b)
		require.NoError(b, ctx.Err(), "not told yet")
		require.ErrorIs(b, held.Release(), fault.ErrLost)
		require.NoError(b, second.granted(b).Release())
	})
}

// Where the second is granted, and nobody else is in line, the first ends.
func TestSecond_TheFirstEndsWithTheLastCaller(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		b.server.Once("GET_LOCK('l', 9", &memserver.Reply{Hang: true}) // the first wait, of 9.99... s
		first := b.call(background, "l", 9500*time.Millisecond)
		second := b.call(background, "l", 20*time.Second)
		require.Len(b, b.waitsFor("l"), 2)
		first.cancel(nil)
		first.fails(b, context.Canceled)
		b.server.Unlock("l")
		g := second.granted(b)
		assert.Equal(b, 1, b.active(), "the holder")
		_, alive := b.server.Sessions()
		assert.Equal(b, 1, alive, "the first wait's session has gone")
		require.NoError(b, g.Release())
	})
}

// The first may end while the second is being granted: it begins no other.
func TestSecond_TheFirstEndsWhileTheSecondIsGranted(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", 20*time.Second)
		waits := b.waitsFor("l")
		require.Len(b, waits, 2)
		// The second is granted; whether it still excludes is asked, and not answered before the first has ended.
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Session == waits[1] && strings.HasPrefix(st.Text, "SELECT @@read_only") {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		time.Sleep(9 * time.Second)
		b.server.Jump("l", waits[1])
		b.server.Unlock("l")
		first.fails(b, fault.ErrTimeout)
		g := second.granted(b)
		assert.Len(b, b.waitsFor("l"), 2, "no third wait")
		require.NoError(b, g.Release())
	})
}

// A second wait for another spelling of the name, which on MariaDB is another lock, is of no use
// to who is first in line then.
func TestSecond_IsForOneSpelling(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		b.server.Lock("L")
		first := b.call(background, "l", 10*time.Second)
		other := b.call(background, "L", time.Minute)
		third := b.call(background, "l", time.Minute)
		require.Len(b, b.waitsFor("l"), 2)
		first.fails(b, fault.ErrTimeout)
		time.Sleep(time.Second)
		begun := time.Now()
		b.server.Unlock("L")
		g := other.granted(b)
		assert.LessOrEqual(b, other.at.Sub(begun), pollInterval)
		require.NoError(b, g.Release())
		b.server.Unlock("l")
		require.NoError(b, third.granted(b).Release())
	})
}

func TestSecond_Close(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		first := b.call(background, "l", 10*time.Second)
		second := b.call(background, "l", Forever)
		require.Len(b, b.waitsFor("l"), 2)
		<-b.closing()
		first.fails(b, fault.ErrClosed)
		second.fails(b, fault.ErrClosed)
		b.server.Unlock("l")
	})
}
