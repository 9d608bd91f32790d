package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"runtime"
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

// atOnce is the bound for losses that the socket shows.
const atOnce = 50 * time.Millisecond

// requireLost waits until the context of a lock ends, and checks that its cause
// is a loss.
func requireLost(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	receive(t, ctx.Done(), "the context under %q ends", name)
	cause := context.Cause(ctx)
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.ErrorIs(t, cause, namedlock.ErrLost)
	var e *namedlock.Error
	require.ErrorAs(t, cause, &e)
	assert.Equal(t, "hold", e.Op)
	assert.Equal(t, name, e.Name)
}

// requireLossReported lets fn return after a loss, and checks the error of the
// call.
func (c *call) requireLossReported(t *testing.T, name string) {
	t.Helper()
	own := errors.New("fn's own")
	c.finish(own)
	err := c.err(t)
	require.ErrorIs(t, err, namedlock.ErrLost)
	require.ErrorIs(t, err, own)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "release", e.Op)
	assert.Equal(t, name, e.Name)
}

func requireHeld(t *testing.T, ctx context.Context) {
	t.Helper()
	require.NoError(t, context.Cause(ctx), "the lock is held")
}

// A victim is a lock to lose.
type victim struct {
	ctx  context.Context // of the code under the lock
	lose func()          // takes the lock away
	then func()          // checks the state afterwards
}

// requireNoticed makes a victim lose its lock. It fails the test unless the
// code under the lock is told within limit after lose has returned.
func requireNoticed(t *testing.T, limit time.Duration, doomed func() victim) {
	t.Helper()
	v := doomed()
	requireHeld(t, v.ctx)
	told := make(chan time.Time, 1)
	go func() {
		<-v.ctx.Done()
		told <- time.Now()
	}()
	prompt(t, limit, "the loss is noticed", func() time.Duration {
		v.lose()
		start := time.Now()
		return receive(t, told, "the loss is noticed").Sub(start)
	})
	v.then()
}

// victim acquires a lock of l by WithLock. The lock is lost when kill is called
// with the lock's name and session.
func (l *locker) victim(t *testing.T, f *foreign, kill func(name string, session int64)) victim {
	t.Helper()
	name := newName("victim")
	c, ctx := hold(t, t.Context(), l, name)
	session := f.holder(name)
	require.NotZero(t, session)
	return victim{
		ctx:  ctx,
		lose: func() { kill(name, session) },
		then: func() {
			t.Helper()
			requireLost(t, ctx, name)
			f.lockSoon(name)
			c.requireLossReported(t, name)
			assert.Equal(t, f.id, f.holder(name))
			f.unlock(name)
		},
	}
}

// acquiredVictim is victim with Acquire.
func (l *locker) acquiredVictim(t *testing.T, f *foreign, kill func(name string, session int64)) victim {
	t.Helper()
	name := newName("victim")
	lock, err := l.Acquire(t.Context(), name, 0)
	require.NoError(t, err)
	session := f.holder(name)
	require.NotZero(t, session)
	return victim{
		ctx:  lock.Context(),
		lose: func() { kill(name, session) },
		then: func() {
			t.Helper()
			requireLost(t, lock.Context(), name)
			f.lockSoon(name)
			for range 2 {
				requireError(t, lock.Release(), namedlock.ErrLost, name)
			}
			assert.Equal(t, f.id, f.holder(name))
			f.unlock(name)
		},
	}
}

// onPrivateServers is onEachServer with servers that no other test uses at the
// same time, for tests that change or stop them.
func onPrivateServers(t *testing.T, test func(t *testing.T, srv *server)) {
	for _, kind := range on().Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, borrow(t, kind))
		})
	}
}

// bothWays runs the test with Open and with New, at the same time.
func (s *server) bothWays(t *testing.T, test func(t *testing.T, at setup)) {
	for _, way := range []string{byOpen, byNew} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			test(t, setup{s, way})
		})
	}
}

// openWrapped returns a pool that ends with the test, with a driver that is not
// go-sql-driver, and that frees the locks of a session when it is reset.
func (s *server) openWrapped(t *testing.T) (*sql.DB, *spy.Spy) {
	t.Helper()
	cfg, err := mysql.ParseDSN(s.DSN())
	require.NoError(t, err)
	cfg.Logger = &mysql.NopLogger{}
	connector, err := spy.New(cfg)
	require.NoError(t, err)
	connector.ForgetOnReset()
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db, connector
}

// No other test runs at the same time as the tests of losses that show at once.

// The holder's session is killed.
func TestPromise11_KillIsNoticedAtOnce(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		kill := func(_ string, session int64) { f.kill(session) }
		requireNoticed(t, atOnce, func() victim { return at.locker(t).victim(t, f, kill) })
		requireNoticed(t, atOnce, func() victim { return at.locker(t).acquiredVictim(t, f, kill) })
	})
}

// A KILL is also noticed at once while the code under the lock waits for a
// statement on another connection.
func TestPromise11_KillEndsQueriesUnderFnsContext(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		f, db := at.foreign(t), at.open(t)
		requireNoticed(t, atOnce, func() victim {
			l, name := at.locker(t), newName("work")
			at, ends := make(chan context.Context, 1), make(chan error, 1)
			worked, done := context.WithCancelCause(background)
			go func() {
				ends <- l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
					at <- ctx
					_, err := db.ExecContext(ctx, "SELECT SLEEP(60)")
					done(err)
					return err
				})
			}()
			receive(t, at, "fn runs")
			session := f.holder(name)
			return victim{worked, func() { f.kill(session) }, func() {
				err := receive(t, ends, "WithLock ends")
				require.ErrorIs(t, err, namedlock.ErrLost)
				require.ErrorIs(t, err, context.Canceled)
			}}
		})
	})
}

// A KILL loses the locks of that session. With enough sessions that is one
// lock.
func TestPromise11_OneKillTakesOneLock(t *testing.T) {
	t.Parallel()
	const chains = 20
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, sessions := range []int{chains, 7} {
			l, f := setup{srv, byOpen}.locker(t, namedlock.WithMaxSessions(sessions)), srv.foreign(t)
			var calls [chains]*call
			var under [chains]context.Context
			var names [chains]string
			var on [chains]int64
			for i := range chains {
				names[i] = newName("chain")
				calls[i], under[i] = hold(t, t.Context(), l, names[i])
				on[i] = f.holder(names[i])
			}
			f.kill(on[11])
			requireLost(t, under[11], names[11])
			lost := 0
			for i := range chains {
				if on[i] == on[11] {
					requireLost(t, under[i], names[i])
					lost++
				}
			}
			if sessions == chains {
				assert.Equal(t, 1, lost)
			}
			assert.Less(t, lost, 5)
			requireUsable(t, l)
			// A holder that has not been told by now will not be told.
			<-time.After(2 * atOnce)
			for i := range chains {
				if on[i] == on[11] {
					f.lockSoon(names[i])
					calls[i].requireLossReported(t, names[i])
					f.unlock(names[i])
					continue
				}
				requireHeld(t, under[i])
				assert.Equal(t, on[i], f.holder(names[i]))
				calls[i].release(t)
				assert.Equal(t, context.Canceled, context.Cause(under[i]))
			}
			f.free(names[:]...)
		}
	})
}

// Nested locks are on one session. They are lost together, and each reports the
// loss.
func TestPromise11_NestedLocksAreLostTogether(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		outerName, innerName := newName("outer"), newName("inner")
		outer, outerCtx := hold(t, t.Context(), l, outerName)
		inner, innerCtx := hold(t, context.WithoutCancel(outerCtx), l, innerName)
		f.kill(f.holder(outerName))
		requireLost(t, outerCtx, outerName)
		requireLost(t, innerCtx, innerName)
		inner.requireLossReported(t, innerName)
		outer.requireLossReported(t, outerName)
		f.lockSoon(outerName)
		f.lockSoon(innerName)
	})
}

// The locks are released, but the session lives.
func TestPromise11_ReleasedBehindItsBack(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			f := at.foreign(t)
			requireNoticed(t, twoIntervals(), func() victim {
				db, connector := at.openWrapped(t)
				l := at.lockerOn(t, db, namedlock.WithKeepAlive(often()))
				return l.victim(t, f, func(name string, _ int64) {
					if at.way == byOpen {
						// No other code can use the session, so the release is sent just before
						// the next keep-alive.
						connector.Once(locksql.IsUsedLock, spy.First("SELECT RELEASE_ALL_LOCKS()"))
						return
					}
					var released int
					require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT RELEASE_ALL_LOCKS()").Scan(&released))
					require.NotZero(t, released)
					require.Zero(t, f.holder(name))
				})
			})
		})
	})
}

// If one of many locks is lost, all locks of the session are in doubt,
// whichever it is.
func TestPromise12_EveryLockIsProved(t *testing.T) {
	t.Parallel()
	const locks = 150 // more names than one statement checks
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, gone := range []int{0, 63, 64, 149} {
			t.Run(fmt.Sprint(gone), func(t *testing.T) {
				t.Parallel()
				f := srv.foreign(t)
				requireNoticed(t, twoIntervals(), func() victim {
					l := setup{srv, byNew}.locker(t, namedlock.WithKeepAlive(often()))
					var held [locks]*namedlock.Lock
					for i := range held {
						var err error
						held[i], err = l.Acquire(t.Context(), newName("many"), 0)
						require.NoError(t, err)
					}
					one := held[gone]
					return victim{one.Context(), func() {
						var released int
						require.NoError(t, l.conn.QueryRowContext(t.Context(), locksql.SelectReleaseLock, one.Name()).Scan(&released))
						require.Equal(t, 1, released)
					}, func() {
						for _, lock := range held {
							requireLost(t, lock.Context(), lock.Name())
							requireError(t, lock.Release(), namedlock.ErrLost, lock.Name())
							f.lockSoon(lock.Name())
						}
						f.number("SELECT RELEASE_ALL_LOCKS()")
					}}
				})
			})
		}
	})
}

// The primary becomes a replica while a lock is held.
func TestPromise11_ReadOnlyServerIsALoss(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		set := func(readOnly string) {
			_, err := srv.admin.ExecContext(background, "SET GLOBAL read_only = "+readOnly)
			require.NoError(t, err)
		}
		for _, way := range []string{byOpen, byNew} {
			f := srv.foreign(t)
			var l *locker
			requireNoticed(t, twoIntervals(), func() victim {
				set("OFF")
				l = setup{srv, way}.locker(t, namedlock.WithKeepAlive(often()))
				return l.victim(t, f, func(string, int64) { set("ON") })
			})
			name := newName("read-only")
			fresh := setup{srv, way}.locker(t)
			requireError(t, fresh.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnsupported, name)
			requireError(t, fresh.WithLock(t.Context(), name, namedlock.Forever, unexpected(t)), namedlock.ErrUnsupported, name)
			assert.ErrorContains(t, fresh.WithLock(t.Context(), name, 0, unexpected(t)), "read-only")
			requireUsable(t, setup{srv, way}.locker(t, namedlock.WithoutServerCheck()))
			if way == byOpen {
				requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnsupported, name)
				set("OFF")
				requireUsable(t, l)
			}
			set("OFF")
			requireUsable(t, fresh)
		}
	})
}

// A demoted server is also refused if no lock is held for long enough for a
// keep-alive.
func TestPromise22_DemotedServerIsRefusedToBusyLockers(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		for _, way := range []string{byOpen, byNew} {
			l := setup{srv, way}.locker(t, namedlock.WithKeepAlive(often()))
			name := newName("busy")
			requireUsable(t, l)
			_, err := srv.admin.ExecContext(background, "SET GLOBAL read_only = ON")
			require.NoError(t, err)
			prompt(t, 2*twoIntervals(), "a read-only server is used no more by "+way, func() time.Duration {
				for start := time.Now(); ; {
					err := l.WithLock(t.Context(), name, 0, func(context.Context) error {
						time.Sleep(5 * time.Millisecond) // the work under the lock
						return nil
					})
					took := time.Since(start)
					if errors.Is(err, namedlock.ErrUnsupported) || errors.Is(err, namedlock.ErrLost) || took > patience {
						return took
					}
					require.NoError(t, err)
				}
			})
			_, err = srv.admin.ExecContext(background, "SET GLOBAL read_only = OFF")
			require.NoError(t, err)
		}
	})
}

// The socket also shows a loss under TLS. Bytes that the server sends without a
// request are not a loss.
func TestPromise11_KillUnderTLSIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		if srv.Kind() == servers.MariaDB { // MySQL makes certificates itself
			srv = plainMariaDB.borrow(t)
		}
		for _, way := range []string{byOpen, byNew} {
			f := srv.foreign(t)
			requireNoticed(t, atOnce, func() victim {
				db := srv.open(t, "tls=skip-verify")
				var variable, cipher string
				require.NoError(t, db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&variable, &cipher))
				require.NotEmpty(t, cipher)
				v := setup{srv, way}.lockerOn(t, db).victim(t, f, func(_ string, session int64) { f.kill(session) })
				<-time.After(6 * atOnce)
				requireHeld(t, v.ctx)
				return v
			})
		}
	})
}

// On Linux no probe is needed: the kernel reports the end of a connection.
func TestPromise11_TheKernelTellsOfAKill(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports the end of a connection")
	}
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		l := at.locker(t, namedlock.WithProbe(time.Hour), namedlock.WithKeepAlive(time.Hour))
		first, firstCtx := hold(t, t.Context(), l, newName("told"))
		requireHeld(t, firstCtx)
		name := newName("told")
		c, ctx := hold(t, t.Context(), l, name)
		f.kill(f.holder(name))
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			require.FailNow(t, "the loss was not reported")
		}
		require.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
		c.finish(nil)
		require.ErrorIs(t, c.err(t), namedlock.ErrLost)
		if at.way == byOpen {
			requireHeld(t, firstCtx)
			first.release(t)
			return
		}
		first.finish(nil)
		require.ErrorIs(t, first.err(t), namedlock.ErrLost)
	})
}

// The kernel also reports a KILL while rows of fn are open, when no statement
// can be sent, and the driver cannot check the socket. Rows that the server
// still has to send come before the end of the stream.
func TestPromise11_TheKernelTellsBesideOpenRows(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports the end of a connection")
	}
	open := map[string]func(ctx context.Context, q querier) (*sql.Rows, error){
		"context": func(ctx context.Context, q querier) (*sql.Rows, error) { return q.QueryContext(ctx, smallRows) },
		"none":    func(_ context.Context, q querier) (*sql.Rows, error) { return q.QueryContext(background, smallRows) },
	}
	requireTold := func(t *testing.T, ctx context.Context, f *foreign, name string, rows *sql.Rows) {
		requireNoticed(t, atOnce, func() victim {
			require.True(t, rows.Next())
			session := f.holder(name)
			return victim{ctx, func() { f.kill(session) }, func() { requireLost(t, ctx, name) }}
		})
	}
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		for what, query := range open {
			t.Run(what, func(t *testing.T) {
				l, name := at.locker(t), newName("rows")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					rows, err := query(ctx, tx)
					if err != nil {
						return err
					}
					defer rows.Close()
					requireTold(t, ctx, f, name, rows)
					return nil
				})
				require.ErrorIs(t, err, namedlock.ErrLost)
				if at.way == byOpen {
					return
				}
				l, name = at.locker(t), newName("rows")
				err = l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
					rows, err := query(ctx, l.conn)
					if err != nil {
						return err
					}
					defer rows.Close()
					requireTold(t, ctx, f, name, rows)
					return nil
				})
				require.ErrorIs(t, err, namedlock.ErrLost)
			})
		}
	})
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// If the socket cannot be probed, the keep-alive detects the loss. Nothing else
// is taken for a loss.
func TestPromise11_KillIsNoticedWithoutTheProbe(t *testing.T) {
	t.Parallel()
	lockers := map[string]func(t *testing.T, at setup) *locker{
		"checkConnLiveness=false": func(t *testing.T, at setup) *locker {
			return at.lockerOn(t, at.open(t, "checkConnLiveness=false"), namedlock.WithKeepAlive(calm()))
		},
		"WithProbe(0)": func(t *testing.T, at setup) *locker {
			return at.locker(t, namedlock.WithKeepAlive(calm()), namedlock.WithProbe(0))
		},
		"a connection that is not a syscall.Conn": func(t *testing.T, at setup) *locker {
			cfg, err := mysql.ParseDSN(at.DSN())
			require.NoError(t, err)
			cfg.Logger = &mysql.NopLogger{}
			cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return struct{ net.Conn }{conn}, err
			}
			connector, err := mysql.NewConnector(cfg)
			require.NoError(t, err)
			db := sql.OpenDB(connector)
			t.Cleanup(func() { db.Close() })
			return at.lockerOn(t, db, namedlock.WithKeepAlive(calm()))
		},
		"another driver": func(t *testing.T, at setup) *locker {
			db, _ := at.openWrapped(t)
			return at.lockerOn(t, db, namedlock.WithKeepAlive(calm()))
		},
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, locker := range lockers {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				srv.bothWays(t, func(t *testing.T, at setup) {
					f := at.foreign(t)
					requireNoticed(t, 2*calm(), func() victim {
						v := locker(t, at).victim(t, f, func(_ string, session int64) { f.kill(session) })
						afterKeepAlive()
						requireHeld(t, v.ctx)
						return v
					})
				})
			})
		}
	})
}

// ResetSession of another driver may really reset the session, so the Locker
// does not call it.
func TestPromise11_OtherDriversSessionsAreNotReset(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		db, connector := at.openWrapped(t)
		l, f, name := at.lockerOn(t, db, namedlock.WithProbe(time.Millisecond), namedlock.WithKeepAlive(calm())), at.foreign(t), newName("reset")
		c, ctx := hold(t, t.Context(), l, name)
		before := connector.Resets()
		afterKeepAlive()
		assert.Equal(t, before, connector.Resets())
		requireHeld(t, ctx)
		assert.NotZero(t, f.holder(name))
		c.release(t)
	})
}
