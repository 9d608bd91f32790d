package e2e

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A session that waits in GET_LOCK is busy, not idle. If the wait takes longer
// than the lease, the lock is not lost.
func TestPromise14_AWaitLongerThanTheLease(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		lease := seconds(4 * time.Second)
		l, f, name := at.locker(t, namedlock.WithLease(lease)), at.foreign(t), newName("long-wait")
		f.lock(name)
		c := begin(t, t.Context(), l, name, patience)
		at.awaitWaiter(t, name)
		<-time.After(lease + lease/2)
		c.waits(t)
		f.unlock(name)
		ctx := c.holds(t)
		select {
		case <-ctx.Done():
			require.FailNow(t, "lost", "%v", context.Cause(ctx))
		case <-time.After(lease / 4): // a dozen checks of the watch
		}
		c.release(t)
	})
}

// The keep-alive does not wait for the probe.
func TestPromise12_ARareProbeSlowsNothing(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		lease := seconds(4 * time.Second)
		l := at.locker(t, namedlock.WithLease(lease), namedlock.WithProbe(time.Minute))
		c, ctx := hold(t, t.Context(), l, newName("probe"))
		select {
		case <-ctx.Done():
			require.FailNow(t, "lost", "%v", context.Cause(ctx))
		case <-time.After(lease + lease/2):
		}
		c.release(t)
	})
}

// If all sessions wait for connections that other code of the process uses, the
// timeout of a call bounds its wait for a session.
func TestPromise02_BoundsTheWaitBehindOthersThatAreStuck(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, waitsOnTheServer := range map[string]bool{"all are stuck": false, "one waits on the server": true} {
			t.Run(what, func(t *testing.T) {
				at := setup{srv, byOpen}
				db := srv.open(t)
				db.SetMaxOpenConns(8)
				l := at.lockerOn(t, db, namedlock.WithMaxSessions(2))
				f, held := at.foreign(t), newName("held")
				f.lock(held)
				var before []*call
				if waitsOnTheServer {
					before = append(before, begin(t, t.Context(), l, held, patience))
					at.awaitWaiter(t, held)
				}
				for db.Stats().InUse < 8 { // other code of the process
					conn, err := db.Conn(t.Context())
					require.NoError(t, err)
					t.Cleanup(func() { conn.Close() })
				}
				for len(before) < 2 {
					waiting := db.Stats().WaitCount
					before = append(before, begin(t, t.Context(), l, newName("stuck"), patience))
					eventually(t, func() bool { return db.Stats().WaitCount > waiting }, "a call waits for a connection")
				}
				for _, timeout := range []time.Duration{0, 100 * time.Millisecond} {
					prompt(t, timeout+100*time.Millisecond, "the end of a wait", func() time.Duration {
						start, name := time.Now(), newName("behind")
						requireError(t, l.WithLock(t.Context(), name, timeout, unexpected(t)), namedlock.ErrNoSession, name)
						took := time.Since(start)
						assert.GreaterOrEqual(t, took, timeout)
						return took
					})
				}
				for _, c := range before {
					// The calls end when the connections are returned, or by their timeout.
					c.finish(nil)
				}
				f.unlock(held)
			})
		}
	})
}

// However many connections are idle in the db, opening a session takes at most
// 5 s.
func TestPromise02_OpeningIsBoundedInAll(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		network := at.network(t)
		db, err := openDB(at.DSNAt(network.Addr()))
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		db.SetMaxIdleConns(10)
		l := at.lockerOn(t, db)
		var idle []*sql.Conn
		for range 10 {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			idle = append(idle, conn)
		}
		for _, conn := range idle {
			require.NoError(t, conn.Close())
		}
		network.Silence()
		prompt(t, 5500*time.Millisecond, "the end of opening", func() time.Duration {
			start, name := time.Now(), newName("silent")
			requireError(t, l.WithLock(t.Context(), name, time.Second, unexpected(t)), namedlock.ErrUnavailable, name)
			return time.Since(start)
		})
	})
}

// A Locker in steady use leaves a demoted primary as soon as new connections
// lead to another server.
func TestPromise22_ADemotedServerIsLeft(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, promoted *server) {
		demoted := borrow(t, promoted.Kind())
		primary := &failover{}
		primary.to.Store(demoted)
		db := sql.OpenDB(primary)
		t.Cleanup(func() { db.Close() })
		l := setup{demoted, byOpen}.lockerOn(t, db, namedlock.WithKeepAlive(calm()))
		// Idle connections, in the db and in the Locker, lead to the demoted server.
		var idle []*call
		for range 8 {
			c, _ := hold(t, t.Context(), l, newName("idle"))
			idle = append(idle, c)
		}
		for _, c := range idle {
			c.release(t)
		}
		_, err := demoted.admin.ExecContext(background, "SET GLOBAL read_only = ON")
		require.NoError(t, err)
		primary.to.Store(promoted)
		name, f := newName("failover"), promoted.foreign(t)
		eventually(t, func() bool {
			var there bool
			require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
				there = f.holder(name) != 0
				return nil
			}), "a session that leads to the demoted server is replaced")
			return there
		}, "the lock is taken on the promoted server")
		// If every connection leads to a read-only server, the call returns an error.
		primary.to.Store(demoted)
		l = setup{demoted, byOpen}.lockerOn(t, db)
		err = l.WithLock(t.Context(), name, 0, unexpected(t))
		if err == nil { // an idle connection still leads to the promoted server
			db.SetMaxIdleConns(-1)
			err = setup{demoted, byOpen}.lockerOn(t, db).WithLock(t.Context(), name, 0, unexpected(t))
		}
		requireError(t, err, namedlock.ErrUnsupported, name)
	})
}

// If the server is demoted while a call waits, the lock that it then grants
// excludes no client of the new primary. fn does not run.
func TestPromise22_DemotedDuringTheWait(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		for _, way := range []string{byOpen, byNew} {
			l, f, name := setup{srv, way}.spied(t), srv.foreign(t), newName("demoted")
			f.lock(name)
			c := begin(t, t.Context(), l, name, patience)
			c.queued(t)
			eventually(t, func() bool { return l.spy.Count(locksql.GetLock) > 1 }, "it waits, or polls")
			_, err := srv.admin.ExecContext(background, "SET GLOBAL read_only = ON")
			require.NoError(t, err)
			f.unlock(name)
			err = c.err(t)
			requireError(t, err, namedlock.ErrUnsupported, name)
			require.Empty(t, c.held, "fn has run, by "+way)
			_, err = srv.admin.ExecContext(background, "SET GLOBAL read_only = OFF")
			require.NoError(t, err)
			eventually(t, func() bool { return f.holder(name) == 0 }, "nothing is held")
			require.NoError(t, l.WithLock(t.Context(), name, time.Second, nothing))
		}
	})
}

// A failover is a connector whose connections lead to the server in to.
type failover struct{ to atomic.Pointer[server] }

func (f *failover) Connect(ctx context.Context) (driver.Conn, error) {
	cfg, err := mysql.ParseDSN(f.to.Load().DSN())
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

func (f *failover) Driver() driver.Driver { return &mysql.MySQLDriver{} }

// A forked chain waits on two sessions, one of which holds nothing. After both
// waits are canceled, neither stays on the server, and Close does not wait for
// them.
func TestPromise05_ForkedWaitsLeaveTheServer(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f := at.locker(t), at.foreign(t)
		outer, under := hold(t, t.Context(), l, newName("outer"))
		ctx, cancel := context.WithCancelCause(under)
		var forks []*call
		var names []string
		for _, about := range []string{"one", "other"} {
			name := newName(about)
			f.lock(name)
			forks, names = append(forks, begin(t, ctx, l, name, namedlock.Forever)), append(names, name)
			at.awaitWaiter(t, name)
		}
		gone := errors.New("gone")
		cancel(gone)
		for _, c := range forks {
			assert.ErrorIs(t, c.err(t), gone)
		}
		outer.release(t)
		closed := inBackground(l.Close)
		for _, name := range names {
			eventually(t, func() bool { return len(at.waiters(t, name)) == 0 }, "no session waits for %q any more", name)
		}
		assert.True(t, endsWithin(closed, patience), "Close waits for a wait that was given up")
	})
}

// A lock is not passed on from a session on which its chain still holds another
// lock.
func TestHandOff_NotBesideAnInnerLock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f := at.locker(t, namedlock.WithHandOff(time.Minute)), at.foreign(t)
		outer, err := l.Acquire(t.Context(), newName("outer"), 0)
		require.NoError(t, err)
		inner, err := l.Acquire(outer.Context(), newName("inner"), 0)
		require.NoError(t, err)
		stranger := begin(t, t.Context(), l, outer.Name(), patience)
		stranger.queued(t)
		require.NoError(t, outer.Release())
		stranger.holds(t)
		assert.NotEqual(t, f.holder(inner.Name()), f.holder(outer.Name()), "two chains on one session")
		require.NoError(t, inner.Release())
		stranger.release(t)
	})
}
