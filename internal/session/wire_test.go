package session

import (
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// The driver watches no context of ours when the connection goes back, nor while it is idle.
func TestWire_NoWatchStays(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		_, err := s.GetLock("a", 0)
		require.NoError(b, err)
		require.NotNil(b, s.socket)
		require.NoError(b, s.conn.Raw(func(conn any) error {
			assert.NotEqual(b, occupied, s.stateOf(conn))
			return nil
		}))
		require.NoError(b, s.ReleaseLock("a"))
		b.pool.Put(s)
	})
}

// What runs without a context ends by silence, as a statement with one does.
func TestWire_SilenceEndsAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
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
		b.pool.Kill(s)
		require.Error(b, <-failed)
		assert.Zero(b, time.Since(start))

		// Nor is it taken for a context of a transaction's.
		require.Error(b, s.driver.canceled.Value())
		s.tx.Store(new(sql.Tx))
		assert.False(b, s.canceled())
		s.tx.Store(nil)
		b.pool.Put(s)
		b.server.Unlock("a")
	})
}
