package e2e

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// An ending is a way to end a transaction under its code.
type ending struct {
	// end is called after the first row has been written.
	end func(t *testing.T, at setup, ctx context.Context, tx *sql.Tx, table string) error
	// kept is true if end commits the first row.
	kept bool
	// noFlags is true if no status flag shows the end, but a savepoint does.
	noFlags bool
}

func sends(statement string) func(*testing.T, setup, context.Context, *sql.Tx, string) error {
	return func(_ *testing.T, _ setup, ctx context.Context, tx *sql.Tx, table string) error {
		_, err := tx.ExecContext(ctx, strings.ReplaceAll(statement, "TABLE_NAME", table))
		return err
	}
}

var endings = map[string]ending{
	"COMMIT":      {end: sends("COMMIT"), kept: true},
	"ROLLBACK":    {end: sends("ROLLBACK")},
	"DDL":         {end: sends("ALTER TABLE TABLE_NAME COMMENT 'changed'"), kept: true},
	"LOCK TABLES": {end: sends("LOCK TABLES TABLE_NAME WRITE"), kept: true},
	"procedure":   {end: callRollback},
	"deadlock":    {end: deadlock},
	"new one":     {end: sends("START TRANSACTION"), kept: true, noFlags: true},
}

// callRollback calls a procedure that handles its error by a ROLLBACK.
func callRollback(t *testing.T, at setup, ctx context.Context, tx *sql.Tx, table string) error {
	name := "test." + strings.ReplaceAll(newName("proc"), "-", "_")
	_, err := at.admin.Exec("CREATE PROCEDURE " + name + "() BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION ROLLBACK; SIGNAL SQLSTATE '45000'; END")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = at.admin.Exec("DROP PROCEDURE " + name) })
	_, err = tx.ExecContext(ctx, "CALL "+name+"()")
	return err
}

// deadlock makes the transaction the victim of a deadlock of row locks, and
// ignores the error.
func deadlock(t *testing.T, at setup, ctx context.Context, tx *sql.Tx, table string) error {
	rows := at.table(t, "id INT PRIMARY KEY, n INT")
	_, err := at.admin.Exec("INSERT INTO " + rows + " VALUES (1, 0), (2, 0)")
	require.NoError(t, err)
	other, err := at.admin.BeginTx(background, nil)
	require.NoError(t, err)
	defer other.Rollback()
	// The victim is the transaction that has changed fewer rows.
	_, err = other.Exec("INSERT INTO " + rows + " VALUES (11, 0), (12, 0), (13, 0), (14, 0), (15, 0)")
	require.NoError(t, err)
	_, err = other.Exec("UPDATE " + rows + " SET n = 1 WHERE id = 2")
	require.NoError(t, err)
	_, err = tx.ExecContext(ctx, "UPDATE "+rows+" SET n = 2 WHERE id = 1")
	require.NoError(t, err)
	var id int64
	require.NoError(t, other.QueryRow("SELECT CONNECTION_ID()").Scan(&id))
	waits := inBackground(func() error {
		_, err := other.Exec("UPDATE " + rows + " SET n = 1 WHERE id = 1")
		return err
	})
	at.awaitRowWait(t, id)
	_, err = tx.ExecContext(ctx, "UPDATE "+rows+" SET n = 2 WHERE id = 2")
	require.ErrorContains(t, err, "1213")
	require.NoError(t, receive(t, waits, "the other transaction has the row"))
	return nil // fn ignores the error
}

// txWays has the ways to connect for a transaction. With plain the driver shows
// the status flags. With autocommit=0 they do not show whether the transaction
// is open. With wrapped the driver's connection cannot be accessed.
var txWays = map[string]func(t *testing.T, at setup) *locker{
	"plain":        func(t *testing.T, at setup) *locker { return at.locker(t) },
	"autocommit=0": func(t *testing.T, at setup) *locker { return at.lockerOn(t, at.open(t, "autocommit=0")) },
	"wrapped":      func(t *testing.T, at setup) *locker { return at.spied(t) },
}

// A transaction that ends under its code never counts as committed. Rows
// written after its end stay, and the error says so.
func TestPromise42_EndedUnderItsCode(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for way, locker := range txWays {
			for how, e := range endings {
				if e.noFlags && way == "plain" {
					continue
				}
				t.Run(way+"/"+how, func(t *testing.T) {
					l, f, name, table := locker(t, at), at.foreign(t), newName("ended"), at.table(t, "n INT")
					for _, returned := range []error{nil, errTx} {
						before := at.count(t, table)
						err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
							require.NoError(t, insert(table)(ctx, tx))
							require.NoError(t, e.end(t, at, ctx, tx, table))
							require.NoError(t, insert(table)(ctx, tx))
							return returned
						})
						requireTx(t, err, namedlock.ErrTxEnded, namedlock.TxUnknown)
						assert.NotErrorIs(t, err, namedlock.ErrLost)
						if returned != nil {
							assert.ErrorIs(t, err, returned)
						}
						f.free(name)
						if way == "plain" {
							after := 1
							if e.kept {
								after++
							}
							if how == "deadlock" && at.hidesDeadlocks() {
								after = 0 // it belongs to the transaction, which is rolled back
							}
							assert.Equal(t, after, at.count(t, table)-before, "rows")
						}
						// Nothing is left: no lock on the table, and no transaction.
						_, err = f.conn.ExecContext(background, "LOCK TABLES "+table+" WRITE")
						require.NoError(t, err)
						_, err = f.conn.ExecContext(background, "UNLOCK TABLES")
						require.NoError(t, err)
						require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
					}
				})
			}
		}
	})
}

// requireTx requires that err matches target, and contains the outcome of the
// transaction.
func requireTx(t *testing.T, err, target error, outcome namedlock.TxOutcome) {
	t.Helper()
	require.ErrorIs(t, err, target)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, outcome.String(), e.Tx.String(), "%v", err)
}

// The transaction is the victim of a deadlock at its last statement. If fn
// returns the error, the caller gets it unchanged. If fn ignores the error, a
// savepoint shows the rollback. The status flags do not show it, since an error
// does not contain them.
func TestPromise42_DeadlockAsTheLastWord(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for way, locker := range txWays {
			t.Run(way, func(t *testing.T) {
				l, name, table := locker(t, at), newName("victim"), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					require.NoError(t, insert(table)(ctx, tx))
					return deadlock(t, at, ctx, tx, table)
				})
				if way != "plain" || at.hidesDeadlocks() {
					requireTx(t, err, namedlock.ErrTxEnded, namedlock.TxUnknown)
				}
				victim := &mysql.MySQLError{}
				err = l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					require.NoError(t, insert(table)(ctx, tx))
					require.NoError(t, deadlock(t, at, ctx, tx, table))
					*victim = mysql.MySQLError{Number: 1213, Message: "as the server said it"}
					return victim
				})
				assert.Equal(t, error(victim), err)
				assert.Zero(t, at.count(t, table))
			})
		}
	})
}

// looksForRowWaits is locked while a test reads the row waits. The server
// returns old results if a session has read them within the last 100 ms.
var looksForRowWaits sync.Mutex

// awaitRowWait waits until the transaction of that session waits for a row.
func (s *server) awaitRowWait(t *testing.T, id int64) {
	t.Helper()
	looksForRowWaits.Lock()
	defer looksForRowWaits.Unlock()
	f := s.foreign(t)
	eventually(t, func() bool {
		time.Sleep(150 * time.Millisecond)
		return f.number("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = ? AND trx_state = 'LOCK WAIT'", id) == 1
	}, "the other transaction waits for a row")
}

// lines has the lines of a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// If a transaction has ended before a panic or a Goexit, that is logged.
func TestPromise42_EndedBeforeAPanic(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for how, leave := range map[string]func(){"panic": func() { panic(errTx) }, "goexit": runtime.Goexit} {
			t.Run(how, func(t *testing.T) {
				log := new(lines)
				l, f, name, table := at.locker(t, namedlock.WithLogger(slog.New(slog.NewTextHandler(log, nil)))), at.foreign(t), newName("left"), at.table(t, "n INT")
				gone := make(chan any)
				go func() {
					defer close(gone)
					defer func() { _ = recover() }()
					_ = l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
						assert.NoError(t, insert(table)(ctx, tx))
						_, err := tx.ExecContext(ctx, "COMMIT")
						assert.NoError(t, err)
						leave()
						return nil
					})
				}()
				receive(t, gone, "the call ends")
				f.free(name)
				eventually(t, func() bool { return log.has("transaction had already ended when its function panicked") }, "a line in the log")
			})
		}
	})
}

// An XA transaction that the code begins after the end of its transaction
// cannot be committed. What the code committed before it stays.
func TestPromise42_XA(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for how, returned := range map[string]error{"commit": nil, "rollback": errTx} {
			t.Run(how, func(t *testing.T) {
				l, f, name, table := at.locker(t), at.foreign(t), newName("xa"), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					require.NoError(t, insert(table)(ctx, tx))
					for _, statement := range []string{"COMMIT", "XA START '" + name + "'"} {
						_, err := tx.ExecContext(ctx, statement)
						require.NoError(t, err)
					}
					require.NoError(t, insert(table)(ctx, tx))
					return returned
				})
				requireTx(t, err, namedlock.ErrTxEnded, namedlock.TxUnknown)
				f.lockSoon(name)
				assert.Equal(t, 1, at.count(t, table))
			})
		}
	})
}

// The same holds in a term. The leader's next transaction works.
func TestPromise42_InATerm(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name, table := at.locker(t), newName("term"), at.table(t, "n INT")
		require.NoError(t, l.Lead(t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
			err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				require.NoError(t, insert(table)(ctx, tx))
				_, err := tx.ExecContext(ctx, "ROLLBACK")
				require.NoError(t, err)
				return insert(table)(ctx, tx)
			})
			requireTx(t, err, namedlock.ErrTxEnded, namedlock.TxUnknown)
			assert.Equal(t, 1, at.count(t, table))
			err = term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				require.NoError(t, insert(table)(ctx, tx))
				return errTx
			})
			assert.Equal(t, errTx, err)
			assert.Equal(t, 1, at.count(t, table))
			return ctx.Err()
		}))
	})
}

// The outcome of the transaction, for each way in which a call can end.
func TestPromise46_Outcome(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, table := at.locker(t), at.foreign(t), at.foreign(t), at.table(t, "n INT")
		run := func(l *locker, name string, fn func(ctx context.Context, tx *sql.Tx) error) error {
			return l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				if err := insert(table)(ctx, tx); err != nil {
					return err
				}
				return fn(ctx, tx)
			})
		}
		kill := func(ctx context.Context, name string) {
			killer.kill(f.holder(name))
			<-ctx.Done()
		}
		fresh := func() (*locker, string) { return at.locker(t), newName("outcome") }

		taken := newName("taken")
		f.lock(taken)
		requireTx(t, l.WithLockTx(t.Context(), taken, 0, nil, insert(table)), namedlock.ErrTimeout, namedlock.TxNone)

		l, name := fresh()
		err := run(l, name, func(ctx context.Context, _ *sql.Tx) error { kill(ctx, name); return nil })
		requireTx(t, err, namedlock.ErrLost, namedlock.TxNotCommitted)
		assert.Zero(t, at.count(t, table))

		l, name = fresh()
		err = run(l, name, func(ctx context.Context, _ *sql.Tx) error { kill(ctx, name); return errTx })
		requireTx(t, err, namedlock.ErrLost, namedlock.TxNotCommitted)
		assert.ErrorIs(t, err, errTx)

		l, name = fresh()
		err = run(l, name, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "COMMIT")
			require.NoError(t, err)
			kill(ctx, name)
			return nil
		})
		requireTx(t, err, namedlock.ErrLost, namedlock.TxUnknown)
		assert.ErrorIs(t, err, namedlock.ErrTxEnded)
		assert.Equal(t, 1, at.count(t, table))

		l, name = fresh()
		err = run(l, name, func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, tx.Commit())
			kill(ctx, name)
			return nil
		})
		requireTx(t, err, namedlock.ErrLost, namedlock.TxUnknown)
		assert.ErrorIs(t, err, sql.ErrTxDone)
		assert.Equal(t, 2, at.count(t, table))

		l, name = fresh()
		ctx, cancel := context.WithCancel(t.Context())
		err = l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			cancel()
			return insert(table)(context.WithoutCancel(ctx), tx)
		})
		requireTx(t, err, context.Canceled, namedlock.TxNotCommitted)

		l, name = fresh()
		// The lock is released by hand, so that the release finds no lock.
		err = run(l, name, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, locksql.SelectReleaseLock, name)
			return err
		})
		requireTx(t, err, namedlock.ErrLost, namedlock.TxCommitted)
		assert.Equal(t, 3, at.count(t, table))
		f.unlock(taken)
	})
}

// If the end of ctx cuts off a statement with placeholders, fn may get any
// error of the driver. The caller still gets the error of ctx.
func TestPromise31_CutOffWithPlaceholders(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		bare := errors.New("what the driver had to say")
		l, name := at.locker(t), newName("placeholders")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := l.WithLockTx(ctx, name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			cancel()
			return bare
		})
		requireTx(t, err, context.Canceled, namedlock.TxNotCommitted)
		assert.ErrorIs(t, err, bare)
	})
}

// After a loss fn often returns the cause of its context. The error still
// contains the outcome.
func TestPromise46_TheCauseReturned(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, name, table := at.locker(t), at.foreign(t), at.foreign(t), newName("cause"), at.table(t, "n INT")
		err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, insert(table)(ctx, tx))
			killer.kill(f.holder(name))
			<-ctx.Done()
			return context.Cause(ctx)
		})
		requireTx(t, err, namedlock.ErrLost, namedlock.TxNotCommitted)
	})
}

// The same holds if fn returns the loss of a lock inside.
func TestPromise46_ALossInsideReturned(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, name, table := at.locker(t), at.foreign(t), at.foreign(t), newName("outside"), at.table(t, "n INT")
		inside := func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, insert(table)(ctx, tx))
			return l.WithLock(ctx, newName("inside"), 0, func(ctx context.Context) error {
				killer.kill(f.holder(name))
				<-ctx.Done()
				return nil
			})
		}
		err := l.WithLockTx(t.Context(), name, 0, nil, inside)
		requireTx(t, err, namedlock.ErrLost, namedlock.TxNotCommitted)
		if at.way == byNew { // its connection has ended
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_ = l.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
			err = term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				err := inside(ctx, tx)
				<-ctx.Done()
				return err
			})
			cancel()
			return nil
		})
		requireTx(t, err, namedlock.ErrLost, namedlock.TxNotCommitted)
	})
}

// hidesDeadlocks reports whether the server is a MariaDB whose transactions
// continue after a deadlock has rolled them back.
func (at setup) hidesDeadlocks() bool { return strings.Contains(at.Version(), "MariaDB 10.5") }
