package pool

import (
	"bytes"
	"database/sql"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A proxy may swallow SET SESSION wait_timeout, as ProxySQL does. The first
// proof reads it back. From then on the pool does not rely on it, and logs that
// once.
func TestLease_Swallowed(t *testing.T) {
	var log bytes.Buffer
	change := func(c *Config) {
		c.Lease, c.KeepAlive = 9*time.Second, 5*time.Second
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}
	inBubble(t, change, func(b *bubble) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "SET SESSION wait_timeout = 9") {
				return &memserver.Reply{}
			}
			return nil
		})
		one, first := b.held("a")
		two, second := b.held("b")
		assert.Equal(b, 3*time.Second, b.intervalOf(one))
		time.Sleep(4 * time.Second)
		assert.Equal(b, 5*time.Second, b.intervalOf(one))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Len(b, b.server.Sent(proof+"'a') = CONNECTION_ID(), @@read_only, @@innodb_read_only, @@wait_timeout"), 1)
		b.requireHeld(first)
		b.requireHeld(second)
		b.release(one, first)
		b.release(two, second)
	})
	assert.Equal(t, 1, strings.Count(log.String(), "WithLease has no effect: wait_timeout did not change"), log.String())
}

// Where it was taken that is asked once a session.
func TestLease_Taken(t *testing.T) {
	inBubble(t, func(c *Config) { c.Lease, c.KeepAlive = 9*time.Second, 5*time.Second }, func(b *bubble) {
		s, h := b.held("a")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Equal(b, 3*time.Second, b.intervalOf(s))
		assert.Len(b, b.server.Sent("@@wait_timeout"), 2) // by the greeting, and by the first proof
		b.release(s, h)
	})
}

// Close sets wait_timeout back to its value at the first lock, even if the
// owner of a connection given to New has changed it since.
func TestLease_TheOwnersLaterChange(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s, h := b.held("a")
		b.release(s, h)
		_, err := conn.ExecContext(b.Context(), "SET SESSION wait_timeout = 100")
		require.NoError(b, err)
		b.pool.Close()
		var seconds int
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@wait_timeout").Scan(&seconds))
		assert.Equal(b, 28800, seconds)
	})
}

// intervalOf is the keep-alive interval of s.
func (b *bubble) intervalOf(s *Session) time.Duration {
	b.Helper()
	synctest.Wait()
	require.NoError(b, b.pool.TakeUrgent(s))
	defer b.pool.Put(s)
	return s.Interval()
}
