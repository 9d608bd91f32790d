package e2e

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Hand-off is an option (WithHandOff): callers of one process pass a lock on
// without the server.

// Without the option every section has a GET_LOCK and a RELEASE_LOCK of its
// own. If a driver hides the socket, as the spy does, hand-off is off, since
// the Locker could not prove that a section holds the lock.
func TestHandOff_OnlyWhereAskedForAndProvable(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for what, opts := range map[string][]namedlock.Option{
			"not asked for": nil,
			"not provable":  {namedlock.WithHandOff(time.Minute)},
		} {
			t.Run(what, func(t *testing.T) {
				l, name := at.spied(t, opts...), newName("cycle")
				first, _ := hold(t, t.Context(), l, name)
				second := begin(t, t.Context(), l, name, patience)
				second.queued(t)
				first.release(t)
				second.holds(t)
				second.release(t)
				assert.Equal(t, 2, l.spy.Count(locksql.SelectReleaseLock))
			})
		}
	})
}

// With hand-off the session keeps the lock while callers pass it on, and no
// statement is sent.
func TestHandOff_StaysOnItsSession(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.locker(t, namedlock.WithHandOff(time.Minute)), newName("round")
		f := at.foreign(t)
		const callers = 20
		calls := make([]*call, callers)
		for i := range calls {
			calls[i] = begin(t, t.Context(), l, name, patience)
			calls[i].queued(t)
		}
		var session int64
		for i, c := range calls { // in the order of the calls
			ctx := c.holds(t)
			if i == 0 {
				session = f.holder(name)
			}
			assert.Equal(t, session, f.holder(name))
			assert.NoError(t, ctx.Err())
			for _, later := range calls[i+1:] {
				later.waits(t)
			}
			c.release(t)
			assert.Equal(t, context.Canceled, context.Cause(ctx), "a hand-off is no loss")
		}
		f.free(name)
	})
}

// A foreign session that waits during the run gets the lock when the run is
// over, before any caller of the process that came later.
func TestHandOff_EndsInTime(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		const round = 50 * time.Millisecond
		l, name := at.locker(t, namedlock.WithHandOff(round)), newName("ends")
		ctx, stop := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		var sections atomic.Int64
		for range 8 {
			callers.Go(func() {
				for ctx.Err() == nil {
					err := l.WithLock(ctx, name, namedlock.Forever, func(context.Context) error {
						sections.Add(1)
						time.Sleep(100 * time.Microsecond) // leaves processor time to other goroutines
						return nil
					})
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		eventually(t, func() bool { return sections.Load() > 100 }, "the lock goes round")
		f := at.foreign(t)
		for range 10 {
			// With New a foreign session may overtake in any case.
			if at.way == byOpen {
				at.prompt(t, 2*round, "a foreign waiter is served", func() time.Duration {
					start := time.Now()
					f.lockSoon(name)
					took := time.Since(start)
					f.unlock(name)
					return took
				})
				continue
			}
			f.lockSoon(name)
			f.unlock(name)
		}
		stop()
		callers.Wait()
		f.lockSoon(name)
	})
}

// Names that differ in case are two locks on MariaDB, so the lock is not passed
// between them. The lock of a chain that holds other locks is not passed on,
// since its session must take part in the server's deadlock detection.
func TestHandOff_OnlyBetweenEqualsWithoutOtherLocks(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.locker(t, namedlock.WithHandOff(time.Minute)), newName("case")
		f := at.foreign(t)
		lower, _ := hold(t, t.Context(), l, name+"x")
		upper := begin(t, t.Context(), l, name+"X", patience)
		upper.queued(t)
		lower.release(t)
		upper.holds(t)
		assert.NotZero(t, f.holder(name+"X"))
		if at.Kind() == servers.MariaDB {
			assert.Zero(t, f.holder(name+"x"), "x was passed on to a caller for X")
		}
		upper.release(t)
		f.free(name+"x", name+"X")

		_, outer := hold(t, t.Context(), l, name+"outer")
		nested, _ := hold(t, outer, l, name)
		session := f.holder(name)
		stranger := begin(t, t.Context(), l, name, patience)
		stranger.queued(t)
		nested.release(t)
		stranger.holds(t)
		if at.way == byOpen {
			assert.NotEqual(t, session, f.holder(name), "a stranger's lock on the session of a chain")
		}
		stranger.release(t)
	})
}

// A session that is killed during a run loses the section on it, and no other
// section. No two sections that were both reported as held overlap.
func TestHandOff_KilledInTheMiddle(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, name := at.locker(t, namedlock.WithHandOff(20*time.Millisecond)), newName("killed")
		f := at.foreign(t)
		ctx, stop := context.WithCancel(t.Context())
		type section struct{ begun, ended time.Time }
		var mu sync.Mutex
		var clean []section
		var lost int
		var inside, kills atomic.Int32
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for ctx.Err() == nil {
					var s section
					err := l.WithLock(ctx, name, namedlock.Forever, func(context.Context) error {
						s.begun = time.Now()
						if inside.Add(1) > 1 {
							t.Error("two sections of one process at once")
						}
						time.Sleep(100 * time.Microsecond) // leaves processor time to other goroutines
						inside.Add(-1)
						s.ended = time.Now()
						return nil
					})
					mu.Lock()
					switch {
					case err == nil:
						clean = append(clean, s)
					case ctx.Err() == nil:
						assert.ErrorIs(t, err, namedlock.ErrLost)
						lost++
					}
					mu.Unlock()
				}
			})
		}
		for range 50 {
			if id := f.holder(name); id != 0 {
				f.kill(id)
				kills.Add(1)
			}
			// The pace of the kills. The test does not wait for an event.
			time.Sleep(5 * time.Millisecond)
		}
		stop()
		callers.Wait()
		require.NotZero(t, kills.Load())
		assert.LessOrEqual(t, lost, int(kills.Load()), "a kill takes the section on its session")
		slices.SortFunc(clean, func(a, b section) int { return a.begun.Compare(b.begun) })
		for i := 1; i < len(clean); i++ {
			if clean[i].begun.Before(clean[i-1].ended) {
				t.Fatal("two clean sections overlap")
			}
		}
		t.Logf("%d sections, %d kills, %d lost", len(clean), kills.Load(), lost)
		f.lockSoon(name)
	})
}
