package server

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// TxEnded may be called before the session is discarded. It reports that the
// code had ended the transaction.
func TestTxEnded_BeforeTheSessionIsDiscarded(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.lent
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Text == "START TRANSACTION" || st.Text == "COMMIT" {
				return new(memserver.Reply)
			}
			return nil
		})
		tx, err := conn.BeginTx(context.Background(), nil)
		require.NoError(b, err)
		c.tx.Store(tx)
		require.NoError(b, tx.Commit())
		assert.Equal(b, sql.ErrTxDone, c.TxEnded())
		c.tx.Store(nil)
	})
}

// On MariaDB 10.5 the flags do not show a deadlock, so a savepoint is used.
func TestServer_HidesDeadlocks(t *testing.T) {
	for version, want := range map[string]bool{
		"10.5.29-MariaDB": true, "10.6.21-MariaDB-log": true, "10.11.19-MariaDB": false, "11.8.2-MariaDB": false,
		"8.0.40": false, "9.7.4": false, "MariaDB": false, "": false,
	} {
		assert.Equal(t, want, (&greeting{version: sql.NullString{String: version, Valid: true}}).hidesDeadlocks(), version)
	}
}
