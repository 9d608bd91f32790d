package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// down has the server drop whoever asks it anything, from now on.
func (b *bubble) down() {
	b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Drop: true} })
	all, _ := b.server.Sessions()
	for id := range all {
		b.server.Kill(id + 1)
	}
	synctest.Wait()
}

func (b *bubble) up() { b.server.Script(nil) }

// A wait that has a bound outlasts a server that cannot be asked for a while, as at a failover. One that has none
// ends, and so does a try, which has no time to wait.
func TestOutage_AWaitWithABoundGoesOn(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		bounded := b.call(background, "a", time.Minute)
		endless := b.call(background, "a", Forever)
		bounded.waits(b)
		b.down()
		time.Sleep(5 * time.Second)
		bounded.waits(b)
		endless.fails(b, fault.ErrUnavailable)
		b.call(background, "a", 0).fails(b, fault.ErrUnavailable)
		b.call(background, "b", time.Minute).fails(b, fault.ErrUnavailable) // it has not begun to wait
		asked := len(b.server.Sent(""))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.LessOrEqual(b, len(b.server.Sent(""))-asked, 100, "the pause grows")
		b.up()
		b.server.Unlock("a")
		back := time.Now()
		require.NoError(b, bounded.granted(b).Release())
		assert.LessOrEqual(b, bounded.at.Sub(back), time.Second)
	})
}

// Where the server does not come back in time the wait ends by its timeout, and the error says why.
func TestOutage_EndsByTheTimeout(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		begun := time.Now()
		first := b.call(background, "a", 10*time.Second)
		second := b.call(background, "a", 20*time.Second)
		second.waits(b)
		b.down()
		first.fails(b, fault.ErrUnavailable)
		assert.Equal(b, 10*time.Second, first.at.Sub(begun))
		second.fails(b, fault.ErrUnavailable)
		assert.Equal(b, 20*time.Second, second.at.Sub(begun))
		assert.ErrorContains(b, second.err, "not acquired within 20s")
		b.up()
	})
}

// Nobody who has given up keeps asking.
func TestOutage_WhoLeaves(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.call(background, "a", time.Hour)
		b.down()
		time.Sleep(3 * time.Second)
		c.cancel(nil)
		<-c.done
		assert.Zero(b, b.active())
		b.up()
	})
}

// A silent server at the cap of one session: two runs fail one after the other, whatever they waited for.
func TestOutage_SilenceAtTheCap(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.MaxSessions = 1
		b.server.Lock("a")
		b.server.Lock("b")
		one, two := b.call(background, "a", time.Minute), b.call(background, "b", time.Minute)
		b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
		time.Sleep(30 * time.Second)
		b.up()
		b.server.Unlock("a")
		b.server.Unlock("b")
		require.NoError(b, one.granted(b).Release())
		require.NoError(b, two.granted(b).Release())
	})
}

// A timer that runs counts, also if its waiter is first in line and not yet asked for when it rings.
func TestOutage_ATimerThatRunsCounts(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.MaxSessions = 1 // the line polls
		b.server.Lock("a")
		begun := time.Now()
		first := b.call(background, "a", time.Hour)
		second := b.call(background, "a", 10*time.Second)
		time.Sleep(8 * time.Second)
		b.server.SetDialing(time.Minute)
		b.down()
		time.AfterFunc(5*time.Minute, b.back)
		time.Sleep(time.Second)
		first.cancel(nil)
		first.fails(b, context.Canceled)
		second.fails(b, fault.ErrTimeout) // the first question of the outage has not failed yet
		assert.Equal(b, 10*time.Second, second.at.Sub(begun))
		time.Sleep(5 * time.Minute)
		b.server.Unlock("a")
	})
}

// back ends an outage.
func (b *bubble) back() {
	b.server.SetDialing(0)
	b.up()
}
