package queue

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// down makes the server drop every session that sends a statement, from now on.
func (b *bubble) down() {
	b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Drop: true} })
	all, _ := b.server.Sessions()
	for id := range all {
		b.server.Kill(id + 1)
	}
	synctest.Wait()
}

func (b *bubble) up() { b.server.Script(nil) }

// A wait with a bound outlasts a server that is unavailable for a while, for
// example during a failover. A wait without a bound ends. So does a try, which
// must not wait.
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

// If the server does not come back in time, the wait ends by its timeout, and
// the error says why.
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

// After the caller has left, no question is repeated.
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

// A silent server at the cap of one session: two waits fail one after the
// other, for any lock.
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

// A timer that has begun always counts, even if its waiter is the first in the
// queue, and not yet asked for, when it expires.
func TestOutage_ATimerThatRunsCounts(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.MaxSessions = 1 // the queue of the lock polls
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

// A wait that has begun goes on if the new session also dies, for example
// behind a proxy that accepts connections while its server is gone.
func TestOutage_TheFreshSessionDiesToo(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		begun := time.Now()
		deadline, cancel := context.WithTimeout(background, 20*time.Second)
		defer cancel()
		bounded := b.call(background, "a", time.Minute)
		brief := b.call(background, "a", 10*time.Second)
		byContext := b.call(deadline, "a", Forever)
		endless := b.call(background, "a", Forever)
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK") {
				return &memserver.Reply{Drop: true}
			}
			return nil
		})
		all, _ := b.server.Sessions()
		for id := range all {
			b.server.Kill(id + 1)
		}
		endless.fails(b, fault.ErrUnavailable)
		assert.Less(b, endless.at.Sub(begun), time.Second)
		bounded.waits(b)
		brief.fails(b, fault.ErrUnavailable)
		assert.Equal(b, 10*time.Second, brief.at.Sub(begun))
		byContext.fails(b, context.DeadlineExceeded)
		assert.Equal(b, 20*time.Second, byContext.at.Sub(begun))
		asked := len(b.server.Sent("GET_LOCK"))
		time.Sleep(10 * time.Second)
		bounded.waits(b)
		assert.LessOrEqual(b, len(b.server.Sent("GET_LOCK"))-asked, 50, "with pauses")
		b.call(background, "b", time.Minute).fails(b, fault.ErrUnavailable) // it has not begun to wait
		b.up()
		b.server.Unlock("a")
		back := time.Now()
		require.NoError(b, bounded.granted(b).Release())
		assert.LessOrEqual(b, bounded.at.Sub(back), time.Second)
	})
}

// It goes on even if every wait dies, however short, while tries are answered.
func TestOutage_WhereEveryWaitDies(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		begun := time.Now()
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK") && !strings.Contains(st.Text, ", 0)") {
				return &memserver.Reply{Drop: true}
			}
			return nil
		})
		c := b.call(background, "a", 30*time.Second)
		<-c.done
		require.ErrorContains(b, c.err, "not acquired within 30s") // by the last answer, or by its absence
		assert.Equal(b, 30*time.Second, c.at.Sub(begun))
		c = b.call(background, "a", 30*time.Second)
		time.Sleep(10 * time.Second)
		b.server.Unlock("a")
		require.NoError(b, c.granted(b).Release())
		b.up()
	})
}

// demoted makes the server read-only, and ends all sessions.
func (b *bubble) demoted() {
	b.server.SetReadOnly(true)
	all, _ := b.server.Sessions()
	for id := range all {
		b.server.Kill(id + 1)
	}
	synctest.Wait()
}

// A server that is refused was usually demoted, and another one is found soon.
// If none is found, the refusal is returned.
func TestOutage_ARefusalStands(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("a")
		c := b.call(background, "a", time.Minute)
		begun := time.Now()
		b.demoted()
		c.fails(b, fault.ErrUnsupported)
		assert.InDelta(b, refusedFor, c.at.Sub(begun), float64(lastOutagePause+grace))
		b.server.Unlock("a")
	})
}

// Each outage has a time limit and pauses of its own.
func TestOutage_TheNextBeginsAnew(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("a")
		c := b.call(background, "a", time.Hour)
		for range 3 {
			b.demoted()
			time.Sleep(refusedFor - time.Second)
			c.waits(b)
			b.server.SetReadOnly(false)
			time.Sleep(2 * time.Second)
		}
		b.down()
		time.Sleep(20 * time.Second)
		b.up()
		time.Sleep(time.Second)
		b.down()
		time.Sleep(2 * firstOutagePause)
		b.up()
		b.server.Unlock("a")
		back := time.Now()
		require.NoError(b, c.granted(b).Release())
		assert.LessOrEqual(b, c.at.Sub(back), 2*firstOutagePause)
	})
}

// A try returns the error of an outage at once, even if an earlier caller had
// begun to wait: the try has not waited.
func TestOutage_ATryIsToldAtOnce(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			switch {
			case len(b.server.Sent("GET_LOCK('a', 0)")) > 1:
				return &memserver.Reply{Drop: true}
			case strings.Contains(st.Text, "GET_LOCK('a', 0)"):
				time.Sleep(time.Second)
			}
			return nil
		})
		left := b.call(background, "a", time.Hour)
		left.cancel(nil)
		left.fails(b, context.Canceled)
		once := b.call(background, "a", 0)
		once.fails(b, fault.ErrUnavailable)
		assert.NotContains(b, once.err.Error(), "not acquired within")
		b.up()
		b.server.Unlock("a")
	})
}

// A proxy leads to a server that is read-only and to one that is gone, in turn.
// A wait with a bound ends by that, and a wait without one does not go on.
func TestOutage_RefusedAndGoneInTurn(t *testing.T) {
	for timeout, most := range map[time.Duration]time.Duration{Forever: time.Second, time.Minute: time.Minute} {
		inBubble(t, 0, func(b *bubble) {
			b.queue.pool.CheckServer = true
			b.server.Lock("a")
			c := b.call(background, "a", timeout)
			greeted := 0
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if strings.Contains(st.Text, "@@version") {
					if greeted++; greeted%2 == 0 {
						return &memserver.Reply{Drop: true}
					}
				}
				return nil
			})
			began := time.Now()
			b.demoted()
			c.fails(b, fault.ErrUnavailable)
			assert.LessOrEqual(b, c.at.Sub(began), most)
			b.up()
			b.server.Unlock("a")
		})
	}
}
