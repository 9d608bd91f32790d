package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A lock that only orders calls is not listed and not passed on, and the server
// is not asked for its holder.
func TestUse_ForOrder(t *testing.T) {
	inBubble(t, turnsOfOurs, func(b *bubble) {
		terms := func(use Use) Terms { return Terms{Timeout: 2 * time.Second, Left: 2 * time.Second, Use: use} }
		g, err := b.queue.Acquire(background, "a", terms(ForOrder), nil)
		require.NoError(b, err)
		assert.Empty(b, b.queue.HeldNames())
		next := b.call(background, "a", time.Hour)
		release(b, g)
		assert.Len(b, b.server.Sent("RELEASE_LOCK"), 1)
		assert.Equal(b, []string{"a"}, b.queue.HeldNames())
		release(b, next.granted(b))

		b.server.Lock("a")
		for _, use := range []Use{ForLock, ForOrder} {
			_, err := b.queue.Acquire(background, "a", terms(use), nil)
			require.ErrorIs(b, err, fault.ErrTimeout)
			assert.Equal(b, use == ForLock, err.(*Late).Holder != nil)
		}
		b.server.Unlock("a")

		g, err = b.queue.Acquire(background, "a", terms(ForOrder), nil)
		require.NoError(b, err)
		other := b.acquire(background, "b")
		assert.Equal(b, []string{"b"}, b.queue.GiveUp(errGone))
		assert.ErrorIs(b, g.Release(), fault.ErrLost)
		assert.ErrorIs(b, other.Release(), fault.ErrLost)
	})
}

// A call that is a part of another one is counted by its caller.
func TestTerms_Part(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.acquire(background, "a")
		ended := make(chan error)
		for _, part := range []bool{true, false} {
			go func() {
				_, err := b.queue.Acquire(background, "a", Terms{Timeout: time.Second, Left: time.Second, Part: part}, nil)
				ended <- err
			}()
		}
		synctest.Wait()
		assert.Equal(b, 1, b.queue.Waiting())
		require.ErrorIs(b, <-ended, fault.ErrTimeout)
		require.ErrorIs(b, <-ended, fault.ErrTimeout)
		assert.Zero(b, b.queue.Waiting())
		release(b, g)
	})
}

// Held names the first of the locks that the chain holds, and Chain returns all
// of them.
func TestQueue_HeldAndChain(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		outer := b.acquire(background, "outer")
		ctx := under(outer)
		inner := b.acquire(ctx, "inner")
		ctx = inner.Context(ctx, same)
		assert.Equal(b, []*Grant{inner, outer}, b.queue.Chain(ctx))
		assert.NoError(b, b.queue.Held(ctx, "free"))
		assert.NoError(b, b.queue.Held(background, "outer", "inner"))
		err := b.queue.Held(ctx, "free", "OUTER", "inner")
		require.ErrorIs(b, err, fault.ErrReentrant)
		assert.ErrorContains(b, err, `as "outer"`)
		release(b, inner)
		assert.Equal(b, []*Grant{outer}, b.queue.Chain(ctx))
		release(b, outer)
		assert.Empty(b, b.queue.Chain(ctx))
	})
}
