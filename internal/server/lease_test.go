package server

import (
	"bytes"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// The lease is compared with wait_timeout before code of the user's runs. An
// idle limit of MariaDB's below the lease is not taken for a lease that a proxy
// dropped. If a proxy did drop it, the limits for transactions are in force
// still.
func TestLease_UnderATransaction(t *testing.T) {
	for what, tc := range map[string]struct {
		limit   string
		replies map[string]*memserver.Reply
		idle    time.Duration
		logged  bool
	}{
		"no limit":                {"0", nil, time.Minute, false},
		"limit below":             {"6", nil, 6 * time.Second, false},
		"limit above":             {"1000", nil, time.Minute, false},
		"dropped":                 {"0", map[string]*memserver.Reply{"wait_timeout = 60": nothing}, 8 * time.Hour, true},
		"dropped and limit below": {"6", map[string]*memserver.Reply{"wait_timeout = 60": nothing}, 6 * time.Second, true},
		"dropped and limit above": {"1000", map[string]*memserver.Reply{"SESSION wait_timeout = 60": nothing}, time.Minute, true},
	} {
		t.Run(what, func(t *testing.T) {
			log := new(bytes.Buffer)
			inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble) {
				_, err := b.db.ExecContext(b.Context(), "SET SESSION idle_transaction_timeout = "+tc.limit)
				require.NoError(b, err)
				b.server.ScriptTexts(tc.replies)
				c := b.held("a")
				tx := b.begin(c)
				assert.Equal(b, tc.idle, c.IdleLimit())
				b.code(tx, "SET SESSION wait_timeout = 100")
				require.NoError(b, c.Prove([]string{"a"}))
				assert.Equal(b, tc.idle, c.IdleLimit())
				require.NoError(b, c.Commit())
				b.release(c, "a")
				assert.Equal(b, tc.logged, bytes.Contains(log.Bytes(), []byte("WithLease has no effect")), log)
			})
		})
	}
}

// wait_timeout is restored on a connection given to New, even if the code under
// the lock set it to what it had been.
func TestLease_RestoredAfterCode(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.held("a")
		b.code(b.begin(c), "SET SESSION wait_timeout = 28800")
		require.NoError(b, c.Prove([]string{"a"}))
		require.NoError(b, c.Commit())
		b.release(c, "a")
		require.NoError(b, c.GiveBack())
		b.lent = nil
		var seconds int
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@wait_timeout").Scan(&seconds))
		assert.Equal(b, 28800, seconds)
	})
}
