package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The costs of the library must not grow unnoticed. These guards count; the
// benchmarks measure seconds.

// inTurn runs the test on each server while no other test runs, since heap and
// goroutines belong to the whole process.
func inTurn(t *testing.T, test func(t *testing.T, srv *server)) {
	for _, kind := range on().Kinds {
		t.Run(string(kind), func(t *testing.T) {
			srv, err := shared[kind]()
			if err != nil {
				servers.SkipOrFail(t, err)
			}
			test(t, srv)
		})
	}
}

// A cycle sends two statements, and allocates no more than two prepared round
// trips by hand.
func TestGuard_Cycle(t *testing.T) {
	inTurn(t, func(t *testing.T, srv *server) {
		for what, ctx := range map[string]context.Context{"context that cannot end": background, "context that can": t.Context()} {
			t.Run(what, func(t *testing.T) {
				at := setup{srv, byOpen}
				l, name := at.locker(t), newName("cycle")
				cycle := func() {
					k, err := l.Acquire(ctx, name, time.Second)
					if err == nil {
						err = k.Release()
					}
					require.NoError(t, err)
				}
				conn, err := srv.open(t).Conn(ctx)
				require.NoError(t, err)
				get, err := conn.PrepareContext(ctx, locksql.SelectGetLock)
				require.NoError(t, err)
				release, err := conn.PrepareContext(ctx, locksql.SelectReleaseLock)
				require.NoError(t, err)
				byHand := func() {
					var n sql.NullInt64
					require.NoError(t, get.QueryRowContext(ctx, name, 0).Scan(&n))
					require.NoError(t, release.QueryRowContext(ctx, name).Scan(&n))
				}
				cycle()
				cycle()
				ours, theirs := testing.AllocsPerRun(200, cycle), testing.AllocsPerRun(200, byHand)
				assert.LessOrEqual(t, ours, theirs, "allocations a cycle")
				t.Logf("allocations a cycle: %v, by hand %v", ours, theirs)
			})
		}

		t.Run("statements", func(t *testing.T) {
			l, name := setup{srv, byOpen}.spied(t), newName("cycle")
			for range 3 { // until all statements are prepared
				require.NoError(t, l.WithLock(t.Context(), name, time.Second, nothing))
			}
			before := len(l.spy.Statements())
			const cycles = 50
			for range cycles {
				require.NoError(t, l.WithLock(t.Context(), name, time.Second, nothing))
			}
			assert.Equal(t, 2*cycles, len(l.spy.Statements())-before)
		})
	})
}

// The first lock of a new Locker costs three round trips in addition to
// connecting: the properties of the server, the lease, and the lock, which is
// sent as text.
func TestGuard_FreshSession(t *testing.T) {
	inTurn(t, func(t *testing.T, srv *server) {
		cfg, err := mysql.ParseDSN(srv.DSN())
		require.NoError(t, err)
		s, err := spy.New(cfg)
		require.NoError(t, err)
		db := sql.OpenDB(s)
		defer db.Close()
		l := setup{srv, byOpen}.lockerOn(t, db)
		k, err := l.Acquire(background, newName("fresh"), time.Second)
		require.NoError(t, err)
		assert.Len(t, s.Statements(), 3, "round trips")
		require.NoError(t, k.Release())
		assert.Len(t, s.Statements(), 4)
	})
}

// Ten thousand locks need four connections, at most 2 KiB of heap each, and no
// goroutine.
func TestGuard_TenThousandLocks(t *testing.T) {
	inTurn(t, func(t *testing.T, srv *server) {
		const locks, sessions = 10_000, 4
		l, name := setup{srv, byOpen}.locker(t, namedlock.WithMaxSessions(sessions)), newName("many")
		held := make([]*namedlock.Lock, 0, locks)
		acquire := func() {
			k, err := l.Acquire(background, fmt.Sprint(name, "-", len(held)), patience)
			require.NoError(t, err)
			held = append(held, k)
		}
		for range sessions + 1 {
			acquire() // until all sessions are open
		}
		heap, goroutines := heapInUse(), runtime.NumGoroutine()
		for len(held) < locks {
			acquire()
		}
		assert.LessOrEqual(t, float64(heapInUse()-heap)/locks, 2048.0, "heap a lock")
		assert.Less(t, runtime.NumGoroutine()-goroutines, locks/100, "goroutines")
		assert.Equal(t, sessions, l.db.Stats().InUse)
		for _, k := range held {
			require.NoError(t, k.Release())
		}
	})
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A thousand callers for one name wait with one connection, and for eight names
// with eight. After the end nothing is left.
func TestGuard_WaitersShareAConnection(t *testing.T) {
	inTurn(t, func(t *testing.T, srv *server) {
		for _, n := range []int{1, 8} {
			t.Run(fmt.Sprint(n, " names"), func(t *testing.T) {
				l, f := setup{srv, byOpen}.locker(t), srv.foreign(t)
				before := runtime.NumGoroutine()
				ctx, giveUp := context.WithCancel(t.Context())
				var calls []*call
				var names []string
				for range n {
					names = append(names, newName("crowd"))
					f.lock(names[len(names)-1])
				}
				for i := range 1000 {
					calls = append(calls, begin(t, ctx, l, names[i%n], namedlock.Forever))
				}
				for _, c := range calls {
					c.queued(t)
				}
				for _, name := range names {
					srv.awaitWaiter(t, name)
				}
				assert.Equal(t, n, l.db.Stats().InUse, "connections of %d waiters for %d names", len(calls), n)
				giveUp()
				for _, c := range calls {
					assert.ErrorIs(t, c.err(t), context.Canceled)
				}
				for _, name := range names {
					f.unlock(name)
					// After a cancel, the server may take up to 1 s to end the wait.
					f.lockSoon(name)
				}
				eventually(t, func() bool { return l.db.Stats().InUse == 0 }, "all connections are given back")
				eventually(t, func() bool { return runtime.NumGoroutine() <= before+n+2 }, "no goroutine stays")
			})
		}
	})
}

// A lock that many goroutines of one process want needs two sessions, which
// take turns: the next GET_LOCK is sent while the last RELEASE_LOCK is on its
// way. A section still costs two statements.
func TestGuard_HotLock(t *testing.T) {
	inTurn(t, func(t *testing.T, srv *server) {
		const crowd, sections = 64, 30
		l, name := setup{srv, byOpen}.spied(t), newName("hot")
		var done sync.WaitGroup
		for range crowd {
			done.Go(func() {
				for range sections {
					assert.NoError(t, l.WithLock(background, name, patience, nothing))
				}
			})
		}
		done.Wait()
		assert.Equal(t, 2, l.spy.Most(), "connections")
		gets, releases := l.spy.Count(locksql.GetLock), l.spy.Count(locksql.ReleaseLock)
		assert.Equal(t, crowd*sections, releases)
		// A GET_LOCK that arrives at the same time as the release before it is sent
		// once more.
		assert.InDelta(t, crowd*sections, gets, crowd*sections/10.0)
	})
}
