package session

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// The driver watches a session's context from its greeting on, and when the connection
// goes back it is as it came.
func TestWire_OneWatchASession(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		watches := func() (on bool) {
			conn, err := b.db.Conn(context.Background())
			require.NoError(b, err)
			defer conn.Close()
			require.NoError(b, conn.Raw(func(conn any) error {
				on = watched(conn)
				return nil
			}))
			return on
		}
		require.False(b, watches())
		for range 3 {
			s := b.take(Request{})
			require.NotNil(b, s.watcher)
			require.NoError(b, s.conn.Raw(func(conn any) error {
				assert.True(b, watched(conn))
				return nil
			}))
			b.pool.Put(s)
			time.Sleep(2 * idleTime)
			synctest.Wait()
			require.Zero(b, b.db.Stats().InUse)
			require.False(b, watches(), "the next who gives the connection a context would have it closed")
			var one int
			ctx, cancel := context.WithCancel(context.Background())
			require.NoError(b, b.db.QueryRowContext(ctx, "SELECT @@max_statement_time").Scan(&one))
			cancel()
		}
		all, _ := b.server.Sessions()
		assert.Equal(b, 1, all)
	})
}

// The one watch ends a statement that hangs, as one of its own would.
func TestWire_SilenceEndsAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		require.NotNil(b, s.watcher)
		b.server.Once("GET_LOCK('a', 0)", &memserver.Reply{Hang: true})
		start := time.Now()
		_, err := s.GetLock("a", 0)
		require.ErrorIs(b, err, errSilent)
		assert.Equal(b, answerTime, time.Since(start))
		b.pool.Put(s)
	})
}

// So does Kill.
func TestWire_KillEndsAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		b.server.Lock("a")
		failed := make(chan error, 1)
		go func() {
			_, err := s.GetLock("a", 10*time.Second)
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		s.Kill()
		require.Error(b, <-failed)
		assert.Zero(b, time.Since(start))
		b.pool.Put(s)
		b.server.Unlock("a")
	})
}

// A connection that was given to New has an owner, who may use it with contexts.
func TestWire_NoWatchOnABorrowedConnection(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s := b.take(Request{})
		b.pool.Put(s)
		require.Nil(b, s.watcher)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		require.NoError(b, conn.QueryRowContext(ctx, "SELECT @@max_statement_time").Scan(new(int)))
	})
}
