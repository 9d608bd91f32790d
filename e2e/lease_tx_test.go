package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// The network becomes silent during the library's own COMMIT or ROLLBACK. The
// leader is told before another session gets its lock, as is the holder of a
// lock around the transaction.
func TestPromise44_SilenceUnderTheLibrarysOwnStatement(t *testing.T) {
	t.Parallel()
	lease := seconds(4 * time.Second)
	everyWay(t, func(t *testing.T, at setup) {
		for _, statement := range []string{"COMMIT", "ROLLBACK"} {
			t.Run(statement, func(t *testing.T) {
				t.Parallel()
				network := at.network(t)
				var armed atomic.Bool
				db := at.openTapped(t, at.DSNAt(network.Addr()), func(sent string) []byte {
					if sent == statement && armed.Load() {
						network.Silence()
					}
					return nil
				})
				l := at.lockerOn(t, db, namedlock.WithLease(lease))
				t.Cleanup(func() { network.Close() })
				f, name, table := at.foreign(t), newName("silent"), at.table(t, "n INT")
				led := inBackground(func() error {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					return l.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
						defer cancel()
						told := make(chan bool, 1)
						go func() {
							f.lockSoon(name)
							told <- ctx.Err() != nil
						}()
						armed.Store(true)
						err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
							if err := insert(table)(ctx, tx); err != nil || statement == "COMMIT" {
								return err
							}
							return errTx
						})
						assert.Error(t, err)
						assert.True(t, receive(t, told, "another has the lock"), "two leaders: another has the lock, and this one is not told")
						return nil
					})
				})
				assert.ErrorIs(t, receive(t, led, "the leader ends"), context.Canceled)
				assert.Zero(t, at.count(t, table))
				f.unlock(name)
			})
		}
	})
}

// MariaDB has limits of its own for a session that is idle in a transaction.
// Limits below the keep-alive and the lease cost no lock, however long the code
// is idle. Limits above the lease are set to it, and restored.
func TestPromise14_IdleLimitsOfATransaction(t *testing.T) {
	t.Parallel()
	limits := []string{"idle_transaction_timeout", "idle_readonly_transaction_timeout", "idle_write_transaction_timeout"}
	onMariaDB(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			for _, limit := range limits {
				t.Run(limit, func(t *testing.T) {
					t.Parallel()
					table, name := at.table(t, "n INT"), newName("idle")
					idle := seconds(2 * time.Second)
					l := at.lockerOn(t, at.open(t, fmt.Sprintf("%s=%.0f", limit, idle.Seconds())),
						namedlock.WithKeepAlive(10*idle), namedlock.WithLease(10*idle))
					require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
						if limit != limits[1] {
							require.NoError(t, insert(table)(ctx, tx))
						}
						select {
						case <-ctx.Done():
							return context.Cause(ctx)
						case <-time.After(3 * idle):
							return nil
						}
					}))

					lease := seconds(3 * time.Second)
					unleased := lease + 22*time.Second
					network := at.network(t)
					l = at.lockerBehind(t, network, []string{fmt.Sprintf("%s=%.0f", limit, unleased.Seconds())}, namedlock.WithLease(lease))
					f, name := at.foreign(t), newName("vanished")
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					taken := make(chan time.Duration, 1)
					_ = l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
						if limit != limits[1] {
							require.NoError(t, insert(table)(ctx, tx))
						}
						network.Silence()
						silent := time.Now()
						f.lockSoon(name)
						taken <- time.Since(silent)
						return nil
					})
					assert.Less(t, receive(t, taken, "another has the lock"), unleased-10*time.Second)
					f.unlock(name)
				})
			}
		})
		// The limits that were set for the lease are restored.
		db := srv.open(t, "idle_transaction_timeout=25")
		db.SetMaxOpenConns(2)
		l, err := namedlock.Open(db, namedlock.WithLease(3*time.Second))
		require.NoError(t, err)
		var id, in int
		require.NoError(t, l.WithLockTx(t.Context(), newName("back"), 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			return tx.QueryRowContext(ctx, "SELECT CONNECTION_ID(), @@idle_transaction_timeout").Scan(&id, &in)
		}))
		assert.Equal(t, 3, in)
		require.NoError(t, l.Close())
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		var same, after int
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID(), @@idle_transaction_timeout").Scan(&same, &after))
		assert.Equal(t, id, same)
		assert.Equal(t, 25, after)
	})
}

func onMariaDB(t *testing.T, test func(t *testing.T, srv *server)) {
	onEachServer(t, func(t *testing.T, srv *server) {
		if srv.Kind() != servers.MariaDB {
			return
		}
		test(t, srv)
	})
}

// With New, Holder, Holders and Check under a lock that has the session to
// itself use that session.
func TestCheckAndHolderOnTheChainsOwnSession(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.locker(t), newName("asks")
		ask := func(ctx context.Context) error {
			_, held, err := l.Holder(ctx, name)
			if err == nil && !held {
				err = errors.New("the lock is not held")
			}
			_, listed := l.Holders(ctx, name)
			if errors.Is(listed, namedlock.ErrUnsupported) {
				listed = nil
			}
			return errors.Join(err, listed, l.Check(ctx))
		}
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, _ *sql.Tx) error { return ask(ctx) }))
		require.NoError(t, l.Lead(t.Context(), name, func(ctx context.Context, _ *namedlock.Term) error { return ask(ctx) }))
		require.NoError(t, l.WithLock(t.Context(), name, 0, ask))
	})
}

// The first Check of a Locker that has not sent its greeting to the server does
// not release its locks.
func TestPromise45_FirstCheckUnderALock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byNew}.locker(t, namedlock.WithoutServerCheck()), srv.foreign(t), newName("checked")
		require.NoError(t, l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			require.NoError(t, l.Check(ctx))
			require.NoError(t, l.Check(t.Context()))
			assert.False(t, f.get(name, 0), "Check has given the lock away")
			return ctx.Err()
		}))
		f.free(name)
	})
}

// If the names of a keep-alive do not fit into one packet of the driver, it
// sends several statements.
func TestPromise12_ProofsThatFitThePacket(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.lockerOn(t, at.open(t, "maxAllowedPacket=4096"), namedlock.WithMaxSessions(1), namedlock.WithKeepAlive(calm()))
		var locks []*namedlock.Lock
		for i := range 70 {
			lock, err := l.Acquire(t.Context(), fmt.Sprintf("%-50s", newName("long"))+fmt.Sprint(i), 0)
			require.NoError(t, err)
			locks = append(locks, lock)
		}
		afterKeepAlive()
		for _, lock := range locks {
			assert.NoError(t, lock.Release())
		}
		assert.Zero(t, l.Stats().Lost)
	})
}

// A KILL at the begin of a leader's transaction is the loss of its term.
func TestPromise38_KilledAtTheBegin(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		var session atomic.Int64
		killer := at.foreign(t)
		db := at.openTapped(t, at.DSN(), func(sent string) []byte {
			if id := session.Swap(0); sent == "START TRANSACTION" && id != 0 {
				killer.kill(id)
			} else {
				session.Store(id)
			}
			return nil
		})
		l, f, name := at.lockerOn(t, db), at.foreign(t), newName("begin")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_ = l.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
			defer cancel()
			session.Store(f.holder(name))
			err := term.WithTx(ctx, nil, insert("nowhere"))
			requireTx(t, err, namedlock.ErrLost, namedlock.TxNone)
			assert.Equal(t, 1, strings.Count(err.Error(), name), "%v", err)
			assert.NotContains(t, err.Error(), "hold ")
			err = term.WithTx(ctx, nil, insert("nowhere"))
			requireTx(t, err, namedlock.ErrLost, namedlock.TxNone)
			assert.Equal(t, 1, strings.Count(err.Error(), name), "%v", err)
			return nil
		})
	})
}

// If other code of the leader reads rows, the release of a nested lock waits
// until that code has finished.
func TestPromise38_ReleaseBesideRows(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name, inner := at.locker(t), newName("rows"), newName("nested")
		require.NoError(t, l.Lead(t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
			opened, read := make(chan struct{}), make(chan struct{})
			var done <-chan error
			err := l.WithLock(ctx, inner, 0, func(context.Context) error {
				done = inBackground(func() error {
					return term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
						rows, err := tx.QueryContext(ctx, "SELECT 1 UNION SELECT 2")
						if err != nil {
							return err
						}
						defer rows.Close()
						close(opened)
						<-read
						for rows.Next() {
						}
						return rows.Err()
					})
				})
				receive(t, opened, "the rows are open")
				time.AfterFunc(300*time.Millisecond, func() { close(read) })
				return nil
			})
			assert.NoError(t, err)
			assert.NoError(t, receive(t, done, "the transaction ends"))
			assert.NoError(t, context.Cause(ctx))
			return nil
		}))
		assert.Zero(t, l.Stats().Lost)
	})
}

// fn's own deadline cuts off a statement while a keep-alive waits for the
// session. That is not a loss, even if fn ignores the error.
func TestPromise31_CutOffBeforeAKeepAlive(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for i := range 6 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				keepAlive := calm()
				l, name := at.locker(t, namedlock.WithKeepAlive(keepAlive)), newName("cut")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					short, cancel := context.WithTimeout(ctx, keepAlive+time.Duration(10*i)*time.Millisecond)
					defer cancel()
					_, err := tx.ExecContext(short, fmt.Sprintf("DO SLEEP(%f)", (4*keepAlive).Seconds()))
					assert.Error(t, err)
					if i%2 == 0 {
						<-ctx.Done() // the keep-alive has met the cut-off statement
					}
					return nil
				})
				require.Error(t, err)
				assert.NotErrorIs(t, err, namedlock.ErrLost)
				assert.Zero(t, l.Stats().Lost)
				var e *namedlock.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, namedlock.TxNotCommitted, e.Tx)
			})
		}
	})
}
