package session

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// Who asks what became of the transaction may come before who discards the session: that its code had ended it is known.
func TestTxEnded_BeforeTheSessionIsDiscarded(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s := newSession(conn, &b.pool.Config)
		defer s.cancel()
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Text == "START TRANSACTION" || st.Text == "COMMIT" {
				return new(memserver.Reply)
			}
			return nil
		})
		tx, err := conn.BeginTx(context.Background(), nil)
		require.NoError(b, err)
		s.tx.Store(tx)
		require.NoError(b, tx.Commit())
		assert.Equal(b, sql.ErrTxDone, s.TxEnded())
	})
}

// On MariaDB 10.5 the flags do not show a deadlock, so a savepoint does.
func TestServer_HidesDeadlocks(t *testing.T) {
	for version, want := range map[string]bool{
		"10.5.29-MariaDB": true, "10.6.21-MariaDB-log": true, "10.11.19-MariaDB": false, "11.8.2-MariaDB": false,
		"8.0.40": false, "9.7.4": false, "MariaDB": false, "": false,
	} {
		assert.Equal(t, want, (&server{version: sql.NullString{String: version, Valid: true}}).hidesDeadlocks(), version)
	}
	assert.False(t, (*server)(nil).hidesDeadlocks())
}
