package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// With New, Close leaves the connection to its owner, open and without locks.
func TestPromise19_CloseLeavesTheConnection(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byNew}.spied(t)
		for range 3 {
			requireUsable(t, l)
		}
		require.NoError(t, l.Close())
		var locks int
		require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT RELEASE_ALL_LOCKS()").Scan(&locks))
		assert.Zero(t, locks)
		assert.Zero(t, l.spy.Closed())
	})
}

// Close ends all calls, whatever they are doing.
func TestPromise19_CloseDuringAllOfIt(t *testing.T) {
	t.Parallel()
	const rounds, callers = 5, 60
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		for range rounds {
			l, names := at.locker(t, namedlock.WithMaxSessions(4)), []string{}
			for range 6 {
				names = append(names, newName("all"))
			}
			f.lock(names[0])
			var running sync.WaitGroup
			errs := make([][]error, callers)
			begun := make(chan struct{}, callers)
			for i := range callers {
				running.Go(func() {
					for round := 0; ; round++ {
						err := anything(t.Context(), l, names)
						errs[i] = append(errs[i], err)
						if round == 0 {
							begun <- struct{}{}
						}
						if errors.Is(err, namedlock.ErrClosed) {
							return
						}
					}
				})
			}
			for range callers / 2 {
				receive(t, begun, "callers are at work")
			}
			require.NoError(t, receive(t, inBackground(l.Close), "Close"))
			require.NoError(t, receive(t, inBackground(func() error { running.Wait(); return nil }), "all callers end"))
			for _, errs := range errs {
				for _, err := range errs {
					switch {
					case err == nil, errors.Is(err, namedlock.ErrClosed), errors.Is(err, namedlock.ErrTimeout),
						errors.Is(err, namedlock.ErrDeadlock), errors.Is(err, context.Canceled):
					default:
						require.NoError(t, err)
					}
				}
			}
			if at.way == byOpen {
				assert.Zero(t, l.db.Stats().InUse)
			} else {
				var locks int
				require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT RELEASE_ALL_LOCKS()").Scan(&locks))
				assert.Zero(t, locks)
			}
			f.unlock(names[0])
			for _, name := range names {
				f.lockSoon(name)
				f.unlock(name)
				assert.Empty(t, at.sessionsAt(t, name))
			}
		}
	})
}

// anything makes a random call and returns when the call holds nothing.
func anything(ctx context.Context, l *locker, names []string) error {
	name, timeout := names[rand.N(len(names))], rand.N(40*time.Millisecond)
	switch rand.N(4) {
	case 0:
		return l.WithLock(ctx, name, timeout, nothing)
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		defer time.AfterFunc(rand.N(5*time.Millisecond), cancel).Stop()
		defer cancel()
		return l.WithLock(ctx, name, namedlock.Forever, nothing)
	case 2:
		return l.WithLock(ctx, name, timeout, func(ctx context.Context) error {
			inner := names[rand.N(len(names))]
			if err := l.WithLock(ctx, inner, timeout, nothing); !errors.Is(err, namedlock.ErrReentrant) {
				return err
			}
			return nil
		})
	default:
		lock, err := l.Acquire(ctx, name, timeout)
		if err != nil {
			return err
		}
		time.Sleep(rand.N(time.Millisecond)) // the work under the lock
		return lock.Release()
	}
}

// After Close the numbers of goroutines and connections are as before.
//
// This test counts goroutines, so it runs alone, and the servers take turns.
func TestPromise19_NothingLeaks(t *testing.T) {
	for _, kind := range on().Kinds {
		for _, way := range []string{byOpen, byNew} {
			t.Run(string(kind)+"/"+way, func(t *testing.T) {
				srv, err := shared[kind]()
				if err != nil {
					servers.SkipOrFail(t, err)
				}
				f := srv.foreign(t)
				var names []string
				for range 4 {
					names = append(names, newName("leak"))
				}
				f.lock(names[0])
				eventually(t, func() bool { return steady() }, "the goroutines of earlier tests end")
				before := runtime.NumGoroutine()
				t.Run("work", func(t *testing.T) {
					l := setup{srv, way}.locker(t)
					var running sync.WaitGroup
					for range 20 {
						running.Go(func() {
							for range 10 {
								_ = anything(t.Context(), l, names)
							}
						})
					}
					running.Wait()
					require.NoError(t, l.Close())
					if way == byOpen {
						assert.Zero(t, l.db.Stats().InUse)
					}
				})
				eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "%d goroutines, as before: %s", before, stacks{})
				for _, name := range names[1:] {
					f.lockSoon(name)
				}
			})
		}
	}
}

// steady reports whether the number of goroutines does not change for 100 ms.
func steady() bool {
	n := runtime.NumGoroutine()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		if runtime.NumGoroutine() != n {
			return false
		}
	}
	return true
}

// stacks prints the stacks of all goroutines.
type stacks struct{}

func (stacks) String() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// `defer conn.Close(); defer locker.Close()` never puts a connection with a
// lock into the pool, even if waits are cut off.
func TestPromise19_NoLockInThePool(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db, f, name := srv.open(t), srv.foreign(t), newName("pooled")
		db.SetMaxOpenConns(1)
		db.SetMaxIdleConns(1)
		use := func() (err error) {
			conn, err := db.Conn(t.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			l, err := namedlock.New(conn)
			if err != nil {
				return err
			}
			defer l.Close()
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(3*time.Millisecond))
			defer cancel()
			return l.WithLock(ctx, name, namedlock.Forever, nothing)
		}
		for range 200 {
			f.lockSoon(name)
			used := inBackground(use)
			time.Sleep(rand.N(5 * time.Millisecond)) // any time between not started and timed out
			f.unlock(name)
			if err := receive(t, used, "the Locker is closed"); err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			var locks int
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT RELEASE_ALL_LOCKS()").Scan(&locks))
			require.Zero(t, locks, "the pooled connection holds a lock")
		}
	})
}
