package e2e

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// If nothing shows whether the transaction is open, the error of a loss does
// not say that nothing is committed.
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

// Settings that the owner of a connection changes between two calls stay.
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
