package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// The transaction that the owner of a connection has open on it is not
// committed by the START TRANSACTION of the Locker.
func TestPromise30_TheOwnersTransaction(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byNew}
		l, name, table := at.locker(t), newName("owners"), at.table(t, "n INT")
		owners, err := l.conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = owners.Exec("INSERT INTO " + table + " VALUES (7)")
		require.NoError(t, err)
		requireTx(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)), namedlock.ErrInTransaction, namedlock.TxNone)
		require.NoError(t, owners.Rollback())
		assert.Zero(t, at.count(t, table))
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		assert.Equal(t, 1, at.count(t, table))
	})
}

// With completion_type=CHAIN, each COMMIT of the owner begins a transaction. It
// is the owner's: what he has written there would be committed.
func TestPromise30_TheOwnersChain(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byNew}
		l, name, table := at.locker(t), newName("chain"), at.table(t, "n INT")
		run := func(statement string) {
			t.Helper()
			_, err := l.conn.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		run("SET SESSION completion_type = 'CHAIN'")
		for range 2 {
			require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)), "no transaction of the owner has begun")
		}
		run("COMMIT")
		run("INSERT INTO " + table + " VALUES (7)")
		requireTx(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)), namedlock.ErrInTransaction, namedlock.TxNone)
		run("ROLLBACK AND NO CHAIN")
		assert.Equal(t, 2, at.count(t, table))
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		assert.Equal(t, 3, at.count(t, table))
		var completion string
		require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT @@completion_type").Scan(&completion))
		assert.Equal(t, "CHAIN", completion)
	})
}
