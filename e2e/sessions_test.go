package e2e

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// More names are waited for than there are sessions. Each caller is served when
// its name becomes free, in any order. Free names can be acquired at the same
// time.
func TestPromise02_MoreNamesThanSessions(t *testing.T) {
	t.Parallel()
	const count = 20
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, limit := range []int{1, 2, 3, 4} {
			l, f := setup{srv, byOpen}.spied(t, namedlock.WithMaxSessions(limit)), srv.foreign(t)
			l.db.SetMaxIdleConns(limit)
			var names []string
			var calls []*call
			for range count {
				name := newName("busy")
				f.lock(name)
				c := begin(t, t.Context(), l, name, namedlock.Forever)
				c.queued(t)
				names, calls = append(names, name), append(calls, c)
			}
			free := func() {
				t.Helper()
				require.NoError(t, l.WithLock(t.Context(), newName("free"), 0, nothing))
			}
			free()
			for i := range count {
				i = (i*7 + 19) % count // neither the first nor the last is served first
				f.unlock(names[i])
				calls[i].holds(t)
				assert.NotZero(t, f.holder(names[i]))
				free()
			}
			for _, c := range calls { // all are held now, on a few sessions
				c.release(t)
			}
			f.free(names...)
			assert.LessOrEqual(t, l.spy.Most(), limit, "connections at the same time")
			assert.Zero(t, l.spy.Closed())
		}
	})
}

// Many callers of one name wait in this process. At most one of them asks the
// server at a time.
func TestPromise09_OneWaitForAll(t *testing.T) {
	t.Parallel()
	const callers = 200
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t), at.foreign(t), newName("all")
		var asking, most atomic.Int64
		l.spy.Always(locksql.GetLock, func(_ context.Context, send func() error) error {
			if n := asking.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer asking.Add(-1)
			return send()
		})
		f.lock(name)
		var calls []*call
		for range callers {
			c := begin(t, t.Context(), l, name, time.Minute)
			c.queued(t)
			c.finish(nil)
			calls = append(calls, c)
		}
		at.awaitWaiter(t, name)
		assert.LessOrEqual(t, len(at.waiters(t, name)), 1)
		unlocked := time.Now()
		f.unlock(name)
		for _, c := range calls {
			require.NoError(t, c.err(t))
		}
		took := time.Since(unlocked)
		assert.EqualValues(t, 1, most.Load(), "callers that ask at the same time")
		// One session has the lock, and on a second one the next caller asks. If
		// either is idle for a second, it goes back to the db. Before its connection
		// is there, a third session may be opened.
		if took < time.Second {
			assert.LessOrEqual(t, l.spy.Most(), 2, "connections at the same time")
		}
		f.free(name)
	})
}

// A db with a single connection could not be queried under a lock.
func TestPromise02_SingleConnectionIsRefused(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(1)
		_, err := namedlock.Open(db)
		require.ErrorIs(t, err, namedlock.ErrUnsupported)
		assert.ErrorContains(t, err, "New")

		db.SetMaxOpenConns(0)
		l := setup{srv, byOpen}.lockerOn(t, db)
		requireUsable(t, l)
		eventually(t, func() bool { return db.Stats().InUse == 0 }, "the idle session goes back")
		db.SetMaxOpenConns(1)
		name := newName("later")
		requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnsupported, name)
		requireError(t, l.WithLock(t.Context(), name, namedlock.Forever, unexpected(t)), namedlock.ErrUnsupported, name)
		db.SetMaxOpenConns(2)
		requireUsable(t, l)
	})
}

// Code under the locks queries the same small db. It never waits for
// connections that hold locks.
func TestPromise02_SmallDBIsNoDeadlock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, most := range []int{2, 3, 5} {
			db := srv.open(t)
			db.SetMaxOpenConns(most)
			l := setup{srv, byOpen}.lockerOn(t, db)
			same := newName("same")
			var running sync.WaitGroup
			errs := make([]error, 40)
			for i := range errs {
				name := same
				if i%2 == 0 {
					name = newName("own")
				}
				running.Go(func() {
					for range 5 {
						errs[i] = errors.Join(errs[i], l.WithLock(t.Context(), name, time.Minute, func(ctx context.Context) error {
							var one int
							return db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
						}))
					}
				})
			}
			done := inBackground(func() error { running.Wait(); return nil })
			require.NoError(t, receive(t, done, "all workers are through"))
			require.NoError(t, errors.Join(errs...))
		}
	})
}

// A session that holds nothing is soon returned to the db, in its initial
// state.
func TestPromise19_IdleSessionsGoBack(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byOpen}.spied(t)
		l.db.SetMaxIdleConns(10)
		var calls []*call
		for range 5 {
			c, _ := hold(t, t.Context(), l, newName("five"))
			calls = append(calls, c)
		}
		for _, c := range calls {
			c.release(t)
		}
		for range 3 {
			requireUsable(t, l) // prepares statements
		}
		eventually(t, func() bool { return l.db.Stats().InUse == 0 }, "the sessions go back")
		assert.Equal(t, 5, l.db.Stats().Idle)
		assert.Zero(t, l.spy.Closed())
		prepared := 0
		for _, st := range l.spy.Statements() {
			switch st.How {
			case spy.Prepare:
				prepared++
			case spy.Close:
				prepared--
			}
		}
		assert.Zero(t, prepared, "statements left on pooled connections")
		requireUsable(t, l)
		assert.Equal(t, 5, l.spy.Opened())
	})
}

// A connection that has served the Locker serves other code as before, under
// contexts of its own.
func TestPromise19_AConnectionGoesBackAsItCame(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxIdleConns(1)
		session := func() (id int64) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			require.NoError(t, db.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id))
			return id
		}
		before := session()
		for _, opts := range [][]namedlock.Option{nil, {namedlock.WithProbe(0)}, {namedlock.WithoutServerCheck(), namedlock.WithLease(0)}} {
			l := setup{srv, byOpen}.lockerOn(t, db, opts...)
			name := newName("back")
			require.NoError(t, l.WithLock(t.Context(), name, patience, func(context.Context) error {
				assert.Equal(t, before, srv.foreign(t).holder(name))
				return nil
			}))
			require.NoError(t, l.WithLock(t.Context(), name, patience, nothing))
			require.NoError(t, l.Close())
			require.Equal(t, before, session())
			require.Equal(t, before, session())
		}
	})
}

// Other code may leave a lock on a connection, in the pool or the one given to
// New. The Locker then does not acquire that lock a second time on the same
// session. After its release the name is free.
func TestPromise16_LeakedLockIsNotReentered(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		leak := func(t *testing.T, l *locker, names ...string) {
			conn := l.conn
			if conn == nil {
				var err error
				conn, err = l.db.Conn(t.Context())
				require.NoError(t, err)
			}
			for _, name := range names {
				for range 3 {
					var got int
					require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT GET_LOCK(?, 0)", name).Scan(&got))
					require.Equal(t, 1, got)
				}
			}
			if l.conn == nil {
				require.NoError(t, conn.Close())
			}
		}
		for _, way := range []string{byOpen, byNew} {
			t.Run(way, func(t *testing.T) {
				l, f, name, other := setup{srv, way}.locker(t), srv.foreign(t), newName("leaked"), newName("leaked")
				leak(t, l, name, other)
				require.NotZero(t, f.holder(name))
				require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
					assert.False(t, f.get(name, 0))
					return nil
				}))
				f.free(name, other)
			})
		}
	})
}

// At the user's or the server's limit for connections, calls share the existing
// sessions.
func TestPromise02_SharesAtTheServersLimit(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		user := newUser()
		db := srv.openAs(t, user, nil)
		_, err := srv.admin.ExecContext(t.Context(), "ALTER USER "+user+" WITH MAX_USER_CONNECTIONS 2")
		require.NoError(t, err)
		db.SetMaxIdleConns(0)
		l, f := setup{srv, byOpen}.lockerOn(t, db), srv.foreign(t)
		var calls []*call
		for range 6 {
			c, _ := hold(t, t.Context(), l, newName("limit"))
			calls = append(calls, c)
		}
		assert.LessOrEqual(t, l.Stats().Sessions, 2)
		busy := newName("busy")
		f.lock(busy)
		waiting := begin(t, t.Context(), l, busy, patience)
		waiting.queued(t)
		require.NoError(t, l.WithLock(t.Context(), newName("limit"), 0, nothing))
		f.unlock(busy)
		waiting.holds(t)
		waiting.release(t)
		for _, c := range calls {
			c.release(t)
		}
	})
}
