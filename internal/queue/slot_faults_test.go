package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
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
		first := b.slotOf(b.queue, background, "X", 2, time.Minute)
		time.Sleep(time.Second)
		assert.Empty(b, b.queue.HeldNames())
		second := b.slotOf(b.queue, background, "x", 2, time.Second)
		<-second.done
		late, ok := second.err.(*Late)
		require.True(b, ok)
		if late.Holder != nil {
			assert.NotEqual(b, "X#gate", late.Holder.Name)
		}
		assert.Empty(b, b.queue.GiveUp(fault.ErrClosed))
		<-first.done
	})
}
