package e2e

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var errOfFn = errors.New("the error of fn")

// RELEASE_LOCK runs once, on the session that acquired the lock, however fn
// ends.
func TestPromise15_ReleasedHoweverFnEnds(t *testing.T) {
	t.Parallel()
	type outcome struct {
		err       error
		recovered any
		stack     string
		returned  bool
	}
	ends := map[string]struct {
		fn   func(ctx context.Context, cancel func()) error
		want outcome
	}{
		"return":            {func(context.Context, func()) error { return nil }, outcome{returned: true}},
		"error":             {func(context.Context, func()) error { return errOfFn }, outcome{returned: true, err: errOfFn}},
		"panic":             {func(context.Context, func()) error { panicHere("a value"); return nil }, outcome{recovered: "a value"}},
		"panic by an error": {func(context.Context, func()) error { panicHere(errOfFn); return nil }, outcome{recovered: errOfFn}},
		"Goexit":            {func(context.Context, func()) error { runtime.Goexit(); return nil }, outcome{}},
		"cancelled": {func(ctx context.Context, cancel func()) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}, outcome{returned: true, err: context.Canceled}},
		"cancelled and panic": {func(ctx context.Context, cancel func()) error {
			cancel()
			<-ctx.Done()
			panicHere(errOfFn)
			return nil
		}, outcome{recovered: errOfFn}},
		"expired": {func(ctx context.Context, _ func()) error {
			<-ctx.Done()
			return ctx.Err()
		}, outcome{returned: true, err: context.DeadlineExceeded}},
	}
	expires := lateness.Stretch(500 * time.Millisecond)
	everyWay(t, func(t *testing.T, at setup) {
		for what, end := range ends {
			t.Run(what, func(t *testing.T) {
				l, f, name := at.spied(t), at.foreign(t), newName("ends")
				for range 3 { // the third time as a prepared statement
					l.spy.Reset()
					ctx, cancel := context.WithCancel(t.Context())
					if what == "expired" {
						ctx, cancel = context.WithTimeout(t.Context(), expires) // in fn
					}
					var got outcome
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() {
							if got.recovered = recover(); got.recovered != nil {
								got.stack = string(debug.Stack())
							}
						}()
						got.err = l.WithLock(ctx, name, time.Minute, func(ctx context.Context) error { return end.fn(ctx, cancel) })
						got.returned = true
					}()
					receive(t, done, "the goroutine ends")
					f.free(name)
					cancel()
					assert.Equal(t, end.want.returned, got.returned)
					assert.True(t, end.want.err == got.err, "fn's error as it is: %v", got.err)
					assert.True(t, end.want.recovered == got.recovered, "the panic's own value: %v", got.recovered)
					if got.recovered != nil {
						assert.Contains(t, got.stack, "panicHere", "the panic's own stack")
					}

					var acquired, released []int
					for _, st := range l.spy.Statements() {
						switch {
						case st.How == spy.Prepare || st.How == spy.Close:
						case strings.Contains(st.Text, locksql.GetLock):
							acquired = append(acquired, st.Conn)
						case strings.Contains(st.Text, locksql.ReleaseLock):
							released = append(released, st.Conn)
						}
					}
					require.Len(t, released, 1, "RELEASE_LOCK runs once")
					assert.Equal(t, acquired, released, "on the session that acquired")
				}
				assert.Zero(t, l.spy.Closed(), "a clean release leaves the connection alone")
			})
		}
	})
}

//go:noinline
func panicHere(value any) { panic(value) }

// A panic ends all locks that it passes. No error of a release replaces the
// panic.
func TestPromise15_PanicThroughNestedLocks(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, outer, inner := at.spied(t), at.foreign(t), newName("outer"), newName("inner")
		panics := func() (value any) {
			defer func() { value = recover() }()
			_ = l.WithLock(t.Context(), outer, 0, func(ctx context.Context) error {
				return l.WithLock(ctx, inner, 0, func(context.Context) error {
					panic(errOfFn)
				})
			})
			return nil
		}
		assert.Equal(t, errOfFn, panics())
		f.free(inner, outer)

		l.spy.Once(locksql.SelectReleaseLock, spy.FailAfter(errors.New("injected")))
		assert.Equal(t, errOfFn, panics())
		assert.Equal(t, 1, l.spy.Closed())
		f.lockSoon(inner)
		f.lockSoon(outer)
	})
}

// With New, transactions on the lock's own connection do not affect the lock. A
// transaction that is left open does not delay a release.
func TestPromise15_TransactionOnTheConnection(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byNew}.locker(t, namedlock.WithReleaseTimeout(time.Second)), srv.foreign(t), newName("tx")
		for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
			require.NoError(t, l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
				tx, err := l.conn.BeginTx(ctx, nil)
				require.NoError(t, err)
				var one int
				require.NoError(t, tx.QueryRowContext(ctx, "SELECT 1").Scan(&one))
				require.NoError(t, end(tx))
				assert.NotZero(t, f.holder(name))
				return nil
			}))
			f.free(name)
		}

		var open *sql.Tx
		done := inBackground(func() error {
			return l.WithLock(t.Context(), name, 0, func(context.Context) (err error) {
				open, err = l.conn.BeginTx(background, nil)
				f.kill(f.holder(name))
				f.lockSoon(name)
				return err
			})
		})
		requireError(t, receive(t, done, "the release"), namedlock.ErrLost, name)
		assert.Equal(t, f.id, f.holder(name))
		_ = open.Rollback()
	})
}

// A release has a context of its own, with a time limit.
func TestPromise15_ReleaseIsBounded(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t, namedlock.WithReleaseTimeout(200*time.Millisecond)), at.foreign(t), newName("silent")
		var endedBefore error
		l.spy.Once(locksql.ReleaseLock, func(ctx context.Context, _ func() error) error {
			endedBefore = ctx.Err()
			<-ctx.Done() // the server is silent
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		err := receive(t, inBackground(func() error {
			return l.WithLock(ctx, name, 0, func(context.Context) error {
				cancel()
				return nil
			})
		}), "the release ends")
		requireError(t, err, namedlock.ErrLost, name)
		assert.NoError(t, endedBefore, "the release ran on a context that had ended")
		assert.Equal(t, 1, l.spy.Closed())
		f.lockSoon(name)
	})
}

// Unless RELEASE_LOCK returned 1, the connection is discarded. The name is
// free, and the connection is not returned to the pool.
func TestPromise16_FailedReleaseDiscardsTheConnection(t *testing.T) {
	t.Parallel()
	injected := errors.New("injected")
	refused := &mysql.MySQLError{Number: 1105, Message: "refused"}
	failures := map[string]struct {
		fault spy.Fault
		err   error // is inside; nil if database/sql does not return it
	}{
		"before it is sent":    {spy.FailBefore(injected), injected},
		"after it was sent":    {spy.FailAfter(injected), injected},
		"bad connection":       {spy.FailBefore(driver.ErrBadConn), nil},
		"bad connection after": {spy.FailAfter(driver.ErrBadConn), nil},
		"broken":               {spy.FailBefore(mysql.ErrInvalidConn), mysql.ErrInvalidConn},
		"an error's answer":    {spy.FailBefore(refused), refused},
		"a context's error":    {spy.FailBefore(context.Canceled), nil},
	}
	everyWay(t, func(t *testing.T, at setup) {
		for what, failure := range failures {
			for cycles := range 3 { // as text, at the first prepare, and prepared
				t.Run(fmt.Sprint(what, " after ", cycles), func(t *testing.T) {
					l, f, name := at.spied(t), at.foreign(t), newName("unsure")
					for range cycles {
						require.NoError(t, l.WithLock(t.Context(), name, 0, nothing))
					}
					l.spy.Once(locksql.SelectReleaseLock, failure.fault)
					err := l.WithLock(t.Context(), name, 0, func(context.Context) error { return errOfFn })
					require.ErrorIs(t, err, errOfFn)
					requireError(t, err, namedlock.ErrLost, name)
					if failure.err != nil {
						require.ErrorIs(t, err, failure.err)
					}
					assert.Equal(t, 1, l.spy.Closed(), "the connection is closed")
					f.lockSoon(name)
					f.unlock(name)
					if at.way == byNew {
						require.Error(t, l.conn.PingContext(t.Context()))
						requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnavailable, name)
						return
					}
					assert.Zero(t, l.db.Stats().OpenConnections)
					require.NoError(t, l.WithLock(t.Context(), name, 0, nothing))
					assert.Equal(t, 2, l.spy.Opened())
				})
			}
		}
	})
}

// RELEASE_LOCK returns 0 if another session holds the lock, and NULL if no
// session holds it. In both cases other code used the Locker's connection.
func TestPromise16_LockReleasedByOthers(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, taken := range []bool{false, true} {
			t.Run(fmt.Sprintf("taken=%v", taken), func(t *testing.T) {
				l, f, name := setup{srv, byNew}.locker(t), srv.foreign(t), newName("stolen")
				err := l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
					_, err := l.conn.ExecContext(ctx, locksql.SelectReleaseLock, name)
					require.NoError(t, err)
					if taken {
						f.lock(name)
					}
					return nil
				})
				requireError(t, err, namedlock.ErrLost, name)
				require.Error(t, l.conn.PingContext(t.Context()), "the connection is gone")
				if taken {
					assert.Equal(t, f.id, f.holder(name))
				} else {
					f.free(name)
				}
			})
		}
	})
}

// A session that is discarded loses all its locks, and their contexts end with
// ErrLost.
func TestPromise17_LossOfASharedSession(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, outer, other, inner := setup{srv, byNew}.spied(t), srv.foreign(t), newName("outer"), newName("other"), newName("inner")
		first, ctx := hold(t, t.Context(), l, outer)
		second, otherCtx := hold(t, t.Context(), l, other)
		l.spy.Once(locksql.SelectReleaseLock, spy.FailBefore(errors.New("injected")))
		requireError(t, l.WithLock(ctx, inner, 0, nothing), namedlock.ErrLost, inner)
		for name, ctx := range map[string]context.Context{outer: ctx, other: otherCtx} {
			receive(t, ctx.Done(), "the context of %q ends", name)
			requireError(t, context.Cause(ctx), namedlock.ErrLost, name)
		}
		first.finish(nil)
		requireError(t, first.err(t), namedlock.ErrLost, outer)
		second.finish(errOfFn)
		err := second.err(t)
		require.ErrorIs(t, err, errOfFn)
		requireError(t, err, namedlock.ErrLost, other)
		for _, name := range []string{outer, other, inner} {
			f.lockSoon(name)
		}
	})
}

// A KILL of a session that waits under a lock takes the lock. The wait ends
// with an error that contains the loss.
func TestPromise17_LossUnderANestedWait(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, outer, inner := at.locker(t), at.foreign(t), at.foreign(t), newName("outer"), newName("inner")
		f.lock(inner)
		holder, ctx := hold(t, t.Context(), l, outer)
		nested := begin(t, ctx, l, inner, namedlock.Forever)
		session := at.awaitWaiter(t, inner)
		assert.Equal(t, session, killer.holder(outer), "it waits on the chain's session, where the server sees deadlocks")
		killer.kill(session)
		err := nested.err(t)
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.ErrorIs(t, err, context.Canceled)
		holder.finish(nil)
		requireError(t, holder.err(t), namedlock.ErrLost, outer)
		killer.lockSoon(outer)
		f.unlock(inner)
		f.lockSoon(inner)
	})
}

// The end of a wait under a lock, for whatever reason, does not affect the
// outer lock. Another session observes that lock on the server all the time.
func TestPromise20_OuterLockSurvivesNestedWaits(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, watch := at.locker(t), at.foreign(t), at.foreign(t)
		outer, inner := newName("outer"), newName("inner")
		f.lock(inner)
		holder, ctx := hold(t, t.Context(), l, outer)
		session := f.holder(outer)
		type sight struct {
			sessions map[int64]int
			err      error
		}
		stop, seen := make(chan struct{}), make(chan sight, 1)
		go func() {
			s := sight{sessions: map[int64]int{}}
			for s.err == nil {
				select {
				case <-stop:
					seen <- s
					return
				default:
				}
				var id int64
				id, s.err = locksql.Holder(background, watch.conn, outer)
				s.sessions[id]++
				time.Sleep(time.Millisecond) // leaves the processors to the rest
			}
			seen <- s
		}()

		for i := range 10 {
			canceled, cancel := context.WithCancel(ctx)
			c := begin(t, canceled, l, inner, namedlock.Forever)
			c.queued(t)
			if i%2 == 0 {
				at.awaitWaiter(t, inner)
			}
			cancel()
			requireError(t, c.err(t), context.Canceled, inner)
		}
		for i := range 3 {
			if at.way == byNew {
				// The wait before, which its caller left, uses the only session until its
				// slice ends. A call whose time is over before that is ErrNoSession.
				eventually(t, func() bool { return len(at.waiters(t, inner)) == 0 }, "the wait before has ended")
			}
			requireError(t, l.WithLock(ctx, inner, paced(time.Duration(i)*70*time.Millisecond), unexpected(t)), namedlock.ErrTimeout, inner)
			expired, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
			requireError(t, l.WithLock(expired, inner, time.Minute, unexpected(t)), context.DeadlineExceeded, inner)
			cancel()
		}
		interrupted := begin(t, ctx, l, inner, time.Minute)
		eventually(t, func() bool {
			for _, waiter := range at.waiters(t, inner) {
				f.killQuery(waiter)
			}
			return len(interrupted.done) > 0
		}, "the killed wait ends")
		requireError(t, interrupted.err(t), namedlock.ErrInterrupted, inner)
		waits := begin(t, ctx, l, inner, namedlock.Forever)
		waits.queued(t)
		closed := inBackground(l.Close)
		requireError(t, waits.err(t), namedlock.ErrClosed, inner)

		// If a wait that was ended still gets the lock, the lock is released.
		f.unlock(inner)
		f.lockSoon(inner)
		f.unlock(inner)

		close(stop)
		s := receive(t, seen, "the watch ends")
		require.NoError(t, s.err)
		assert.Len(t, s.sessions, 1)
		assert.Positive(t, s.sessions[session], "held by its session all the time")
		require.NoError(t, ctx.Err())
		holder.release(t)
		require.NoError(t, receive(t, closed, "Close"))
		f.free(outer, inner)
	})
}

// The same holds for a wait of another chain on the same session. New has only
// one session.
func TestPromise20_OtherChainsLockSurvives(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t, namedlock.WithMaxSessions(1)), at.foreign(t)
		held, wanted := newName("held"), newName("wanted")
		f.lock(wanted)
		holder, held1 := hold(t, t.Context(), l, held)
		session := f.holder(held)
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			c := begin(t, ctx, l, wanted, namedlock.Forever)
			c.queued(t)
			cancel()
			requireError(t, c.err(t), context.Canceled, wanted)
			requireError(t, l.WithLock(t.Context(), wanted, 60*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, wanted)
			require.Equal(t, session, f.holder(held))
		}
		require.NoError(t, held1.Err())
		holder.release(t)
		f.unlock(wanted)
		f.lockSoon(wanted)
	})
}

// No statement on a session that holds a lock ends with a caller's context.
func TestPromise20_NoCallersContextReachesAHoldingSession(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, outer, inner := at.spied(t), at.foreign(t), newName("outer"), newName("inner")
		f.lock(inner)
		requireUsable(t, l)
		requireUsable(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		holder, under := hold(t, ctx, l, outer)
		conn := l.spy.Statements()[len(l.spy.Statements())-1].Conn

		var mu sync.Mutex
		var ended []string
		l.spy.Always("_LOCK(", func(statement context.Context, send func() error) error {
			err := send()
			if statement.Err() != nil {
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, fmt.Sprint(statement.Err()))
			}
			return err
		})
		c := begin(t, under, l, inner, namedlock.Forever)
		at.awaitWaiter(t, inner)
		cancel()
		requireError(t, c.err(t), context.Canceled, inner)
		holder.release(t)
		f.unlock(inner)
		f.lockSoon(inner)
		mu.Lock()
		defer mu.Unlock()
		assert.Empty(t, ended, "contexts that ended under a statement")
		assert.Zero(t, l.spy.Closed())
		last := l.spy.Statements()[len(l.spy.Statements())-1]
		assert.Equal(t, conn, last.Conn)
	})
}
