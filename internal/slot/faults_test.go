package slot

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// If a slice of a search ends before its turn on the session of the gate comes,
// the call goes on.
func TestSlot_FarAway(t *testing.T) {
	for _, trip := range []time.Duration{40, 120, 300} {
		inBubble(t, 0, func(b *bubble) {
			b.server.Lock("x#0")
			b.server.Lock("x#1")
			b.server.Script(func(memserver.Statement) *memserver.Reply { time.Sleep(trip * time.Millisecond); return nil })
			began := time.Now()
			c := b.slot(background, 2, 30*time.Second)
			<-c.done
			assert.ErrorIs(t, c.err, fault.ErrTimeout)
			assert.NotErrorIs(t, c.err, fault.ErrNoSession, "after %v", time.Since(began))
			assert.GreaterOrEqual(t, time.Since(began), 30*time.Second)
		})
	}
}

// The Holder in a timeout's error is the holder of a slot, not of the gate, in
// any spelling. A call that only waits holds no lock.
func TestSlot_TheGateIsNotTheHolder(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		for _, n := range []string{"X#0", "X#1", "x#0", "x#1"} {
			b.server.Lock(n)
		}
		first := b.slotOf(b.slots, background, "X", 2, time.Minute)
		time.Sleep(time.Second)
		assert.Empty(b, b.queue.HeldNames())
		second := b.slotOf(b.slots, background, "x", 2, time.Second)
		<-second.done
		late, ok := second.err.(*queue.Late)
		require.True(b, ok)
		if late.Holder != nil {
			assert.NotEqual(b, "X#gate", late.Holder.Name)
		}
		assert.Empty(b, b.queue.GiveUp(fault.ErrClosed))
		<-first.done
	})
}

// A slowObserver takes time to note that a connection was discarded.
type slowObserver struct{ begun, ended atomic.Int32 }

func (o *slowObserver) SessionOpened(time.Duration, error) {}
func (o *slowObserver) SessionDiscarded(error) {
	o.begun.Add(1)
	time.Sleep(time.Millisecond)
	o.ended.Add(1)
}

// A caller leaves while its look at the slots is under way, and the session of
// that look dies. Close waits until the session is gone.
func TestSlot_CloseWaitsForALookThatGoesOn(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		o := new(slowObserver)
		db := b.server.Open()
		q := queue.New(pool.NewPool(db, pool.Config{MaxSessions: 4, Observer: o, Config: server.Config{
			ReleaseTimeout: 5 * time.Second, KeepAlive: 5 * time.Second, Probe: 25 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		}}), 0)
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "IS_USED_LOCK('x#0'), ") {
				return &memserver.Reply{Hang: true}
			}
			return nil
		})
		c := b.slotOf(New(q), background, "x", 2, time.Hour)
		c.waits(b)
		c.cancel(nil)
		<-c.done
		require.Error(b, c.err)
		q.Close()
		assert.EqualValues(b, 1, o.begun.Load())
		assert.Equal(b, o.begun.Load(), o.ended.Load(), "a goroutine outlives Close")
		assert.Zero(b, db.Stats().InUse)
		require.NoError(b, db.Close())
		time.Sleep(time.Second)
		b.server.Script(nil)
	})
}
