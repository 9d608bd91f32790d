package e2e

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// Rows that are still open when fn returns: what the procedure has done after them shows only when they are closed.
func TestPromise42_OpenRowsOfAProcedure(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		proc := "test." + "proc_rows_" + at.way + "_" + time.Now().Format("150405")
		_, err := at.admin.Exec("CREATE PROCEDURE " + proc + "() BEGIN SELECT 1; ROLLBACK; END")
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = at.admin.Exec("DROP PROCEDURE " + proc) })
		for way, locker := range txWays {
			t.Run(way, func(t *testing.T) {
				l, name, table := locker(t, at), newName("rows"), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					require.NoError(t, insert(table)(ctx, tx))
					rows, err := tx.QueryContext(ctx, "CALL "+proc+"()")
					require.NoError(t, err)
					require.True(t, rows.Next())
					return nil
				})
				if at.count(t, table) == 0 {
					assert.Error(t, err, "nothing is there")
				}
				t.Log(err)
			})
		}
	})
}

// A statement that is to be prepared is a victim of a deadlock of metadata locks.
func TestPromise42_VictimAtPrepare(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name, table := at.locker(t), newName("prepare"), at.table(t, "n INT")
		first := at.table(t, "n INT")
		low, high := first, table
		if low > high {
			low, high = high, low
		}
		f := at.foreign(t)
		err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, insert(high)(ctx, tx))
			g := at.foreign(t)
			id := g.number("SELECT CONNECTION_ID()")
			waits := inBackground(func() error {
				_, err := g.conn.ExecContext(background, "RENAME TABLE "+low+" TO "+low+"_x, "+high+" TO "+high+"_x, "+low+"_x TO "+low+", "+high+"_x TO "+high)
				return err
			})
			eventually(t, func() bool {
				return f.number("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ? AND STATE LIKE 'Waiting for table metadata lock%'", id) == 1
			}, "waits for the table")
			_, err := tx.ExecContext(ctx, "UPDATE "+low+" SET n = ?", 5)
			t.Log(err)
			require.ErrorContains(t, err, "1213")
			t.Log(receive(t, waits, "the other has the tables"))
			return nil // swallowed
		})
		t.Log(err, at.count(t, high))
		if at.count(t, high) == 0 {
			assert.Error(t, err)
		}
	})
}

// Where nothing shows whether the transaction is open, a loss does not say that nothing is committed.
func TestPromise46_LossAfterAnUnseenEnd(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for way, locker := range txWays {
			t.Run(way, func(t *testing.T) {
				l, f, killer, name, table := locker(t, at), at.foreign(t), at.foreign(t), newName("unseen"), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					require.NoError(t, insert(table)(ctx, tx))
					_, err := tx.ExecContext(ctx, "COMMIT")
					require.NoError(t, err)
					killer.kill(f.holder(name))
					<-ctx.Done()
					return nil
				})
				assert.Equal(t, 1, at.count(t, table))
				requireTx(t, err, namedlock.ErrLost, namedlock.TxUnknown)
			})
		}
	})
}

// What else stays on a session.
func TestPromise43_OtherLeftovers(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, statement := range map[string]string{
			"handler":  "HANDLER TABLE_NAME OPEN",
			"instance": "LOCK INSTANCE FOR BACKUP",
			"backup":   "BACKUP LOCK TABLE_NAME",
		} {
			t.Run(what, func(t *testing.T) {
				at := setup{srv, byOpen}
				l, f, name, table := at.locker(t), at.foreign(t), newName("tables"), at.table(t, "n INT")
				var refused error
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					refused = sends(statement)(t, at, ctx, tx, table)
					return nil
				})
				if refused != nil {
					t.Skip(refused)
				}
				t.Log(err)
				_, err = f.conn.ExecContext(background, "SET SESSION lock_wait_timeout = 1")
				require.NoError(t, err)
				_, err = f.conn.ExecContext(background, "ALTER TABLE "+table+" COMMENT 'x'")
				assert.NoError(t, err, "the table is still locked")
			})
		}
	})
}

// Another transaction has taken the place of the one that began under the lock.
func TestPromise42_AnotherInItsPlace(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, end := range []string{"ROLLBACK AND CHAIN", "START TRANSACTION"} {
			l, name, table := at.locker(t), newName("chain"), at.table(t, "n INT")
			err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				require.NoError(t, insert(table)(ctx, tx))
				require.NoError(t, sends(end)(t, at, ctx, tx, table))
				return insert(table)(ctx, tx)
			})
			assert.ErrorIs(t, err, namedlock.ErrTxEnded, "%s: %d rows", end, at.count(t, table))
		}
	})
}

// What the owner of a connection sets between two calls stays.
func TestPromise33_TheOwnersOwnSettings(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byNew}
		l, name, table := at.locker(t), newName("own"), at.table(t, "n INT")
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		_, err := l.conn.ExecContext(t.Context(), "SET SESSION sql_select_limit = 77")
		require.NoError(t, err)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		var limit int
		require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT @@sql_select_limit").Scan(&limit))
		assert.Equal(t, 77, limit)
	})
}
