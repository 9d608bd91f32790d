package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
)

const turnsOfOurs = time.Second // how long a lock is passed on

// A lock goes to the next caller without the server, on the same session. Each
// holder is told of a loss.
func TestHandOff(t *testing.T) {
	inBubble(t, turnsOfOurs, func(b *bubble) {
		g := b.acquire(background, "a")
		asked := len(b.server.Sent("_LOCK("))
		for range 3 {
			next := b.call(background, "a", time.Hour)
			require.NoError(b, g.Release())
			successor := next.granted(b)
			assert.Same(b, g.session, successor.session)
			assert.Equal(b, g.since, successor.since)
			g = successor
		}
		assert.Len(b, b.server.Sent("_LOCK("), asked, "the server was not asked")
		assert.Equal(b, 1, b.server.Holder("a"))
		ctx := under(g)
		b.server.Kill(1)
		<-ctx.Done()
		require.ErrorIs(b, context.Cause(ctx), fault.ErrLost)
		require.ErrorIs(b, g.Release(), fault.ErrLost)
	})
}

// After its time, which begins with the server's grant, a lock is released and
// queued for again.
func TestHandOff_EndsAfterItsTime(t *testing.T) {
	inBubble(t, turnsOfOurs, func(b *bubble) {
		g := b.acquire(background, "a")
		time.Sleep(turnsOfOurs / 2)
		next := b.call(background, "a", time.Hour)
		require.NoError(b, g.Release())
		g = next.granted(b)
		assert.Empty(b, b.server.Sent("RELEASE_LOCK"))
		time.Sleep(turnsOfOurs / 2)
		next = b.call(background, "a", time.Hour)
		require.NoError(b, g.Release())
		assert.Len(b, b.server.Sent("RELEASE_LOCK"), 1)
		require.NoError(b, next.granted(b).Release())
	})
}

// Each of these locks must be released on the server and acquired again.
func TestHandOff_Refused(t *testing.T) {
	for what, refuse := range map[string]func(b *bubble) (g *Grant, next *call){
		"another letter case": func(b *bubble) (*Grant, *call) {
			return b.acquire(background, "a"), b.call(background, "A", time.Hour)
		},
		"the next has a lock of its own": func(b *bubble) (*Grant, *call) {
			g, outer := b.acquire(background, "a"), b.acquire(background, "outer")
			next := b.call(under(outer), "a", time.Hour)
			go func() {
				<-next.done
				time.Sleep(time.Second)
				_ = outer.Release()
			}()
			return g, next
		},
		"it is an inner lock": func(b *bubble) (*Grant, *call) {
			outer := b.acquire(background, "outer")
			g, next := b.acquire(under(outer), "a"), b.call(background, "a", time.Hour)
			go func() {
				<-next.done
				time.Sleep(time.Second)
				_ = outer.Release()
			}()
			return g, next
		},
		"it was an inner lock": func(b *bubble) (*Grant, *call) {
			outer := b.acquire(background, "outer")
			g, next := b.acquire(under(outer), "a"), b.call(background, "a", time.Hour)
			require.NoError(b, outer.Release())
			return g, next
		},
		"there is an inner lock": func(b *bubble) (*Grant, *call) {
			g := b.acquire(background, "a")
			inner := b.acquire(under(g), "inner")
			next := b.call(background, "a", time.Hour)
			go func() {
				<-next.done
				time.Sleep(time.Second)
				_ = inner.Release()
			}()
			return g, next
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, turnsOfOurs, func(b *bubble) {
				g, next := refuse(b)
				require.NoError(b, g.Release())
				assert.NotEmpty(b, b.server.Sent("RELEASE_LOCK('a')"))
				require.NoError(b, next.granted(b).Release())
				time.Sleep(2 * time.Second)
			})
		})
	}
}

// A lock is not passed on if the server has closed its session: the next caller
// would run without a lock.
func TestHandOff_LooksAtTheSocket(t *testing.T) {
	inBubble(t, turnsOfOurs, func(b *bubble) {
		g := b.acquire(background, "a")
		next := b.call(background, "a", time.Hour)
		b.server.Kill(1) // no probe runs before the release
		require.ErrorIs(b, g.Release(), fault.ErrLost)
		successor := next.granted(b)
		assert.Equal(b, 2, b.server.Holder("a"))
		require.NoError(b, successor.Release())
	})
}

// A caller that leaves at the moment of the hand-off does not keep the lock.
func TestHandOff_ToOneWhoLeaves(t *testing.T) {
	inBubble(t, turnsOfOurs, func(b *bubble) {
		g := b.acquire(background, "a")
		next, after := b.call(background, "a", time.Hour), b.call(background, "a", time.Hour)
		next.cancel(errGone)
		require.NoError(b, g.Release())
		<-next.done
		if next.err == nil {
			require.NoError(b, next.grant.Release())
		}
		require.NoError(b, after.granted(b).Release())
		assert.Equal(b, -1, b.server.Holder("a"))
	})
}

// Without the option no lock is passed on.
func TestHandOff_Off(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.acquire(background, "a")
		next := b.call(background, "a", time.Hour)
		require.NoError(b, g.Release())
		assert.Len(b, b.server.Sent("RELEASE_LOCK"), 1)
		require.NoError(b, next.granted(b).Release())
	})
}
