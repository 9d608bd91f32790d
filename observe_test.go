package namedlock_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// A record is the list of the events that hooks got.
type record struct {
	mu     sync.Mutex
	kinds  []string
	events []namedlock.Event
}

func (r *record) tell(kind string, e namedlock.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds = append(r.kinds, kind)
	r.events = append(r.events, e)
}

func (r *record) enter(kind string) func(context.Context, namedlock.Event) context.Context {
	return func(ctx context.Context, e namedlock.Event) context.Context {
		r.tell(kind, e)
		said, _ := ctx.Value(saidKey{}).(string)
		return context.WithValue(ctx, saidKey{}, said+kind+" ")
	}
}

func (r *record) leave(kind string) func(context.Context, namedlock.Event) {
	return func(ctx context.Context, e namedlock.Event) { r.tell(kind, e) }
}

func (r *record) hooks(who string) namedlock.Hooks {
	return namedlock.Hooks{
		AcquireStarted: r.enter(who + "started"),
		Acquired:       r.enter(who + "acquired"),
		Failed:         r.leave(who + "failed"),
		Released:       r.leave(who + "released"),
		Opened: func(l *namedlock.Locker) error {
			r.tell(who+"opened", namedlock.Event{})
			return nil
		},
		Closed: func(l *namedlock.Locker) { r.tell(who+"closed", namedlock.Event{}) },
	}
}

// of returns the one event of that kind.
func (r *record) of(t *testing.T, kind string) (found namedlock.Event) {
	t.Helper()
	n := 0
	for i, k := range r.kinds {
		if k == kind {
			found = r.events[i]
			n++
		}
	}
	require.Equal(t, 1, n, "events %q among %q", kind, r.kinds)
	return found
}

type saidKey struct{}

// Hooks add to the contexts that follow, whatever the call is. Several hooks
// nest.
func TestHooksSeeEveryKindOfCall(t *testing.T) {
	db, mock, err := sqlmock.New()
	require.NoError(t, err)
	defer db.Close()
	for method, call := range map[string]func(l *locktest.Locker, fn func(ctx context.Context) error) error{
		"WithLock": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			return l.WithLock(ctx, "report", time.Minute, fn)
		},
		"WithLocks": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			return l.WithLocks(ctx, []string{"report", "another"}, time.Minute, fn)
		},
		"WithLockTx": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			mock.ExpectBegin()
			mock.ExpectRollback()
			return l.WithLockTx(ctx, "report", time.Minute, nil, func(ctx context.Context, _ *sql.Tx) error { return fn(ctx) })
		},
		"WithTerm": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			return l.WithTerm(ctx, "report", time.Minute, func(ctx context.Context, _ *namedlock.Term) error { return fn(ctx) })
		},
		"WithSlot": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			return l.WithSlot(ctx, "report", 3, time.Minute, func(ctx context.Context, _ int) error { return fn(ctx) })
		},
		"Lead": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			return l.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error { return fn(ctx) })
		},
		"Acquire": func(l *locktest.Locker, fn func(ctx context.Context) error) error {
			lock, err := l.Acquire(ctx, "report", time.Minute)
			if err != nil {
				return err
			}
			return errors.Join(fn(lock.Context()), lock.Release(), lock.Release())
		},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r record
				locks := locktest.New(namedlock.WithHooks(r.hooks("1 ")), namedlock.WithHooks(r.hooks("2 ")), namedlock.WithNamespace("app/"))
				locks.TxFrom(db)
				require.ErrorIs(t, call(locks, func(ctx context.Context) error {
					assert.Equal(t, "1 started 2 started 1 acquired 2 acquired ", ctx.Value(saidKey{}))
					time.Sleep(3 * time.Second)
					return errOwn
				}), errOwn)
				require.NoError(t, locks.Close())
				assert.Equal(t, []string{"1 opened", "2 opened", "1 started", "2 started", "1 acquired", "2 acquired", "2 released", "1 released", "2 closed", "1 closed"}, r.kinds)
				e := r.of(t, "1 released")
				assert.Equal(t, "report", e.Name, "without the namespace")
				assert.Equal(t, method, e.Method)
				assert.Equal(t, 3*time.Second, e.HeldFor)
				assert.NoError(t, e.Err)
				assert.False(t, e.Panicked)
				assert.Equal(t, method == "WithLocks", len(e.Names) == 2)
				if method != "Acquire" {
					assert.Equal(t, errOwn, e.Returned)
				}
			})
		})
	}
}

func TestHooksSeeFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks("")))
		defer locks.HoldElsewhere("report")()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 2*time.Second, nothing), namedlock.ErrTimeout)
		require.ErrorIs(t, locks.WithLocks(ctx, []string{"a", "report"}, 0, nothing), namedlock.ErrTimeout)
		require.ErrorIs(t, locks.WithLock(ctx, "", 0, nothing), namedlock.ErrInvalidName)
		_, err := locks.Acquire(ctx, "report", 0)
		require.ErrorIs(t, err, namedlock.ErrTimeout)
		require.NoError(t, locks.Close())
		assert.Equal(t, []string{"opened", "started", "failed", "started", "failed", "started", "failed", "started", "failed", "closed"}, r.kinds)
		assert.ErrorIs(t, r.events[2].Err, namedlock.ErrTimeout)
		assert.Equal(t, 2*time.Second, r.events[2].Waited)
	})
}

func TestHooksSeeALossAndAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks("")))
		for _, names := range [][]string{{"report"}, {"report", "another"}} {
			r = record{}
			assert.PanicsWithValue(t, "own", func() {
				_ = locks.WithLocks(ctx, names, time.Minute, func(ctx context.Context) error {
					locks.Lose("report")
					<-ctx.Done()
					panic("own")
				})
			})
			assert.True(t, r.of(t, "released").Panicked)
			r = record{}
			require.ErrorIs(t, locks.WithLocks(ctx, names, time.Minute, func(ctx context.Context) error {
				locks.Lose("report")
				<-ctx.Done()
				return nil
			}), namedlock.ErrLost)
			assert.ErrorIs(t, r.of(t, "released").Err, namedlock.ErrLost)
		}
		require.NoError(t, locks.Close())
	})
}

// Whatever a hook does, the lock is released.
func TestAHookThatMisbehavesKeepsNoLock(t *testing.T) {
	var log bytes.Buffer
	for what, hook := range map[string]func(){
		"panics": func() { panic("a bad hook") },
		"exits":  runtime.Goexit,
	} {
		for _, where := range []string{"started", "acquired", "failed", "released"} {
			for method, call := range map[string]func(l *locktest.Locker, name string){
				"WithLock":  func(l *locktest.Locker, name string) { _ = l.WithLock(ctx, name, 0, nothing) },
				"WithLocks": func(l *locktest.Locker, name string) { _ = l.WithLocks(ctx, []string{name, "b"}, 0, nothing) },
				"WithSlot":  func(l *locktest.Locker, name string) { _ = l.WithSlot(ctx, name, 2, 0, anySlot) },
				"WithTerm": func(l *locktest.Locker, name string) {
					_ = l.WithTerm(ctx, name, 0, func(context.Context, *namedlock.Term) error { return nil })
				},
				"Lead": func(l *locktest.Locker, name string) {
					_ = l.Lead(ctx, name, func(context.Context, *namedlock.Term) error { return nil })
				},
				"Acquire": func(l *locktest.Locker, name string) {
					if lock, err := l.Acquire(ctx, name, 0); err == nil {
						_ = lock.Release()
					}
				},
			} {
				t.Run(what+" "+where+" "+method, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						bad := func(at string) func(context.Context, namedlock.Event) {
							return func(context.Context, namedlock.Event) {
								if at == where {
									hook()
								}
							}
						}
						enter := func(at string) func(context.Context, namedlock.Event) context.Context {
							return func(ctx context.Context, e namedlock.Event) context.Context {
								bad(at)(ctx, e)
								return nil
							}
						}
						locks := locktest.New(namedlock.WithLogger(textLogger(&log)), namedlock.WithHooks(namedlock.Hooks{
							AcquireStarted: enter("started"), Acquired: enter("acquired"), Failed: bad("failed"), Released: bad("released"),
						}))
						for _, name := range []string{"free", ""} {
							done := make(chan struct{})
							go func() {
								defer close(done)
								call(locks, name)
							}()
							<-done
							if !assert.Empty(t, locks.HeldNames()) {
								return // Close would wait
							}
						}
						require.NoError(t, locks.Close())
					})
				})
			}
		}
	}
	assert.Contains(t, log.String(), "a bad hook")
}

// A hook may refuse a Locker. The hooks that were called before it are told
// that it is closed.
func TestAHookMayRefuse(t *testing.T) {
	var r record
	db, _, err := sqlmock.New()
	require.NoError(t, err)
	defer db.Close()
	l, err := namedlock.Open(db, namedlock.WithHooks(r.hooks("")), namedlock.WithHooks(namedlock.Hooks{Opened: func(*namedlock.Locker) error { return errOwn }}))
	assert.Nil(t, l)
	require.ErrorIs(t, err, errOwn)
	assert.Equal(t, []string{"opened", "closed"}, r.kinds)
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithHandOff(time.Hour))
		assert.Equal(t, namedlock.Stats{MaxSessions: 16}, locks.Stats())

		lock, err := locks.Acquire(ctx, "report", 0)
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- locks.WithLock(ctx, "report", namedlock.Forever, nothing) }()
		synctest.Wait()
		assert.Equal(t, namedlock.Stats{Held: 1, Waiting: 1, Sessions: 1, MaxSessions: 16, Acquired: 1, SessionsOpened: 1}, locks.Stats())

		time.Sleep(time.Second)
		require.ErrorIs(t, locks.WithLock(ctx, "report", time.Second, nothing), namedlock.ErrTimeout)
		require.ErrorIs(t, locks.WithLock(ctx, "", time.Second, nothing), namedlock.ErrInvalidName)
		require.NoError(t, lock.Release())
		require.NoError(t, lock.Release(), "counts once")
		require.NoError(t, <-done)
		assert.Equal(t, namedlock.Stats{
			Sessions: 1, MaxSessions: 16, SessionsOpened: 1, Acquired: 2, Timeouts: 1, Failed: 1, HandOffs: 1,
			WaitTime: 3 * time.Second, HoldTime: 2 * time.Second,
		}, locks.Stats())
		require.NoError(t, locks.Close())
		assert.Zero(t, locks.Stats().Sessions)
	})
}

func TestASlowWaitIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		release := locks.HoldElsewhere("report")
		time.AfterFunc(4*time.Second, release)
		require.NoError(t, locks.WithLock(ctx, "report", time.Minute, nothing))
		assert.Empty(t, log.String(), "four seconds are no long wait")

		release = locks.HoldElsewhere("report")
		time.AfterFunc(20*time.Second, release)
		require.NoError(t, locks.WithLock(ctx, "report", time.Minute, nothing))
		require.NoError(t, locks.Close())
		synctest.Wait()
		assert.Contains(t, log.String(), `level=WARN msg="namedlock: still waiting for a lock" name=report waited=5s timeout=1m0s`)
		assert.Contains(t, log.String(), `level=INFO msg="namedlock: acquired a lock after a long wait" name=report waited=20`)
	})
}

// A wait that ends by its timeout at about the time when it would be logged as
// long is logged once.
func TestAWaitOfFiveSecondsIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		defer locks.HoldElsewhere("report")()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 5*time.Second, nothing), namedlock.ErrTimeout)
		require.NoError(t, locks.Close())
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
		assert.Contains(t, log.String(), `msg="namedlock: failed to acquire a lock after a long wait" name=report waited=5s`)
	})
}

func TestACloseThatWaitsIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)), namedlock.WithNamespace("n:"))
		first, err := locks.Acquire(ctx, "one", 0)
		require.NoError(t, err)
		second, err := locks.Acquire(ctx, "another", 0)
		require.NoError(t, err)
		time.AfterFunc(10*time.Second, func() {
			_ = first.Release()
			_ = second.Release()
		})
		require.NoError(t, locks.Close())
		synctest.Wait()
		assert.Contains(t, log.String(), `level=WARN msg="namedlock: Close or Shutdown is waiting for held locks" names="[another one]"`)
	})
}

// When Close returns, the hooks have been called for all calls that it has
// ended, and Stats agree.
func TestCloseWaitsUntilTheHooksKnow(t *testing.T) {
	const calls = 500
	for range 5 {
		var told atomic.Int64
		locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{Failed: func(context.Context, namedlock.Event) { told.Add(1) }}))
		release := locks.HoldElsewhere("report")
		var began sync.WaitGroup
		for range calls {
			began.Add(1)
			go func() {
				began.Done()
				_ = locks.WithLock(ctx, "report", namedlock.Forever, nothing)
			}()
		}
		began.Wait()
		for locks.Stats().Waiting < calls {
			runtime.Gosched()
		}
		require.NoError(t, locks.Close())
		assert.EqualValues(t, calls, told.Load())
		stats := locks.Stats()
		assert.Zero(t, stats.Waiting)
		assert.EqualValues(t, calls, stats.Failed)
		release()
	}
}

// A blocking is a handler that does not return, for example because it writes
// to a full pipe.
type blocking struct {
	slog.Handler
	until chan struct{}
}

func (h blocking) Enabled(context.Context, slog.Level) bool {
	<-h.until
	return true
}

// A log that blocks delays no call and no release, and Close for at most 5 s.
func TestALogThatBlocksHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		defer close(until)
		locks := locktest.New(namedlock.WithLogger(slog.New(blocking{slog.DiscardHandler, until})))
		release := locks.HoldElsewhere("report")
		begun := time.Now()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 10*time.Second, nothing), namedlock.ErrTimeout)
		assert.Equal(t, 10*time.Second, time.Since(begun).Truncate(100*time.Millisecond))
		release()
		begun = time.Now()
		err := locks.WithLock(ctx, "report", time.Second, func(context.Context) error {
			locks.Lose("report")
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.NoError(t, locks.WithLock(ctx, "report", time.Second, nothing))
		assert.Less(t, time.Since(begun), time.Second)
		begun = time.Now()
		require.NoError(t, locks.Close())
		assert.LessOrEqual(t, time.Since(begun), 5*time.Second)
	})
}

// If a handler panics, its line is lost, and nothing else.
func TestALogThatPanicsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithLogger(slog.New(panicking{slog.DiscardHandler})))
		err := locks.WithLock(ctx, "report", time.Second, func(context.Context) error {
			locks.Lose("report")
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.NoError(t, locks.Close())
	})
}

type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool { panic("a bad log") }

// Many calls that wait for the same name cause one line a minute.
func TestLongWaitsAreLoggedOnceANameAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		release := locks.HoldElsewhere("report")
		defer locks.HoldElsewhere("other")()
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() { _ = locks.WithLock(ctx, "report", namedlock.Forever, nothing) })
		}
		calls.Go(func() { _ = locks.WithLock(ctx, "other", 10*time.Second, nothing) })
		time.Sleep(30 * time.Second)
		release()
		calls.Wait()
		require.NoError(t, locks.Close())
		assert.Equal(t, 2, strings.Count(log.String(), "still waiting"), log.String())
		assert.Contains(t, log.String(), "name=report waited=5s timeout=forever")
		assert.Contains(t, log.String(), "name=other waited=5s timeout=10s")
	})
}

// Calls that wait for a session, and not for a lock, cause one line in the log,
// which has the numbers.
func TestAWaitForASessionIsLogged(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		ends := make(chan struct{})
		begun := make(chan struct{}, 2)
		for _, name := range []string{"a", "b"} {
			go func() {
				_ = b.locker.WithLockTx(b.Context(), name, 0, nil, func(context.Context, *sql.Tx) error {
					begun <- struct{}{}
					<-ends
					return nil
				})
			}()
			<-begun
		}
		for _, name := range []string{"c", "d"} {
			go func() { _ = b.withLockTxFor(name, 20*time.Second) }()
		}
		err := b.withLockTxFor("e", 20*time.Second)
		require.ErrorIs(b, err, namedlock.ErrNoSession)
		close(ends)
		synctest.Wait()
		log := b.logged()
		assert.Equal(b, 1, strings.Count(log, "calls are waiting for a session"), log)
		assert.Contains(b, log, "calls=3")
	})
}

// The times of the log's lines are forgotten if there are many of them and they
// are old. Each name then has its line again.
func TestWarningsAreForgotten(t *testing.T) {
	inBubble(t, func(b *bubble) {
		wait := func(names ...string) {
			ctx, cancel := context.WithTimeout(b.Context(), 6*time.Second)
			defer cancel()
			var waits sync.WaitGroup
			for _, name := range names {
				waits.Go(func() { _ = b.locker.WithLock(ctx, name, time.Minute, nothing) })
			}
			waits.Wait()
		}
		var many []string
		for i := range 1000 {
			many = append(many, fmt.Sprint(i))
			held, err := b.locker.Acquire(b.Context(), many[i], 0) // so that the waits for it cost no statement
			require.NoError(b, err)
			defer held.Release()
		}
		wait(many...)
		time.Sleep(2 * time.Minute)
		wait("0", "1")
		b.Cleanup(func() { assert.Equal(b, 1000+2, strings.Count(b.log.String(), "still waiting for a lock")) })
	}, namedlock.WithMaxSessions(3), namedlock.WithProbe(0), namedlock.WithKeepAlive(time.Hour), namedlock.WithLease(0))
}
