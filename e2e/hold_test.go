package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A context may outlive its lock. The locks of other chains that are then on
// the session do not count as its own, and its waits do not delay their
// release.
func TestPromise10_ContextKeptHoldsUpNobody(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		f, taken := at.foreign(t), newName("taken")
		f.lock(taken)
		at.prompt(t, 200*time.Millisecond, "the release of another chain's lock", func() time.Duration {
			l := at.locker(t, namedlock.WithMaxSessions(2))
			before, ctx := hold(t, t.Context(), l, newName("before"))
			before.release(t)
			other, _ := hold(t, t.Context(), l, newName("other")) // on the same session
			kept, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			waiter := begin(t, kept, l, taken, namedlock.Forever)
			waiter.queued(t)
			if at.way == byOpen {
				at.awaitWaiter(t, taken)
			}
			start := time.Now()
			other.release(t)
			took := time.Since(start)
			waiter.waits(t)
			cancel()
			require.ErrorIs(t, waiter.err(t), context.Canceled)
			return took
		})
	})
}

// The Locker never acquires a held lock again on a new connection.
func TestPromise13_NeverReconnectsUnderALock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t), at.foreign(t), newName("once")
		requireUsable(t, l)
		l.spy.Reset()
		c, ctx := hold(t, t.Context(), l, name)
		f.kill(f.holder(name))
		f.lockSoon(name)
		_ = l.WithLock(ctx, newName("inner"), 0, nothing) // may detect the loss
		c.finish(nil)
		requireError(t, c.err(t), namedlock.ErrLost, name)
		assert.Equal(t, f.id, f.holder(name))

		taken := 0
		for _, st := range l.spy.Statements() {
			if len(st.Args) > 0 && st.Args[0] == name && st.Text == locksql.SelectGetLock {
				taken++
			}
		}
		assert.Equal(t, 1, taken, "GET_LOCK ran again")
	})
}

// Names that differ in case share a queue, whether the server treats them as
// one lock or as two. No caller gets the lock of another name.
func TestPromise09_MixedCaseInOneLine(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		oneLock := at.Kind() == servers.MySQL
		l, f, watch, lower := at.locker(t), at.foreign(t), at.foreign(t), newName("mixed")
		upper := strings.ToUpper(lower)
		f.lock(lower)
		ctx, cancel := context.WithCancel(t.Context())
		first := begin(t, ctx, l, lower, namedlock.Forever)
		at.awaitWaiter(t, lower)
		second := begin(t, t.Context(), l, upper, namedlock.Forever)
		second.queued(t)
		third := begin(t, t.Context(), l, lower, namedlock.Forever)
		third.queued(t)
		cancel()
		requireError(t, first.err(t), context.Canceled, lower)
		if oneLock {
			f.unlock(lower)
		}
		second.holds(t)
		assert.NotContains(t, []int64{0, f.id}, watch.holder(upper))
		if !oneLock {
			assert.Equal(t, f.id, watch.holder(lower))
			f.unlock(lower)
		}
		third.waits(t)
		second.release(t)
		third.holds(t)
		assert.NotContains(t, []int64{0, f.id}, watch.holder(lower))
		third.release(t)
		f.lockSoon(lower) // the server may still run the first call's wait
		f.unlock(lower)
		f.free(upper)
	})
}

// Many locks that are held at the same time share few sessions, and no lock
// blocks another.
func TestPromise09_ManyNamesAtOnce(t *testing.T) {
	t.Parallel()
	const count = 300
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.spied(t, namedlock.WithMaxSessions(4)), at.foreign(t)
		l.db.SetMaxIdleConns(4)
		var names []string
		var calls []*call
		for range count {
			name := newName("many")
			names, calls = append(names, name), append(calls, begin(t, t.Context(), l, name, 0))
		}
		for i, c := range calls {
			c.holds(t)
			assert.NotZero(t, f.holder(names[i]))
		}
		for _, c := range calls {
			c.finish(nil)
		}
		for _, c := range calls {
			require.NoError(t, c.err(t))
		}
		f.free(names...)
		assert.LessOrEqual(t, l.spy.Most(), 4)
		assert.Zero(t, l.spy.Closed())
	})
}
