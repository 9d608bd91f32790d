package server

import (
	"database/sql"
	"database/sql/driver"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// The driver watches no context of ours while the connection is idle, or after
// it has gone back.
func TestWire_NoWatchStays(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		_, err := c.GetLock("a", 0)
		require.NoError(b, err)
		require.NotNil(b, c.driver.Socket)
		require.NoError(b, c.raw(func(conn driver.Conn) error {
			assert.NotEqual(b, Occupied, c.stateOf(conn))
			return nil
		}))
		b.release(c, "a")
	})
}

// Silence ends a statement without a context in the same way as one with a
// context.
func TestWire_SilenceEndsAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		b.server.Once("GET_LOCK('a', 0)", &memserver.Reply{Hang: true})
		start := time.Now()
		_, err := c.GetLock("a", 0)
		require.ErrorIs(b, err, ErrSilent)
		assert.Equal(b, AnswerTime, time.Since(start))
		b.put(c)
	})
}

// Kill ends it in the same way.
func TestWire_KillEndsAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		b.server.Lock("a")
		failed := make(chan error, 1)
		go func() {
			_, err := c.GetLock("a", 10*time.Second)
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		require.False(b, c.Kill(), "the statement runs under a context")
		require.Error(b, <-failed)
		assert.Zero(b, time.Since(start))

		// It is not mistaken for the end of a transaction's context.
		require.Equal(b, peek.CutOff, c.driver.State())
		c.tx.Store(new(sql.Tx))
		require.NoError(b, c.raw(func(conn driver.Conn) error {
			assert.NotEqual(b, CutOff, c.stateOf(conn))
			return nil
		}))
		c.tx.Store(nil)
		b.put(c)
		b.server.Unlock("a")
	})
}
