package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// table creates a table with the columns, and drops it when the test ends.
func (s *server) table(t *testing.T, columns string) string {
	t.Helper()
	name := "test." + strings.ReplaceAll(newName("tx"), "-", "_")
	_, err := s.admin.Exec("CREATE TABLE " + name + " (" + columns + ") ENGINE=InnoDB")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = s.admin.Exec("DROP TABLE " + name) })
	return name
}

func (s *server) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, s.admin.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

// insert returns an fn that writes a row.
func insert(table string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES (1)")
		return err
	}
}

// The lock and the transaction are on one session. The snapshot is taken under
// the lock, and the next holder reads the rows that were written.
func TestPromise25_OneSession(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, table := at.locker(t), at.foreign(t), newName("tx"), at.table(t, "n INT")
		_, err := at.admin.Exec("INSERT INTO " + table + " VALUES (1)")
		require.NoError(t, err)
		f.lock(name)
		done := inBackground(func() error {
			return l.WithLockTx(t.Context(), name, namedlock.Forever, nil, func(ctx context.Context, tx *sql.Tx) error {
				var n, id, holder int64
				if err := tx.QueryRowContext(ctx, "SELECT n, CONNECTION_ID(), IS_USED_LOCK(?) FROM "+table, name).Scan(&n, &id, &holder); err != nil {
					return err
				}
				assert.EqualValues(t, 2, n, "the snapshot is older than the lock")
				assert.Equal(t, id, holder)
				_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET n = 3")
				return err
			})
		})
		at.awaitClaim(t, name)
		_, err = at.admin.Exec("UPDATE " + table + " SET n = 2")
		require.NoError(t, err)
		f.unlock(name)
		require.NoError(t, receive(t, done, "the call ends"))
		f.lock(name)
		assert.EqualValues(t, 3, f.number("SELECT n FROM "+table))
		f.unlock(name)
	})
}

// awaitClaim returns when a session of the Locker waits for the lock, or polls.
func (at setup) awaitClaim(t *testing.T, name string) {
	t.Helper()
	if at.way == byOpen {
		at.awaitWaiter(t, name)
	}
}

// Several processes make a thousand increments that read without FOR UPDATE. No
// increment is lost.
func TestPromise25_NoIncrementIsLost(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		name, table := newName("counter"), setup{srv, byOpen}.table(t, "n INT")
		_, err := srv.admin.Exec("INSERT INTO " + table + " VALUES (0)")
		require.NoError(t, err)
		srv.runWorkers(t, jobAdd, name, "", workerTable+"="+table)
		var n int
		require.NoError(t, srv.admin.QueryRow("SELECT n FROM "+table).Scan(&n))
		assert.Equal(t, workers*adders*additions, n)
	})
}

// A large transaction is killed while another session waits for the lock. The
// next holder reads no row of it, and meets no row lock.
func TestPromise26_KilledTransaction(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, name, table := at.locker(t), at.foreign(t), at.foreign(t), newName("large"), at.table(t, "id INT PRIMARY KEY, n INT")
		const rows = 20_000
		values := new(bytes.Buffer)
		for i := range rows {
			fmt.Fprintf(values, ",(%d, 0)", i)
		}
		_, err := at.admin.Exec("INSERT INTO " + table + " VALUES " + values.String()[1:])
		require.NoError(t, err)
		err = l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE "+table+" SET n = 1")
			require.NoError(t, err)
			next := inBackground(func() error {
				_, err := f.ask("SELECT GET_LOCK(?, 20)", name)
				if err == nil {
					_, err = f.conn.ExecContext(background, "SELECT id FROM "+table+" WHERE n <> 0 FOR UPDATE NOWAIT")
				}
				if err == nil {
					var n int64
					if n, err = f.ask("SELECT COUNT(*) FROM " + table + " WHERE n <> 0"); n != 0 {
						err = fmt.Errorf("%d rows of the transaction are there", n)
					}
				}
				return err
			})
			at.awaitWaiter(t, name)
			killer.kill(killer.holder(name))
			require.NoError(t, receive(t, next, "the next holder has the lock"))
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			_, err = tx.ExecContext(t.Context(), "UPDATE "+table+" SET n = 2")
			assert.Error(t, err)
			return nil // fn returns nil, and still nothing must be committed
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		assert.NotErrorIs(t, err, namedlock.ErrCommitUnknown)
		assert.Zero(t, f.number("SELECT COUNT(*) FROM "+table+" WHERE n <> 0"))
		f.unlock(name)
	})
}

var errTx = errors.New("fn's own")

// However fn ends, except by returning nil, nothing is committed, the lock is
// free, and the session is not in a transaction.
func TestPromise27_Rollback(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		for how, end := range map[string]func(t *testing.T, cancel func()) error{
			"error":  func(*testing.T, func()) error { return errTx },
			"panic":  func(*testing.T, func()) error { panic(errTx) },
			"goexit": func(*testing.T, func()) error { runtime.Goexit(); return nil },
			"cancel": func(_ *testing.T, cancel func()) error { cancel(); return nil },
		} {
			t.Run(how, func(t *testing.T) {
				name, table := newName(how), at.table(t, "n INT")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var err error
				var session int64
				var panicked any
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					defer func() { panicked = recover() }()
					err = l.WithLockTx(ctx, name, 0, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(ctx context.Context, tx *sql.Tx) error {
						if err := insert(table)(ctx, tx); err != nil {
							return err
						}
						session = f.holder(name)
						return end(t, cancel)
					})
				}()
				receive(t, ended, "the call ends")
				switch how {
				case "error":
					assert.Equal(t, errTx, err)
				case "panic":
					assert.Equal(t, errTx, panicked)
				case "cancel":
					requireError(t, err, context.Canceled, name)
				}
				assert.Zero(t, at.count(t, table))
				f.free(name)
				require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					var id int64
					var level string
					ask := "SELECT CONNECTION_ID(), @@transaction_isolation"
					if strings.Contains(at.Version(), "MariaDB") {
						ask = "SELECT CONNECTION_ID(), @@tx_isolation"
					}
					if err := tx.QueryRowContext(ctx, ask).Scan(&id, &level); err != nil {
						return err
					}
					if id != session { // it went back to the db after it had been idle for a second
						assert.Zero(t, l.Stats().SessionsDiscarded, "the session has been kept")
					}
					assert.Equal(t, "REPEATABLE-READ", level)
					return insert(table)(ctx, tx)
				}))
				assert.Equal(t, 1, at.count(t, table))
			})
		}
	})
}

// If fn ends the transaction itself, the call returns an error.
func TestPromise28_EndedByFn(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, table := at.locker(t), at.foreign(t), newName("ended"), at.table(t, "n INT")
		for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
			err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				if err := insert(table)(ctx, tx); err != nil {
					return err
				}
				return end(tx)
			})
			assert.Equal(t, sql.ErrTxDone, err)
			f.free(name)
		}
		assert.Equal(t, 1, at.count(t, table))
	})
}

// Only its call uses the session of a transaction. The session does not count
// towards the limit. If the db has no connection left, the call waits for one.
func TestPromise29_SessionOfItsOwn(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		db := srv.open(t)
		db.SetMaxOpenConns(3)
		l, f := at.lockerOn(t, db, namedlock.WithMaxSessions(1)), at.foreign(t)
		name, other, plain := newName("own"), newName("other"), newName("plain")
		nothing := func(context.Context, *sql.Tx) error { return nil }
		var waits <-chan error
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(context.Context, *sql.Tx) error {
			mine := f.holder(name)
			for range 3 {
				require.NoError(t, l.WithLock(t.Context(), plain, 0, func(context.Context) error {
					assert.NotEqual(t, mine, f.holder(plain))
					return nil
				}))
			}
			return l.WithLockTx(t.Context(), other, 0, nil, func(context.Context, *sql.Tx) error {
				assert.NotEqual(t, mine, f.holder(other))
				third := newName("third")
				assert.ErrorIs(t, l.WithLockTx(t.Context(), third, 0, nil, nothing), namedlock.ErrNoSession)
				assert.ErrorIs(t, l.WithLockTx(t.Context(), third, 50*time.Millisecond, nil, nothing), namedlock.ErrNoSession)
				waits = inBackground(func() error { return l.WithLockTx(t.Context(), third, namedlock.Forever, nil, nothing) })
				eventually(t, func() bool { return l.Stats().Waiting == 1 }, "the third call waits")
				return nil
			})
		}))
		require.NoError(t, receive(t, waits, "the third call has a session"))
	})
}

// The lock of a transaction is not passed on, or prefetched: each transaction
// gets the lock from the server.
func TestPromise29_NoHandOff(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byOpen}.locker(t, namedlock.WithHandOff(time.Minute))
		name, table := newName("handed"), srv.table(t, "n INT")
		var all sync.WaitGroup
		const callers, each = 4, 25
		for range callers {
			all.Go(func() {
				for range each {
					assert.NoError(t, l.WithLockTx(t.Context(), name, namedlock.Forever, nil, insert(table)))
				}
			})
		}
		all.Wait()
		assert.Zero(t, l.Stats().HandOffs)
		assert.Equal(t, callers*each, srv.count(t, table))
	})
}

// Other locks nest in the transaction, and none of their errors ends the
// transaction.
func TestPromise30_LocksNestInTheTransaction(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, table := at.locker(t), at.foreign(t), at.table(t, "n INT")
		name, inner, busy := newName("outer"), newName("inner"), newName("busy")
		f.lock(busy)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			if err := insert(table)(ctx, tx); err != nil {
				return err
			}
			requireError(t, l.WithLock(ctx, busy, 0, unexpected(t)), namedlock.ErrTimeout, busy)
			requireError(t, l.WithLock(ctx, busy, 200*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, busy)
			requireError(t, l.WithLock(ctx, name, 0, unexpected(t)), namedlock.ErrReentrant, name)
			requireError(t, l.WithLockTx(ctx, inner, 0, nil, func(context.Context, *sql.Tx) error {
				t.Error("a transaction in a transaction")
				return nil
			}), namedlock.ErrInTransaction, inner)
			require.NoError(t, l.WithLock(ctx, inner, 0, func(context.Context) error {
				assert.Equal(t, f.holder(name), f.holder(inner))
				return nil
			}))
			return insert(table)(ctx, tx)
		}))
		assert.Equal(t, 2, at.count(t, table))
		f.unlock(busy)
		f.free(name, inner)
	})
}

// A lock in a transaction is on the session of the transaction. That also holds
// just after a wait on that session was left, when the server may not have
// ended the wait yet.
func TestPromise30_LocksNestAfterATimeout(t *testing.T) {
	// No other test runs at the same time, since the busy goroutines would delay
	// it.
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f, busy := at.locker(t, namedlock.WithMaxSessions(32)), at.foreign(t), newName("busy")
		f.lock(busy)
		defer busyLoops(4)()
		var callers sync.WaitGroup
		for caller := range 8 {
			name, free := newName("tx"), newName("free")
			callers.Go(func() {
				for i := range 25 {
					err := l.WithLockTx(t.Context(), name, patience, nil, func(ctx context.Context, tx *sql.Tx) error {
						timeout := time.Duration(1+(7*i+caller)%20) * time.Millisecond
						if err := l.WithLock(ctx, busy, timeout, unexpected(t)); !errors.Is(err, namedlock.ErrTimeout) {
							return fmt.Errorf("a lock that a foreign session holds: %w", err)
						}
						return l.WithLock(ctx, free, patience, func(ctx context.Context) error {
							var id, holder int64
							err := tx.QueryRowContext(ctx, "SELECT CONNECTION_ID(), IS_USED_LOCK(?)", free).Scan(&id, &holder)
							if err == nil && id != holder {
								err = fmt.Errorf("the transaction is on connection %d, the lock in it on %d", id, holder)
							}
							return err
						})
					})
					assert.NoError(t, err)
				}
			})
		}
		callers.Wait()
		f.unlock(busy)
	})
}

// busyLoops keeps n goroutines busy until stop is called.
func busyLoops(n int) (stop func()) {
	var stopped atomic.Bool
	var loops sync.WaitGroup
	for range n {
		loops.Go(func() {
			for !stopped.Load() {
			}
		})
	}
	return func() {
		stopped.Store(true)
		loops.Wait()
	}
}

// A transaction under a lock of its own chain is on the session of that lock,
// and ends without ending the lock.
func TestPromise30_TransactionUnderALock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, table := at.locker(t), at.foreign(t), at.table(t, "n INT")
		outer, name := newName("outer"), newName("inner")
		for range 2 {
			require.NoError(t, l.WithLock(t.Context(), outer, 0, func(ctx context.Context) error {
				require.NoError(t, l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					assert.Equal(t, f.holder(outer), f.holder(name))
					return insert(table)(ctx, tx)
				}))
				assert.NotZero(t, f.holder(outer))
				f.free(name)
				return ctx.Err()
			}))
		}
		f.free(outer)
		assert.Equal(t, 2, at.count(t, table))
	})
}

// A deadlock that the server detects ends one call, and not its transaction.
func TestPromise30_DeadlockInside(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f, table := at.locker(t), at.foreign(t), at.table(t, "n INT")
		name, other := newName("mine"), newName("theirs")
		f.lock(other)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			if err := insert(table)(ctx, tx); err != nil {
				return err
			}
			theirs := inBackground(func() error {
				_, err := f.ask("SELECT GET_LOCK(?, 1)", name)
				return err
			})
			at.awaitWaiter(t, name)
			if err := l.WithLock(ctx, other, 500*time.Millisecond, unexpected(t)); !errors.Is(err, namedlock.ErrDeadlock) {
				assert.ErrorIs(t, err, namedlock.ErrTimeout, "the server made the foreign session the victim")
			}
			_ = receive(t, theirs, "the foreign wait ends")
			return insert(table)(ctx, tx)
		}))
		assert.Equal(t, 2, at.count(t, table))
	})
}

// If ctx ends in the middle of a statement, the call returns at once, and no
// loss is reported. The server holds the lock until the statement ends. Nothing
// is committed.
func TestPromise31_CutOff(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, whose := range []string{"the caller's", "fn's own"} {
			t.Run(whose, func(t *testing.T) {
				l, f, name, table := at.locker(t, namedlock.WithLogger(quietLogger(t))), at.foreign(t), newName("cut"), at.table(t, "n INT")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var took time.Duration
				prompt(t, 500*time.Millisecond, "the return after a cancel", func() time.Duration {
					var canceled time.Time
					err := l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
						if err := insert(table)(ctx, tx); err != nil {
							return err
						}
						if whose == "fn's own" {
							var cancelOwn context.CancelFunc
							ctx, cancelOwn = context.WithCancel(ctx)
							cancel = cancelOwn
						}
						session := f.holder(name)
						go func() {
							for n := int64(0); n == 0; {
								n, _ = f.ask("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ? AND INFO LIKE '%SLEEP%'", session)
							}
							canceled = time.Now()
							cancel()
						}()
						_, err := tx.ExecContext(ctx, fmt.Sprintf("DO SLEEP(%f)", paced(2*time.Second).Seconds()))
						return err
					})
					took = time.Since(canceled)
					assert.ErrorIs(t, err, context.Canceled)
					assert.NotErrorIs(t, err, namedlock.ErrLost)
					return took
				})
				assert.NotZero(t, f.holder(name), "the server continues the statement")
				f.lockSoon(name)
				assert.Zero(t, at.count(t, table))
				f.unlock(name)
				assert.Zero(t, l.Stats().Lost)
				if at.way == byOpen {
					assert.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
					eventually(t, func() bool { return l.db.Stats().InUse <= 1 }, "the connection is back, or closed")
				}
			})
		}
	})
}

// For a lock around the transaction, on the same session, that is a loss: its
// code still runs, and another session may get the lock.
func TestPromise31_CutOffIsALossForTheLockAround(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, outer, name := at.locker(t), at.foreign(t), newName("around"), newName("cut")
		err := l.WithLock(t.Context(), outer, 0, func(around context.Context) error {
			ctx, cancel := context.WithCancel(around)
			defer cancel()
			err := l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				session := f.holder(name)
				go func() {
					for n := int64(0); n == 0 && ctx.Err() == nil; {
						n, _ = f.ask("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ? AND INFO LIKE '%SLEEP%'", session)
					}
					cancel()
				}()
				_, err := tx.ExecContext(ctx, "DO SLEEP(60)")
				return err
			})
			assert.ErrorIs(t, err, context.Canceled)
			assert.NotErrorIs(t, err, namedlock.ErrLost)
			receive(t, around.Done(), "the code under the lock around is told")
			assert.ErrorIs(t, context.Cause(around), namedlock.ErrLost)
			return nil
		})
		requireError(t, err, namedlock.ErrLost, outer)
	})
}

// While rows of fn are open, and while a statement of fn runs, no keep-alive is
// sent. No byte is damaged and no lock is lost, also if a statement takes
// longer than wait_timeout.
func TestPromise32_KeepAliveBesideRows(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.locker(t, namedlock.WithKeepAlive(calm()))
		name, table := newName("rows"), at.table(t, "id INT PRIMARY KEY AUTO_INCREMENT, wide TEXT")
		const rows, wide = 10_000, 500
		_, err := at.admin.Exec(fmt.Sprintf("INSERT INTO %s (wide) VALUES (REPEAT('x', %d))", table, wide))
		require.NoError(t, err)
		for n := 1; n < rows; n *= 2 {
			_, err := at.admin.Exec(fmt.Sprintf("INSERT INTO %s (wide) SELECT wide FROM %s LIMIT %d", table, table, rows-n))
			require.NoError(t, err)
		}
		require.Equal(t, rows, at.count(t, table))
		for what, query := range map[string]func(ctx context.Context, tx *sql.Tx) (*sql.Rows, error){
			"context": func(ctx context.Context, tx *sql.Tx) (*sql.Rows, error) {
				return tx.QueryContext(ctx, "SELECT wide FROM "+table)
			},
			"none": func(_ context.Context, tx *sql.Tx) (*sql.Rows, error) { return tx.Query("SELECT wide FROM " + table) },
		} {
			err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				answer, err := query(ctx, tx)
				if err != nil {
					return err
				}
				defer answer.Close()
				n := 0
				var text sql.RawBytes
				want := bytes.Repeat([]byte("x"), wide)
				for ; answer.Next(); n++ {
					if n%500 == 0 { // in all, this takes longer than an interval
						time.Sleep(calm() / 16)
					}
					if err := answer.Scan(&text); err != nil {
						return err
					}
					if !bytes.Equal(want, text) {
						return fmt.Errorf("row %d is damaged", n)
					}
				}
				if n != rows {
					return fmt.Errorf("%d rows: %w", n, errors.Join(answer.Err(), context.Cause(ctx)))
				}
				return answer.Err()
			})
			require.NoError(t, err, what)
		}
	})
}

// The same holds if the driver has no unread bytes between two rows. Each row
// fills the server's buffer, and takes the server a while.
func TestPromise32_KeepAliveBesideSlowRows(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.locker(t, namedlock.WithKeepAlive(calm()))
		name, table := newName("slow"), at.table(t, "id INT PRIMARY KEY AUTO_INCREMENT")
		const rows, wide = 30, 100_000
		for range rows {
			_, err := at.admin.Exec("INSERT INTO " + table + " VALUES ()")
			require.NoError(t, err)
		}
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			answer, err := tx.Query(fmt.Sprintf("SELECT REPEAT('x', %d + SLEEP(0.06)) FROM %s", wide, table))
			if err != nil {
				return err
			}
			defer answer.Close()
			n := 0
			for ; answer.Next(); n++ {
				var text string
				if err := answer.Scan(&text); err != nil {
					return err
				}
				if strings.Trim(text, "x") != "" || len(text) != wide {
					return fmt.Errorf("row %d is damaged", n)
				}
				time.Sleep(calm() / 24) // in all, this takes longer than an interval
			}
			if n != rows {
				return fmt.Errorf("%d rows: %w", n, errors.Join(answer.Err(), context.Cause(ctx)))
			}
			return answer.Err()
		}))
	})
}

// A statement of fn may take longer than wait_timeout, and fn may be idle for
// longer.
func TestPromise32_LongerThanWaitTimeout(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		limit := seconds(time.Second)
		l := at.lockerOn(t, at.open(t, waitTimeout(limit)))
		name, table := newName("long"), at.table(t, "n INT")
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "DO SLEEP("+fmt.Sprint((2*limit).Seconds())+")"); err != nil {
				return err
			}
			select {
			case <-time.After(2 * limit):
			case <-ctx.Done():
			}
			return insert(table)(ctx, tx)
		}))
		assert.Equal(t, 1, at.count(t, table))
	})
}

// A bad argument costs no SQL.
func TestPromise01_BadTxArguments(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.spied(t)
		require.Error(t, l.WithLockTx(t.Context(), "a", 0, nil, nil))
		err := l.WithLockTx(t.Context(), "a", 0, &sql.TxOptions{Isolation: sql.LevelSnapshot}, insert("no"))
		require.ErrorContains(t, err, "isolation level Snapshot")
		assert.Zero(t, l.Stats().Acquired)
	})
}

// A commitCut is a proxy that cuts the connection at COMMIT, before the server
// receives it, or after.
type commitCut struct {
	listener net.Listener
	server   string
	after    bool
	all      sync.WaitGroup
}

func newCommitCut(t *testing.T, server string, after bool) *commitCut {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &commitCut{listener: listener, server: server, after: after}
	p.all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		p.all.Wait()
	})
	return p
}

func (p *commitCut) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	p.all.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil || mute.Load() { // the server has answered COMMIT, and the answer is dropped
				client.Close()
				server.Close()
				return
			}
			_, _ = client.Write(b[:n])
		}
	})
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		if bytes.Contains(b[:n], []byte("COMMIT")) {
			if !p.after {
				return
			}
			mute.Store(true)
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
	}
}

// The connection is cut at COMMIT. Whether the server received it or not, the
// error is ErrCommitUnknown, and not ErrLost.
func TestPromise28_CommitCutOff(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
				db, err := openDB(at.DSNAt(newCommitCut(t, at.Addr(), after).listener.Addr().String()))
				require.NoError(t, err)
				t.Cleanup(func() { db.Close() })
				l, f, name, table := at.lockerOn(t, db), at.foreign(t), newName("commit"), at.table(t, "n INT")
				err = l.WithLockTx(t.Context(), name, 0, nil, insert(table))
				requireError(t, err, namedlock.ErrCommitUnknown, name)
				assert.NotErrorIs(t, err, namedlock.ErrLost)
				f.lockSoon(name) // the session has ended
				committed := 0
				if after {
					committed = 1
				}
				assert.Equal(t, committed, at.count(t, table))
				f.unlock(name)
			})
		}
	})
}

// A server that is demoted during a transaction refuses its COMMIT, and no row
// stays. Or the loss is detected before.
func TestPromise28_DemotedServer(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		for _, host := range []string{"localhost", "127.0.0.1"} { // root may write in spite of read_only
			_, err := srv.admin.Exec("CREATE USER app@'" + host + "'")
			require.NoError(t, err)
			_, err = srv.admin.Exec("GRANT ALL ON test.* TO app@'" + host + "'")
			require.NoError(t, err)
		}
		for _, way := range []string{byOpen, byNew} {
			at := setup{srv, way}
			db, err := openDB(strings.Replace(srv.DSN(), "root@", "app@", 1))
			require.NoError(t, err)
			t.Cleanup(func() { db.Close() })
			l, f, name, table := at.lockerOn(t, db, namedlock.WithKeepAlive(time.Minute)), at.foreign(t), newName("demoted"), at.table(t, "n INT")
			err = l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				if err := insert(table)(ctx, tx); err != nil {
					return err
				}
				_, err := srv.admin.ExecContext(background, "SET GLOBAL read_only = ON")
				return err
			})
			t.Logf("%s: %v", way, err)
			require.Error(t, err)
			assert.NotErrorIs(t, err, namedlock.ErrCommitUnknown)
			f.lockSoon(name)
			assert.Zero(t, at.count(t, table))
			f.unlock(name)
			_, err = srv.admin.ExecContext(background, "SET GLOBAL read_only = OFF")
			require.NoError(t, err)
		}
	})
}

// Statements that commit implicitly commit the statements before them. The lock
// stays held.
func TestPromise33_StatementsThatCommit(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, table := at.locker(t), at.foreign(t), newName("ddl"), at.table(t, "n INT")
		err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			if err := insert(table)(ctx, tx); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "ALTER TABLE "+table+" ADD COLUMN m INT DEFAULT 0"); err != nil {
				return err
			}
			assert.NotZero(t, f.holder(name))
			return errTx
		})
		assert.ErrorIs(t, err, errTx)
		assert.ErrorIs(t, err, namedlock.ErrTxEnded)
		assert.Equal(t, 1, at.count(t, table), "ALTER TABLE has committed it")
		f.free(name)
	})
}
