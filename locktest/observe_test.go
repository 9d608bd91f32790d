package locktest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// Stats count what happens to a Locker of this package, and hooks are told of
// it. What the test itself does is not among that.
func TestStatsAndHooks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []string
		told := func(what string) func(context.Context, namedlock.Event) {
			return func(_ context.Context, e namedlock.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, what+" "+e.Name)
			}
		}
		entered := func(what string) func(context.Context, namedlock.Event) context.Context {
			return func(ctx context.Context, e namedlock.Event) context.Context {
				told(what)(ctx, e)
				return ctx
			}
		}
		l := locktest.New(namedlock.WithHooks(namedlock.Hooks{
			AcquireStarted: entered("started"), Acquired: entered("acquired"), Failed: told("failed"), Released: told("released"),
		}))
		p := peer(t, l, namedlock.WithHooks(namedlock.Hooks{}))
		release := l.HoldElsewhere("a")
		time.AfterFunc(3*time.Second, release)
		require.NoError(t, l.WithLock(t.Context(), "a", time.Minute, func(ctx context.Context) error {
			time.Sleep(time.Second)
			locktest.AssertHeld(t, ctx, l, "a")
			locktest.AssertHeld(&complaints{TB: t}, t.Context(), l, "a")
			locktest.AssertHeld(&complaints{TB: t}, ctx, l, "b")
			return nil
		}))
		require.NoError(t, l.WithLocks(t.Context(), []string{"c", "b"}, 0, func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		}))
		require.ErrorIs(t, l.WithLock(t.Context(), "d", 0, func(context.Context) error {
			l.Lose("d")
			time.Sleep(time.Second)
			return nil
		}), namedlock.ErrLost)

		stats := l.Stats()
		assert.InDelta(t, 3*time.Second, stats.WaitTime, float64(time.Millisecond))
		assert.InDelta(t, 4*time.Second, stats.HoldTime, float64(time.Millisecond))
		stats.WaitTime, stats.HoldTime = 0, 0
		assert.Equal(t, namedlock.Stats{MaxSessions: 16, Sessions: stats.Sessions, SessionsOpened: stats.SessionsOpened, SessionsDiscarded: 1, Acquired: 4, Lost: 1}, stats)
		assert.Equal(t, namedlock.Stats{MaxSessions: 16}, p.Stats())
		require.NoError(t, l.Close())
		assert.Equal(t, []string{
			"started a", "acquired a", "released a",
			"started c", "acquired c", "released c", // of both
			"started d", "acquired d", "released d",
		}, events)
	})
}
