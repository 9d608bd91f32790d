package pool

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A discards counts them.
type discards struct{ atomic.Int64 }

func (*discards) SessionOpened(time.Duration, error) {}
func (d *discards) SessionDiscarded(error)           { d.Add(1) }

// A session that is given up while the pool closes is discarded once.
func TestPool_GiveUpBesideClose(t *testing.T) {
	for range 300 {
		var discarded discards
		inBubble(t, func(c *Config) { c.Observer = &discarded }, func(b *bubble) {
			s, h := b.held("a")
			b.pool.GiveUp(s, errors.New("given up"))
			if b.pool.TakeUrgent(s) == nil {
				b.pool.Drop(s, h)
			}
		})
		require.EqualValues(t, 1, discarded.Load())
	}
}

// A session that has been given up is dead at once: what ends on it at this
// moment does not take it for a sound one.
func TestPool_GiveUpMakesItDead(t *testing.T) {
	givenUp := errors.New("given up")
	inBubble(t, nil, func(b *bubble) {
		for range 100 {
			s, h := b.held("a")
			b.pool.GiveUp(s, givenUp)
			b.pool.mu.Lock()
			status := s.status
			b.pool.mu.Unlock()
			require.Equal(b, closing, status)
			require.ErrorIs(b, b.pool.TakeUrgent(s), givenUp)
			b.awaitLoss(h)
			synctest.Wait()
			require.Equal(b, -1, b.server.Holder("a"))
		}
	})
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s, _ := b.held("a")
		b.pool.GiveUp(s, givenUp)
		b.pool.Close()
		synctest.Wait()
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Error(b, conn.PingContext(b.Context()), "it does not go back to the db")
	})
}

// A proof may have the turn on a session when Close begins: the last release
// has passed it on. The session goes back at the end of that turn.
func TestPool_CloseDuringATurn(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		b.release(s, h)
		require.NoError(b, b.pool.TakeUrgent(s))
		proof := make(chan struct{})
		b.pool.work.Go(func() {
			<-proof
			b.pool.Put(s)
		})
		sent := len(b.server.Sent(""))
		closed := begin(func() bool { b.pool.Close(); return true })
		assert.False(b, hasEnded(closed))
		assert.Len(b, b.server.Sent(""), sent, "two callers use the connection")
		close(proof)
		<-closed
		assert.NotEmpty(b, b.server.Sent("")[sent:], "its lease is undone")
		b.pool = NewPool(b.db, config())
	})
}

// The end of a session that was given back is awaited for as long as that
// takes.
func TestPool_AwaitEndOfASessionGivenBack(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		b.pool.Put(s)
		begun := time.Now()
		b.pool.sweep(0)
		require.Error(b, b.pool.TakeUrgent(s))
		assert.True(b, b.pool.AwaitEnd(s))
		assert.Equal(b, begun, time.Now())
	})
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s := b.take(Request{})
		b.pool.Put(s)
		b.pool.Close()
		assert.True(b, b.pool.AwaitEnd(s))
		require.NoError(b, conn.PingContext(context.Background()))
	})
}
