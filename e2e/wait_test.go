package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A wait is never shorter than its timeout, and at most 100 ms longer than a
// plain timer in the same run. The waits of one run run at the same time, each
// on a connection of its own.
//
// No other test runs at the same time as the tests of this promise.
func TestPromise03_WaitIsExact(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		for _, params := range []string{"interpolateParams=false", "interpolateParams=true"} {
			t.Run(params, func(t *testing.T) {
				f, name := at.foreign(t), newName("exact")
				f.lock(name)
				var waits []*timedWait
				for _, ms := range []int{0, 1, 200, 499, 500, 900, 1200, 1501, 2000} {
					l := at.lockerOn(t, at.open(t, params))
					requireUsable(t, l)
					waits = append(waits, &timedWait{under: t.Context(), on: l, name: name, d: time.Duration(ms) * time.Millisecond})
				}
				requireExact(t, waits)
			})
		}
	})
}

// A wait under another lock, whose session must not be silent for long, is also
// exact.
func TestPromise03_NestedWaitIsExact(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		f, name := at.foreign(t), newName("exact")
		f.lock(name)
		var waits []*timedWait
		for _, ms := range []int{0, 200, 900, 1501} {
			l := at.locker(t)
			_, ctx := hold(t, t.Context(), l, newName("outer"))
			waits = append(waits, &timedWait{under: ctx, on: l, name: name, d: time.Duration(ms) * time.Millisecond})
		}
		requireExact(t, waits)
	})
}

// A wait is also exact if no session can wait, because another chain's lock is
// on the only session.
func TestPromise03_PolledWaitIsExact(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		f, name := at.foreign(t), newName("exact")
		f.lock(name)
		var waits []*timedWait
		for _, ms := range []int{0, 1, 200, 499, 1201} {
			l := at.locker(t, namedlock.WithMaxSessions(1))
			hold(t, t.Context(), l, newName("others"))
			waits = append(waits, &timedWait{under: t.Context(), on: l, name: name, d: time.Duration(ms) * time.Millisecond})
		}
		requireExact(t, waits)
	})
}

// Each wait in a queue has its own timeout, although one wait on the server
// serves them all.
func TestPromise03_WaitsInLineAreExact(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.locker(t), at.foreign(t), newName("exact")
		f.lock(name)
		var waits []*timedWait
		for i := range 40 {
			d := time.Duration(100+(i*37)%40*30) * time.Millisecond // in no order
			waits = append(waits, &timedWait{under: t.Context(), on: l, name: name, d: d})
		}
		requireExact(t, waits)
	})
}

// A timedWait is a wait for a name that is held.
type timedWait struct {
	under context.Context
	on    *locker
	name  string
	d     time.Duration

	err  error
	took time.Duration
}

// requireExact runs waits at the same time, and checks their durations.
func requireExact(t *testing.T, waits []*timedWait) {
	t.Helper()
	late := lateness.Of(func() {
		var running sync.WaitGroup
		for _, w := range waits {
			running.Go(func() {
				start := time.Now()
				w.err = w.on.WithLock(w.under, w.name, w.d, unexpected(t))
				w.took = time.Since(start)
			})
		}
		running.Wait()
	})
	for _, w := range waits {
		requireError(t, w.err, namedlock.ErrTimeout, w.name)
		require.GreaterOrEqual(t, w.took, w.d, "too early")
		require.LessOrEqual(t, w.took, w.d+100*time.Millisecond+late, "too late: %v", w.d)
	}
}

// A server's time limit for statements, however short, does not shorten a wait,
// and does not make a try fail.
//
// This test changes global variables, so no other test runs at the same time.
func TestPromise07_ServerTimeLimitDoesNotShortenAWait(t *testing.T) {
	limits := map[string]struct{ variable, limit string }{
		"mysql":   {"max_execution_time", "100"},
		"mariadb": {"max_statement_time", "0.1"},
	}
	everyWay(t, func(t *testing.T, at setup) {
		f, limit := at.foreign(t), limits[string(at.Kind())]
		set := func(value string) {
			_, err := f.conn.ExecContext(background, fmt.Sprintf("SET GLOBAL %s = %s", limit.variable, value))
			require.NoError(t, err)
		}
		set(limit.limit)
		defer set("0")
		l, name := at.locker(t), newName("limit")
		var inForce float64
		require.NoError(t, at.open(t).QueryRowContext(t.Context(), "SELECT @@"+limit.variable).Scan(&inForce))
		require.Positive(t, inForce, "the limit is in force for new sessions")
		f.lock(name)
		start := time.Now()
		requireError(t, l.WithLock(t.Context(), name, 700*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, name)
		assert.GreaterOrEqual(t, time.Since(start), 700*time.Millisecond)

		c := begin(t, t.Context(), l, name, namedlock.Forever)
		at.awaitWaiter(t, name)
		assert.False(t, endsWithin(c.done, 300*time.Millisecond), "the wait continues beyond the limit")
		f.unlock(name)
		c.holds(t)
		c.release(t)
	})
}

// A deadline ends a wait without breaking a connection, since it is sent to the
// server as a timeout.
func TestPromise05_DeadlineBreaksNoConnection(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t), at.foreign(t), newName("deadline")
		f.lock(name)
		requireUsable(t, l)
		// For so long the client waits for the answer of a busy server, before it
		// closes the connection.
		const grace = 50 * time.Millisecond
		const rounds, enough = 60, 6
		for i, unbroken := 0, 0; unbroken < enough; i++ {
			require.Less(t, i, rounds, "the server is always late: %d opened, %d closed", l.spy.Opened(), l.spy.Closed())
			if at.way == byNew {
				// The wait before may use the only session until its slice ends.
				eventually(t, func() bool { return len(at.waiters(t, name)) == 0 }, "the wait before has ended")
			}
			closed, wait := l.spy.Closed(), time.Duration(100+37*(i%6))*time.Millisecond
			var client time.Duration
			answers := at.latenessOf(t, func() {
				client = lateness.Of(func() {
					if i%2 == 0 {
						ctx, cancel := context.WithTimeout(t.Context(), wait)
						requireError(t, l.WithLock(ctx, name, time.Minute, unexpected(t)), context.DeadlineExceeded, name)
						cancel()
					} else {
						requireError(t, l.WithLock(t.Context(), name, wait, unexpected(t)), namedlock.ErrTimeout, name)
					}
				})
			})
			if l.spy.Closed() == closed {
				unbroken++
			} else {
				require.Greater(t, client+answers, grace, "a deadline has broken a connection")
			}
		}
		requireUsable(t, l)
	})
}

// Whenever a cancel happens, the name is free in the end. A grant that is too
// late is released, or its connection is discarded. The test adjusts the time
// between grant and cancel so that either may happen first.
func TestPromise05_NameFreeAfterAThousandRacedCancels(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.locker(t), at.foreign(t), newName("raced")
		granted, canceled := 0, 0
		cancelAfter := time.Duration(0)
		for range 1000 {
			f.lockSoon(name)
			ctx, cancel := context.WithCancel(t.Context())
			done := inBackground(func() error { return l.WithLock(ctx, name, namedlock.Forever, nothing) })
			time.Sleep(rand.N(1500 * time.Microsecond)) // any time between not started and waiting
			go func(after time.Duration) {
				time.Sleep(after)
				cancel()
			}(cancelAfter + rand.N(200*time.Microsecond))
			time.Sleep(-cancelAfter)
			f.unlock(name)
			switch err := receive(t, done, "the call ends"); err {
			case nil:
				granted++
				cancelAfter -= 30 * time.Microsecond
			default:
				canceled++
				cancelAfter += 30 * time.Microsecond
				requireError(t, err, context.Canceled, name)
			}
			cancel()
		}
		t.Logf("%d granted, %d cancelled", granted, canceled)
		assert.Positive(t, granted)
		assert.Positive(t, canceled)
		eventually(t, func() bool { return len(at.sessionsAt(t, name, f.id)) == 0 }, "no session has the lock or waits for it")
		// A GET_LOCK that was on its way when its caller left can reach the server
		// later, be granted, and be released.
		f.lockSoon(name)
		f.unlock(name)
	})
}

// The same, one case at a time: the server has granted the lock, and the caller
// leaves before the answer arrives.
func TestPromise05_GrantThatMeetsACancel(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprintf("waited=%v", wait), func(t *testing.T) {
				l, f, watch, name := at.spied(t), at.foreign(t), at.foreign(t), newName("meets")
				requireUsable(t, l)
				if wait {
					f.lock(name)
				}
				gate := spy.NewGate()
				defer gate.Open()
				var watching sync.Mutex
				l.spy.Always(locksql.GetLock, gate.HoldAnswer(func() bool { // the answer that grants the lock
					watching.Lock()
					defer watching.Unlock()
					holder, err := watch.ask("SELECT IS_USED_LOCK(?)", name)
					return err == nil && holder != 0 && holder != f.id
				}))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c := begin(t, ctx, l, name, namedlock.Forever)
				c.queued(t)
				if wait {
					at.awaitWaiter(t, name)
					f.unlock(name)
				}
				receive(t, gate.Reached(), "the server has answered")
				cancel()
				requireError(t, c.err(t), context.Canceled, name)

				// The next caller, also in this process, does not find a lock left behind,
				// not even under another name of the same queue.
				next := begin(t, t.Context(), l, strings.ToUpper(name), namedlock.Forever)
				next.queued(t)
				another := begin(t, t.Context(), l, name, namedlock.Forever)
				another.queued(t)
				gate.Open()
				next.holds(t)
				assert.NotZero(t, f.holder(strings.ToUpper(name)))
				next.release(t)
				another.holds(t)
				assert.NotZero(t, f.holder(name))
				another.release(t)
				for _, name := range []string{name, strings.ToUpper(name)} {
					f.lockSoon(name)
					f.unlock(name)
				}
				assert.Empty(t, at.sessionsAt(t, name))
			})
		}
	})
}

// A wait belongs to the name. When the first caller in the queue leaves, the
// second caller keeps the place in the server's queue, before a foreign session
// that came later.
func TestPromise05_NextInLineKeepsThePlace(t *testing.T) {
	t.Parallel()
	leave := map[string]func(t *testing.T) (context.Context, time.Duration, func()){
		"cancel": func(t *testing.T) (context.Context, time.Duration, func()) {
			ctx, cancel := context.WithCancel(t.Context())
			return ctx, namedlock.Forever, cancel
		},
		"timeout": func(t *testing.T) (context.Context, time.Duration, func()) {
			return t.Context(), time.Second, func() {}
		},
		"deadline": func(t *testing.T) (context.Context, time.Duration, func()) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx, namedlock.Forever, func() {}
		},
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, leaves := range leave {
			t.Run(what, func(t *testing.T) {
				l, before, behind, name := setup{srv, byOpen}.locker(t), srv.foreign(t), srv.foreign(t), newName("place")
				waits := func(f *foreign) <-chan error {
					return inBackground(func() error {
						_, err := f.ask(locksql.SelectGetLock, name, 60)
						return err
					})
				}
				// Both callers are in the process's queue before the wait on the server
				// begins.
				holder, _ := hold(t, t.Context(), l, name)
				gotBefore := waits(before)
				srv.awaitWaiter(t, name)
				ctx, timeout, leave := leaves(t)
				first := begin(t, ctx, l, name, timeout)
				first.queued(t)
				second := begin(t, t.Context(), l, name, namedlock.Forever)
				second.queued(t)
				holder.release(t)
				require.NoError(t, receive(t, gotBefore, "the turn of the foreign session before"))
				place := srv.awaitWaiter(t, name)
				gotBehind := waits(behind)
				eventually(t, func() bool { return len(srv.waiters(t, name)) == 2 }, "a foreign session waits behind")

				leave()
				require.Error(t, first.err(t))
				assert.ElementsMatch(t, []int64{place, behind.id}, srv.waiters(t, name), "the wait continues")
				before.unlock(name)
				second.holds(t)
				assert.Equal(t, place, before.holder(name))
				assert.Equal(t, []int64{behind.id}, srv.waiters(t, name))
				second.release(t)
				require.NoError(t, receive(t, gotBehind, "the turn of the foreign session behind"))
				assert.Equal(t, behind.id, before.holder(name))
			})
		}
	})
}
