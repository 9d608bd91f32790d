package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// With default options an idle lock survives several times the session's
// wait_timeout.
func TestPromise12_IdleLockOutlivesWaitTimeout(t *testing.T) {
	t.Parallel()
	type held struct {
		way          string
		name         string
		session      int64
		inner, outer *call
		ctx          context.Context
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		f, idle := srv.foreign(t), seconds(2*time.Second)
		var all []held
		for _, way := range []string{byOpen, byNew} {
			l, h := setup{srv, way}.lockerOn(t, srv.open(t, waitTimeout(idle))), held{way: way, name: newName("inner")}
			h.outer, h.ctx = hold(t, t.Context(), l, newName("outer"))
			h.inner, h.ctx = hold(t, h.ctx, l, h.name)
			h.session = f.holder(h.name)
			all = append(all, h)
		}
		<-time.After(3 * idle)
		for _, h := range all {
			require.NoError(t, context.Cause(h.ctx), h.way)
			assert.Equal(t, h.session, f.holder(h.name))
			h.inner.release(t)
			h.outer.release(t)
		}
	})
}

// A client vanishes without closing its connections. The server frees its locks
// within the lease. Each holder is told before another session gets its lock.
// When the network is healed, the Locker does not touch the locks of the other
// sessions.
//
// The locks are acquired at different moments, so that the silence begins at
// every stage between two keep-alives.
func TestPromise14_HolderIsToldBeforeAnotherHasTheLock(t *testing.T) {
	t.Parallel()
	const stages = 8
	lease := seconds(2 * time.Second)
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			network := at.network(t)
			var lockers [stages]*locker
			var names [stages]string
			var calls [stages]*call
			var under [stages]context.Context
			var others [stages]*foreign
			type taken struct {
				told bool
				at   time.Time
				err  error
			}
			var next [stages]chan taken
			for i := range stages {
				if i == 0 || at.way == byNew {
					lockers[i] = at.lockerBehind(t, network, nil, namedlock.WithLease(lease))
				} else {
					lockers[i] = lockers[0]
				}
				names[i], others[i], next[i] = newName("stage"), at.foreign(t), make(chan taken, 1)
				calls[i], under[i] = hold(t, t.Context(), lockers[i], names[i])
				<-time.After(lease / 3 / stages)
			}
			for i, f := range others {
				go func() {
					got, err := f.ask(locksql.SelectGetLock, names[i], int(patience.Seconds()))
					if err == nil && got != 1 {
						err = fmt.Errorf("GET_LOCK returned %d", got)
					}
					next[i] <- taken{under[i].Err() != nil, time.Now(), err}
				}()
			}
			for i := range stages {
				at.awaitWaiter(t, names[i])
			}
			start := time.Now()
			network.Silence()
			timer := time.NewTimer(lease + time.Second)
			for i := range stages {
				got := receive(t, next[i], "the lock comes free")
				require.NoError(t, got.err)
				assert.True(t, got.told, "another had the lock after %v, before its holder was told", got.at.Sub(start))
				requireLost(t, under[i], names[i])
				select {
				case <-timer.C:
					assert.LessOrEqual(t, got.at.Sub(start), lease+time.Second, "later than a plain timer")
				default:
				}
			}
			network.Heal()
			for i := range stages {
				calls[i].requireLossReported(t, names[i])
			}
			for i, f := range others {
				assert.Equal(t, f.id, f.holder(names[i]))
				f.unlock(names[i])
			}
			if at.way == byOpen {
				requireUsable(t, lockers[0])
			}
		})
	})
}

// If wait_timeout is shorter than the lease, it replaces the lease.
func TestPromise14_ShortWaitTimeoutIsTheLease(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			network, f, name := at.network(t), at.foreign(t), newName("short")
			l := at.lockerBehind(t, network, []string{waitTimeout(seconds(time.Second))})
			c, ctx := hold(t, t.Context(), l, name)
			told := make(chan bool, 1)
			go func() {
				got, err := f.ask(locksql.SelectGetLock, name, int(patience.Seconds()))
				told <- err == nil && got == 1 && ctx.Err() != nil
			}()
			at.awaitWaiter(t, name)
			network.Silence()
			assert.True(t, receive(t, told, "another has the lock"), "the holder is told before")
			c.requireLossReported(t, name)
		})
	})
}

// The lease is the session's wait_timeout only while the Locker uses the
// session.
func TestPromise14_WaitTimeoutIsSetBack(t *testing.T) {
	t.Parallel()
	const own = 1234 // seconds
	session := func(t *testing.T, conn *sql.Conn) (id, waitTimeout int64) {
		t.Helper()
		require.NoError(t, conn.QueryRowContext(background, "SELECT CONNECTION_ID(), @@SESSION.wait_timeout").Scan(&id, &waitTimeout))
		return id, waitTimeout
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		db := func(t *testing.T) *sql.DB { return srv.open(t, fmt.Sprintf("wait_timeout=%d", own)) }
		t.Run("New", func(t *testing.T) {
			for _, opts := range [][]namedlock.Option{
				{namedlock.WithLease(10 * time.Second)},
				{namedlock.WithLease(10 * time.Second), namedlock.WithoutServerCheck()},
			} {
				l := setup{srv, byNew}.lockerOn(t, db(t), opts...)
				require.NoError(t, l.WithLock(t.Context(), newName("lease"), 0, func(context.Context) error {
					_, waitTimeout := session(t, l.conn)
					assert.EqualValues(t, 10, waitTimeout)
					return nil
				}))
				require.NoError(t, l.Close())
				_, waitTimeout := session(t, l.conn)
				assert.EqualValues(t, own, waitTimeout)
			}
		})
		t.Run("New, without a lease", func(t *testing.T) {
			l := setup{srv, byNew}.lockerOn(t, db(t))
			require.NoError(t, l.WithLock(t.Context(), newName("lease"), 0, func(context.Context) error {
				_, waitTimeout := session(t, l.conn)
				assert.EqualValues(t, own, waitTimeout)
				return nil
			}))
		})
		back := map[string]func(t *testing.T, l *locker){
			"idle": func(t *testing.T, l *locker) {
				eventually(t, func() bool { return l.db.Stats().InUse == 0 }, "the idle session goes back")
			},
			"Close": func(t *testing.T, l *locker) { require.NoError(t, l.Close()) },
		}
		for how, giveBack := range back {
			t.Run("Open, "+how, func(t *testing.T) {
				l, f, name := setup{srv, byOpen}.lockerOn(t, db(t)), srv.foreign(t), newName("lease")
				var on int64
				require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
					on = f.holder(name)
					return nil
				}))
				giveBack(t, l)
				conn, err := l.db.Conn(t.Context())
				require.NoError(t, err)
				defer conn.Close()
				id, waitTimeout := session(t, conn)
				assert.Equal(t, on, id, "the session is given back")
				assert.EqualValues(t, own, waitTimeout)
			})
		}
	})
}

// The lease frees the lock of a holder that is cut off. It does not free row
// locks of transactions on its other connections: the next holder meets them
// until they are ended, for example by KILL. docs/RELIABILITY.md says so.
func TestPromise14_TheLeaseFreesNoRowLocks(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		network := srv.network(t)
		l := setup{srv, byOpen}.lockerBehind(t, network, nil, namedlock.WithLease(seconds(time.Second)))
		f, name := srv.foreign(t), newName("rows")
		table := "test." + strings.ReplaceAll(newName("rows"), "-", "_")
		for _, statement := range []string{"CREATE TABLE " + table + " (id INT PRIMARY KEY)", "INSERT INTO " + table + " VALUES (1)"} {
			_, err := f.conn.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		c, ctx := hold(t, t.Context(), l, name)
		tx, err := l.db.BeginTx(background, nil)
		require.NoError(t, err)
		var worker, id int64
		require.NoError(t, tx.QueryRowContext(background, "SELECT CONNECTION_ID()").Scan(&worker))
		require.NoError(t, tx.QueryRowContext(background, "SELECT id FROM "+table+" WHERE id = 1 FOR UPDATE").Scan(&id))
		network.Silence()
		f.lockSoon(name) // after the lease
		receive(t, ctx.Done(), "the holder is told")

		ask := "SELECT id FROM " + table + " WHERE id = 1 FOR UPDATE NOWAIT"
		_, err = f.ask(ask)
		var locked *mysql.MySQLError
		require.ErrorAs(t, err, &locked, "the row is locked still")
		assert.Contains(t, []uint16{1205, 3572}, locked.Number)
		f.kill(worker)
		eventually(t, func() bool { _, err := f.ask(ask); return err == nil }, "KILL frees the row")
		f.unlock(name)
		c.finish(nil)
		require.ErrorIs(t, c.err(t), namedlock.ErrLost)
	})
}
