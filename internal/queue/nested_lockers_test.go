package queue

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A context can belong to call chains of several Lockers. Each Locker finds its
// own locks in the context. That includes the term of another Locker that was
// given this context.
func TestChain_LocksOfSeveralLockers(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		other := New(pool.NewPool(b.db, pool.Config{MaxSessions: 4, Config: server.Config{
			ReleaseTimeout: 5 * time.Second,
			KeepAlive:      5 * time.Second,
			Logger:         slog.New(slog.DiscardHandler),
		}}), 0)
		term := b.acquire(background, "term")
		outer, err := other.Acquire(background, "outer", For(0), nil)
		require.NoError(b, err)
		underOuter := outer.Context(background, same)

		within, err := term.Within(underOuter)
		require.NoError(b, err)
		nested := b.acquire(within, "nested")
		for what, ctx := range map[string]context.Context{"in the term": within, "under its lock": nested.Context(within, same)} {
			assert.ErrorIs(b, other.Held(ctx, "outer"), fault.ErrReentrant, what)
			assert.ErrorIs(b, b.queue.Held(ctx, "term"), fault.ErrReentrant, what)
			assert.NoError(b, b.queue.Held(ctx, "outer"), what)
		}
		require.NoError(b, nested.Release())
		require.NoError(b, outer.Release())
		assert.NoError(b, other.Held(within, "outer"))
		require.NoError(b, term.Release())
		other.Close()
	})
}
