package slot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// A slot costs the gate, a lookup, the slot's lock and the release of the gate,
// on one session.
func TestSlot_Statements(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		g := b.slot(background, 3, time.Second).has(b, 1)
		release(b, g)
		assert.Equal(b, []string{
			"GET_LOCK('x#gate', 0)",
			"IS_USED_LOCK('x#0'), IS_USED_LOCK('x#1'), IS_USED_LOCK('x#2')",
			"GET_LOCK('x#1', 0)",
			"RELEASE_LOCK('x#gate')",
			"RELEASE_LOCK('x#1')",
		}, sent(b))
		all, _ := b.server.Sessions()
		assert.Equal(b, 1, all)
		b.server.Unlock("x#0")
	})
}

// A lookup, and a wait for a slot, may end together with the context. Then the
// error is not a timeout.
func TestSlot_TheContextEndsWithAWait(t *testing.T) {
	for range 50 {
		inBubble(t, 0, func(b *bubble) {
			b.server.Lock("x#0")
			b.server.Lock("x#1")
			ctx, cancel := context.WithTimeout(background, lookSoon)
			defer cancel()
			c := b.slot(ctx, 2, time.Minute)
			<-c.done
			require.ErrorIs(b, c.err, context.DeadlineExceeded)
			require.NotErrorIs(b, c.err, fault.ErrTimeout)
			b.server.Unlock("x#0")
			b.server.Unlock("x#1")
		})
	}
}

// A wait for the only slot is a wait for a lock.
func TestSlot_One(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		began := time.Now()
		c := b.slot(background, 1, time.Minute)
		time.Sleep(10 * time.Second)
		c.waits(b)
		assert.LessOrEqual(b, len(b.server.Sent("_LOCK(")), 2+10+2*10/5)
		assert.Empty(b, b.server.Sent("IS_USED_LOCK('x#0')"), "nobody looks")
		b.server.Unlock("x#0")
		g := c.has(b, 0)
		assert.Equal(b, 10*time.Second, time.Since(began))
		second := b.slot(background, 1, time.Second)
		second.fails(b, fault.ErrTimeout)
		assert.EqualError(b, second.err, "no free slot (of 1) within 1s")
		release(b, g)
	})
}

// Callers of all processes are served in the order in which they came. Each
// gets the lowest free slot, which no other caller has.
func TestSlot_InOrder(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		processes := []*Slots{b.slots}
		for range 2 {
			other, end := b.another()
			defer end()
			processes = append(processes, other)
		}
		var calls []*slotted
		defer func() { // even if the test fails
			for _, c := range calls {
				c.cancel(errGone)
				<-c.done
				if c.grant != nil {
					_ = c.grant.Release()
				}
			}
		}()
		for i := range 18 {
			calls = append(calls, b.slotOf(processes[i%3], background, "x", 3, time.Hour))
		}
		free := []int{0, 1, 2}
		for i, c := range calls {
			if len(free) == 0 {
				c.waits(b)
				// Any holder releases next.
				j := i - 1 - rand.IntN(3)
				for calls[j].grant == nil {
					j = i - 1 - rand.IntN(i)
				}
				release(b, calls[j].grant)
				free = append(free, calls[j].grant.Number)
				calls[j].grant = nil
				time.Sleep(lookEvery)
			}
			slices.Sort(free)
			c.has(b, free[0])
			free = free[1:]
			for _, later := range calls[min(i+1+len(free), len(calls)):] {
				later.waits(b)
			}
		}
		for _, c := range calls {
			if c.grant != nil {
				release(b, c.grant)
			}
		}
	})
}

// However many callers wait in however many processes, a wait costs one session
// a process. All of them send 20 statements a second, and about two after a
// minute.
func TestSlot_CostOfAWait(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		for i := range 4 {
			b.server.Lock(fmt.Sprint("x#", i))
		}
		processes := []*Slots{b.slots}
		for range 2 {
			other, end := b.another()
			defer end()
			processes = append(processes, other)
		}
		ctx, cancel := context.WithCancel(background)
		var calls []*slotted
		for i := range 60 {
			calls = append(calls, b.slotOf(processes[i%3], ctx, "x", 4, queue.Forever))
		}
		time.Sleep(time.Second)
		for _, minute := range []struct {
			of   time.Duration
			most int
		}{{50 * time.Second, 20 * 50}, {time.Minute, 0}, {time.Minute, 3 * 60}} {
			before := len(b.server.Sent("_LOCK("))
			time.Sleep(minute.of)
			asked := len(b.server.Sent("_LOCK(")) - before
			t.Logf("%v: %d statements, %.1f a second", minute.of, asked, float64(asked)/minute.of.Seconds())
			if minute.most > 0 {
				assert.LessOrEqual(b, asked, minute.most)
			}
		}
		_, alive := b.server.Sessions()
		assert.Equal(b, 3, alive)
		assert.Equal(b, 20, b.slots.Waiting())
		assert.Zero(b, b.queue.Waiting(), "each is counted once")
		cancel()
		for _, c := range calls {
			c.fails(b, context.Canceled)
		}
		for i := range 4 {
			b.server.Unlock(fmt.Sprint("x#", i))
		}
	})
}

// Whichever slot becomes free, and whenever, it is acquired within 100 ms,
// whether its holder was in this process or not.
func TestSlot_FreeSlotIsAcquiredWithin100ms(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		const n = 5
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			var local [n]*queue.Grant
			for i := range n {
				if random.IntN(2) == 0 {
					b.server.Lock(fmt.Sprint("x#", i))
				} else {
					local[i] = b.acquire(background, fmt.Sprint("x#", i))
				}
			}
			c := b.slot(background, n, queue.Forever)
			time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
			c.waits(b)
			freed, i := time.Now(), random.IntN(n)
			if local[i] != nil {
				release(b, local[i])
				local[i] = nil
			} else {
				b.server.Unlock(fmt.Sprint("x#", i))
			}
			<-c.done
			assert.LessOrEqual(b, c.at.Sub(freed), 100*time.Millisecond)
			release(b, c.has(b, i))
			for j := range n {
				switch {
				case local[j] != nil:
					release(b, local[j])
				case i != j:
					b.server.Unlock(fmt.Sprint("x#", j))
				}
			}
		}
	})
}

// After a minute it is acquired within a second.
func TestSlot_LongSearch(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		for i := range 3 {
			b.server.Lock(fmt.Sprint("x#", i))
		}
		c := b.slot(background, 3, queue.Forever)
		time.Sleep(time.Minute + 1234*time.Millisecond)
		c.waits(b)
		freed := time.Now()
		b.server.Unlock("x#2")
		<-c.done
		assert.LessOrEqual(b, c.at.Sub(freed), time.Second)
		release(b, c.has(b, 2))
		b.server.Unlock("x#0")
		b.server.Unlock("x#1")
	})
}

// A slot that a caller of this process releases is acquired at once, without
// another statement.
func TestSlot_LocalReleaseWakes(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		var held []*Grant
		for i := range 3 {
			held = append(held, b.slot(background, 3, 0).has(b, i))
			time.Sleep(time.Second)
		}
		asked := len(b.server.Sent("GET_LOCK('x#"))
		c := b.slot(background, 3, time.Minute)
		time.Sleep(10*time.Second + 10*time.Millisecond)
		c.waits(b)
		assert.Len(b, b.server.Sent("GET_LOCK('x#"), asked+1, "the gate")
		release(b, held[2])
		release(b, c.has(b, 2))
		release(b, held[0])
		release(b, held[1])
	})
}

// The slot whose holder has been the same for the longest time is granted at
// the moment of its release.
func TestSlot_TheOldestAtOnce(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		other, end := b.another()
		defer end()
		first := b.slotOf(other, background, "x", 2, 0).has(b, 0)
		second := b.slotOf(other, background, "x", 2, 0).has(b, 1)
		c := b.slot(background, 2, time.Hour) // detects both holders for the first time
		time.Sleep(30 * time.Millisecond)
		release(b, first)
		third := c.has(b, 0)
		c = b.slot(background, 2, time.Hour) // slot 1 for the second time; the other belongs to a caller of this process
		time.Sleep(30 * time.Millisecond)
		release(b, second)
		release(b, c.has(b, 1))
		release(b, third)
	})
}

// A call that tries once gets a free slot, even while other callers go through
// the gate. If all slots are used, it fails at once.
func TestSlot_TryOnce(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#gate") // as if another process acquires slot 0, or waits

		c := b.slot(background, 2, 0)
		c.waits(b)
		time.Sleep(20 * time.Millisecond)
		b.server.Unlock("x#gate")
		g := c.has(b, 0)

		b.server.Lock("x#1")
		began := time.Now()
		b.server.Lock("x#gate")
		c = b.slot(background, 2, 0)
		c.fails(b, fault.ErrTimeout)
		b.server.Unlock("x#gate")
		c = b.slot(background, 2, 0)
		c.fails(b, fault.ErrTimeout)
		assert.EqualError(b, c.err, "no free slot (of 2)")
		assert.Equal(b, "x#0", c.err.(*queue.Late).Holder.Name)
		assert.True(b, c.err.(*queue.Late).Holder.Local)

		waiting := b.slot(background, 2, time.Hour)
		asked := len(b.server.Sent(""))
		c = b.slot(background, 2, 0) // the waiting caller has looked already
		c.fails(b, fault.ErrTimeout)
		assert.Len(b, b.server.Sent(""), asked)
		assert.Equal(b, began, time.Now())

		release(b, g)
		release(b, waiting.has(b, 0))
		b.server.Unlock("x#1")

		b.server.Lock("x#gate")
		began = time.Now()
		c = b.slot(background, 2, 0) // free slots, but the gate stays closed
		c.fails(b, fault.ErrTimeout)
		assert.Equal(b, passage, time.Since(began))
		b.server.Unlock("x#gate")
	})
}

// Two slots become free while a caller waits for one. It takes the first, and
// its RELEASE_LOCK for the gate is on its way. A call that tries once at that
// moment gets the second.
func TestSlot_TryOnceWhileTheGateIsReleased(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		waiting := b.slot(background, 2, time.Hour)
		waiting.waits(b)
		reached, goOn := b.holdUpRelease()
		b.server.Unlock("x#1")
		b.server.Unlock("x#0")
		<-reached
		c := b.slot(background, 2, 0)
		time.Sleep(passage / 2)
		close(goOn)
		synctest.Wait()
		release(b, waiting.granted(b))
		<-c.done
		require.NoError(b, c.err, "a slot is free")
		release(b, c.grant)
	})
}

// A call that tries once needs a connection for the lookup. If all connections
// of the db are in use, it waits for one only briefly.
func TestSlot_TryOnceWithoutAConnectionToLook(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#gate")
		b.db.SetMaxOpenConns(3)
		for range 2 {
			conn, err := b.db.Conn(background)
			require.NoError(b, err)
			defer conn.Close()
		}
		began := time.Now()
		c := b.slot(background, 2, 0)
		<-c.done
		require.ErrorIs(b, c.err, fault.ErrTimeout)
		assert.Equal(b, passage, c.at.Sub(began))
		b.server.Unlock("x#gate")
	})
}

// Timeouts are exact, at the gate and in the search, and their errors contain a
// holder.
func TestSlot_Timeouts(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		other, end := b.another()
		defer end()
		foreign := b.slotOf(other, background, "x", 2, 0).has(b, 0)
		time.Sleep(time.Second)
		local := b.slot(background, 2, 0).has(b, 1)
		began := time.Now()
		var calls []*slotted
		timeouts := []time.Duration{333 * time.Millisecond, 20 * time.Millisecond, 2 * time.Second, 5 * time.Second, 90 * time.Second, time.Millisecond}
		for _, timeout := range timeouts {
			calls = append(calls, b.slot(background, 2, timeout))
		}
		for i, c := range calls {
			c.fails(b, fault.ErrTimeout)
			assert.Equal(b, timeouts[i], c.at.Sub(began))
			assert.EqualError(b, c.err, fmt.Sprintf("no free slot (of 2) within %v", timeouts[i]))
			assert.Equal(b, "x#1", c.err.(*queue.Late).Holder.Name)
		}
		b.slots.mu.Lock()
		assert.Equal(b, 2, len(b.slots.groups["x"].seen)+len(b.slots.groups["x"].held))
		b.slots.mu.Unlock()
		release(b, local)
		local = b.slotOf(other, background, "x", 2, 0).has(b, 1)
		c := b.slot(background, 2, time.Second)
		c.fails(b, fault.ErrTimeout)
		assert.Equal(b, "x#0", c.err.(*queue.Late).Holder.Name)
		assert.EqualValues(b, b.server.Holder("x#0"), c.err.(*queue.Late).Holder.ConnectionID)

		ctx, cancel := context.WithTimeout(background, 3*time.Second)
		defer cancel()
		began = time.Now()
		first, second := b.slot(ctx, 2, queue.Forever), b.slot(ctx, 2, time.Hour)
		for _, c := range []*slotted{first, second} {
			c.fails(b, context.DeadlineExceeded)
			assert.NotErrorIs(b, c.err, fault.ErrTimeout)
			assert.InDelta(b, 3*time.Second, c.at.Sub(began), float64(grace), "grace is for the release of the gate")
		}
		synctest.Wait()
		assert.Empty(b, b.groups(), "nothing is kept of a name that nobody uses")
		assert.Zero(b, b.slots.Waiting())
		release(b, local)
		release(b, foreign)
	})
}

// A chain that has a slot of the name gets no second one, whatever n is, in any
// spelling of the name.
func TestSlot_Reentrant(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.slot(background, 3, 0).has(b, 0)
		ctx := under(g)
		asked := len(b.server.Sent(""))
		for _, again := range []*slotted{b.slot(ctx, 3, 0), b.slot(ctx, 1, time.Hour), b.slot(ctx, 7, time.Hour), b.slotOf(b.slots, ctx, "X", 3, time.Hour)} {
			again.fails(b, fault.ErrReentrant)
			assert.EqualError(b, again.err, "this call chain already holds slot 0; do not acquire another under fn's ctx")
		}
		_, err := b.queue.Acquire(ctx, "x#0", queue.Terms{}, nil)
		assert.ErrorIs(b, err, fault.ErrReentrant)
		assert.Len(b, b.server.Sent(""), asked, "no SQL")

		other := b.slotOf(b.slots, ctx, "y", 3, 0)
		release(b, other.has(b, 0))
		kept := context.WithoutCancel(ctx)
		release(b, g)
		release(b, b.slot(kept, 3, 0).has(b, 0))

		for _, name := range []string{"x#gate", "x#1"} {
			byHand := b.acquire(background, name)
			b.slot(under(byHand), 3, time.Hour).fails(b, fault.ErrReentrant)
			release(b, byHand)
		}
	})
}

// If the session of the gate dies, at any moment, the call starts over, and
// nothing is left.
func TestSlot_TheGateIsLost(t *testing.T) {
	for _, at := range []string{"GET_LOCK('x#gate'", "IS_USED_LOCK('x#0'), ", "GET_LOCK('x#1', 0)", "RELEASE_LOCK('x#gate')"} {
		for _, run := range []bool{false, true} {
			t.Run(fmt.Sprint(at, run), func(t *testing.T) {
				inBubble(t, 0, func(b *bubble) {
					b.server.Lock("x#0")
					b.server.Once(at, &memserver.Reply{Run: run, Drop: true})
					g := b.slot(background, 2, time.Second).granted(b)
					assert.Equal(b, 1, g.Number)
					release(b, g)
					b.server.Script(func(st memserver.Statement) *memserver.Reply {
						if strings.Contains(st.Text, at) {
							return &memserver.Reply{Drop: true}
						}
						return nil
					})
					c := b.slot(background, 2, time.Second)
					c.fails(b, fault.ErrUnavailable)
					assert.NotErrorIs(b, c.err, fault.ErrLost)
					synctest.Wait()
					assert.Equal(b, -1, b.server.Holder("x#1"))
					assert.Equal(b, -1, b.server.Holder("x#gate"))
					b.server.Script(nil)
					b.server.Unlock("x#0")
				})
			})
		}
	}
}

// endsUnseen is a context whose end shows in Err, and is noticed by no other
// means.
type endsUnseen struct {
	context.Context
	ended atomic.Bool
}

func (c *endsUnseen) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// The gate is lost, and the caller's context ends before the call can start
// over. The caller holds nothing, so the error is that of its context.
func TestSlot_TheGateIsLostAsTheContextEnds(t *testing.T) {
	for _, at := range []string{"GET_LOCK('x#0', ", "IS_USED_LOCK('x#0'), ", "GET_LOCK('x#1', 0)", "RELEASE_LOCK('x#gate')"} {
		t.Run(at, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.server.Lock("x#0")
				if strings.Contains(at, "x#0', ") {
					b.server.Lock("x#1")
					defer b.server.Unlock("x#1")
				}
				ctx, reached := &endsUnseen{Context: background}, false
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					if !strings.Contains(st.Text, at) {
						return nil
					}
					reached = true
					ctx.ended.Store(true)
					return &memserver.Reply{Drop: true}
				})
				_, err := b.slots.Acquire(ctx, "x", 2, time.Minute, nil)
				assert.ErrorIs(b, err, context.Canceled)
				assert.NotErrorIs(b, err, fault.ErrLost)
				assert.True(b, reached)
				b.server.Script(nil)
				b.server.Unlock("x#0")
			})
		})
	}
}

// A session that is killed during a wait is replaced. A wait that is killed is
// reported.
func TestSlot_KilledWhileItWaits(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		c := b.slot(background, 2, time.Minute)
		for range 5 {
			time.Sleep(7030 * time.Millisecond)
			c.waits(b)
			b.server.Kill(b.server.Holder("x#gate"))
			synctest.Wait()
		}
		c.waits(b)
		b.server.Unlock("x#1")
		time.Sleep(lookEvery)
		release(b, c.has(b, 1))

		b.server.Lock("x#1")
		for _, killed := range []string{"IS_USED_LOCK('x#0'), ", "GET_LOCK('x#0'"} {
			c = b.slot(background, 2, time.Minute)
			time.Sleep(time.Second)
			b.server.Once(killed, &memserver.Reply{Number: 1317})
			c.fails(b, fault.ErrInterrupted)
			b.server.Script(nil)
		}
		b.server.Unlock("x#0")
		b.server.Unlock("x#1")
	})
}

// A deadlock that the server reports for a wait does not concern the other
// slots.
func TestSlot_Deadlock(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK('x#0'") {
				return &memserver.Reply{Number: 1213}
			}
			return nil
		})
		c := b.slot(background, 2, time.Minute)
		time.Sleep(10 * time.Second)
		c.waits(b)
		assert.Len(b, b.server.Sent("GET_LOCK('x#0'"), 1)
		freed := time.Now()
		b.server.Unlock("x#1")
		<-c.done
		assert.LessOrEqual(b, c.at.Sub(freed), pollEvery)
		release(b, c.has(b, 1))

		b.server.Script(nil)
		b.server.Lock("x#1")
		outer := b.acquire(background, "outer") // a cycle through its wait would not be a deadlock
		c = b.slot(under(outer), 2, time.Minute)
		time.Sleep(10 * time.Second)
		c.waits(b)
		assert.Len(b, b.server.Sent("GET_LOCK('x#0'"), 1)
		b.server.Unlock("x#0")
		time.Sleep(pollEvery)
		release(b, c.has(b, 0))
		release(b, outer)
		b.server.Unlock("x#1")
	})
}

// A network that drops everything delays neither a cancel nor a timeout.
func TestSlot_Silence(t *testing.T) {
	for _, at := range []string{"IS_USED_LOCK('x#0'), ", "GET_LOCK('x#1', 0)", "RELEASE_LOCK('x#gate')"} {
		t.Run(at, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.server.Lock("x#0")
				b.server.Once(at, &memserver.Reply{Hang: true})
				c := b.slot(background, 2, time.Minute)
				time.Sleep(time.Second)
				c.waits(b)
				began := time.Now()
				c.cancel(errGone)
				c.fails(b, errGone)
				assert.LessOrEqual(b, c.at.Sub(began), 100*time.Millisecond)
				b.server.Unlock("x#0")
			})
		})
	}
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		began := time.Now()
		c := b.slot(background, 2, time.Second)
		time.Sleep(500 * time.Millisecond)
		b.server.Once("IS_USED_LOCK('x#0'), ", &memserver.Reply{Hang: true})
		c.fails(b, fault.ErrTimeout)
		assert.LessOrEqual(b, c.at.Sub(began), 1100*time.Millisecond)
		b.server.Script(nil)
		b.server.Unlock("x#0")
		b.server.Unlock("x#1")
	})
}

// Close ends a search, in a wait and in a pause.
func TestSlot_Close(t *testing.T) {
	for _, local := range []bool{false, true} {
		inBubble(t, 0, func(b *bubble) {
			var held *Grant
			if local {
				held = b.slot(background, 2, 0).has(b, 0)
			} else {
				b.server.Lock("x#0")
			}
			b.server.Lock("x#1")
			calls := []*slotted{b.slot(background, 2, time.Minute), b.slot(background, 2, time.Minute)}
			time.Sleep(time.Second)
			closed := b.closing()
			for _, c := range calls {
				c.fails(b, fault.ErrClosed)
			}
			if local {
				release(b, held)
			} else {
				b.server.Unlock("x#0")
			}
			<-closed
			b.server.Unlock("x#1")
			b.slot(background, 2, time.Minute).fails(b, fault.ErrClosed)
		})
	}
}

// A wait that has begun goes on when the server goes away for a while.
func TestSlot_Outage(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		c := b.slot(background, 2, time.Hour)
		time.Sleep(time.Second)
		b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Drop: true} })
		time.Sleep(time.Minute)
		c.waits(b)
		b.server.Script(nil)
		b.server.Unlock("x#1")
		time.Sleep(time.Second)
		release(b, c.has(b, 1))
		b.server.Unlock("x#0")
	})
}

// Callers with different n exclude each other: in total, no more of them have a
// slot than the greatest n. A caller gets only slots below its own n.
func TestSlot_DifferentN(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		other, end := b.another()
		defer end()
		var held []*Grant
		for i := range 2 {
			held = append(held, b.slot(background, 2, 0).has(b, i))
		}
		b.slot(background, 2, 0).fails(b, fault.ErrTimeout)
		for i := range 2 {
			held = append(held, b.slotOf(other, background, "x", 4, 0).has(b, 2+i))
		}
		b.slotOf(other, background, "x", 4, 0).fails(b, fault.ErrTimeout)
		waiting := b.slot(background, 2, time.Minute)
		time.Sleep(time.Second)
		release(b, held[2])
		time.Sleep(time.Second)
		waiting.waits(b) // slot 2 is not below its n
		release(b, held[1])
		release(b, waiting.has(b, 1))
		release(b, held[0])
		release(b, held[3])
	})
}

// Whatever happens, no two callers have the same slot, and none is left held.
func TestSlot_Random(t *testing.T) {
	for seed := range 4 {
		inBubble(t, time.Duration(seed%2)*50*time.Millisecond, func(b *bubble) {
			other, end := b.another()
			defer end()
			const n = 3
			var mu sync.Mutex
			var in [n]int
			var callers sync.WaitGroup
			random := func(most int) int {
				mu.Lock()
				defer mu.Unlock()
				return rand.New(rand.NewPCG(uint64(seed), rand.Uint64())).IntN(most)
			}
			got := 0
			for i := range 20 {
				slots := []*Slots{b.slots, other}[i%2]
				callers.Go(func() {
					for range 30 {
						ctx, cancel := context.WithTimeout(background, time.Duration(1+random(3000))*time.Millisecond)
						g, err := slots.Acquire(ctx, []string{"x", "X"}[i/2%2], n-random(2), time.Duration(random(3000))*time.Millisecond, nil)
						if err == nil {
							held, slot := under(g), g.Number
							mu.Lock()
							got++
							in[slot]++
							mu.Unlock()
							select {
							case <-time.After(time.Duration(random(100)) * time.Millisecond):
							case <-held.Done():
							}
							mu.Lock()
							in[slot]--
							mu.Unlock()
							_ = g.Release()
						}
						cancel()
					}
				})
			}
			done := make(chan struct{})
			go func() { callers.Wait(); close(done) }()
			for going := true; going; {
				select {
				case <-done:
					going = false
				case <-time.After(time.Duration(random(400)) * time.Millisecond):
					name := []string{"x#gate", "X#gate", "x#0", "x#1", "X#1"}[random(5)]
					if holder := b.server.Holder(name); holder > 0 {
						b.server.Kill(holder)
						synctest.Wait()
					}
				}
				mu.Lock()
				for slot := range in {
					assert.LessOrEqual(b, in[slot], 2, "foo and FOO are two locks here, of one process each")
				}
				mu.Unlock()
			}
			assert.Greater(b, got, 100)
			synctest.Wait()
			assert.Empty(b, b.groups())
			assert.Zero(b, b.slots.Waiting())
			// A Kill above may end a session just after its release, and no call
			// follows that would use its connection. Here that is certain.
			all, _ := b.server.Sessions()
			for id := 1; id <= all; id++ {
				b.server.Kill(id)
			}
		})
	}
}

// MySQL ends a wait by an error, after which the lock would be released as a
// precaution. The next lookup shows the same, and is sent anyway.
func TestSlot_AWaitThatEndsByAnError(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("x#0")
		b.server.Lock("x#1")
		var held atomic.Bool // x#0, at the beginning of a statement
		held.Store(true)
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if held.Load() && strings.Contains(st.Text, "GET_LOCK('x#0', 0.") {
				return &memserver.Reply{Run: true, Number: 3024}
			}
			return nil
		})
		c := b.slot(background, 2, time.Minute)
		time.Sleep(10*time.Second + 10*time.Millisecond)
		assert.LessOrEqual(b, len(b.server.Sent("_LOCK(")), 200)
		assert.Empty(b, b.server.Sent("RELEASE_LOCK"))
		held.Store(false)
		b.server.Unlock("x#0") // it is granted, but the wait ends by the error
		time.Sleep(lookEvery)
		g := c.has(b, 0)
		assert.Len(b, b.server.Sent("RELEASE_LOCK('x#0')"), 1)
		release(b, g)
		assert.Equal(b, -1, b.server.Holder("x#0"))

		b.server.Lock("x#0")
		held.Store(true)
		c = b.slot(background, 2, 10*time.Second)
		time.Sleep(10*time.Second - 20*time.Millisecond)
		held.Store(false)
		b.server.Unlock("x#0") // at the last moment: granted or not, it is not left held
		<-c.done
		if c.err == nil {
			release(b, c.grant)
		}
		c = b.slot(background, 2, time.Minute)
		time.Sleep(10 * time.Millisecond)
		c.cancel(errGone)
		<-c.done
		if c.err == nil {
			release(b, c.grant)
		}
		synctest.Wait()
		time.Sleep(lookEvery)
		assert.Equal(b, -1, b.server.Holder("x#0"))
		assert.Equal(b, -1, b.server.Holder("x#gate"))
		b.server.Unlock("x#1")
	})
}

// A slot that was free at the look may be held at the GET_LOCK: the next free
// one is acquired.
func TestSlot_TakenSinceTheLook(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Once("GET_LOCK('x#0', 0", &memserver.Reply{Row: []any{0}})
		release(b, b.slot(background, 2, 0).has(b, 1))
	})
}

// A panicking is a context whose Done panics if it is told to.
type panicking struct {
	context.Context
	panics func() bool
}

func (c panicking) Done() <-chan struct{} {
	if c.panics() {
		panic("mine")
	}
	return c.Context.Done()
}

// A method of the context panics when the slot is held: neither it nor the gate
// stays held.
func TestSlot_TheContextPanics(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		assert.PanicsWithValue(b, "mine", func() {
			_, _ = b.slots.Acquire(panicking{ctx, func() bool { return b.slots.Has("x") }}, "x", 2, time.Minute, nil)
		})
		synctest.Wait()
		assert.False(b, b.slots.Has("x"))
		assert.Equal(b, -1, b.server.Holder("x#0"))
		assert.Equal(b, -1, b.server.Holder("x#gate"))
		assert.Len(b, b.server.Sent("RELEASE_LOCK"), 2, "the slot, and the gate")
	})
}

// A fragile is a context one of whose method calls panics.
type fragile struct {
	context.Context
	calls *atomic.Int64 // that are still to come before the one that panics
}

func (c fragile) count() {
	if c.calls.Add(-1) == 0 {
		panic("mine")
	}
}

func (c fragile) Deadline() (time.Time, bool) { c.count(); return c.Context.Deadline() }
func (c fragile) Done() <-chan struct{}       { c.count(); return c.Context.Done() }
func (c fragile) Err() error                  { c.count(); return c.Context.Err() }
func (c fragile) Value(key any) any           { c.count(); return c.Context.Value(key) }

// Whichever call of a method of the context panics, nothing stays held or
// counted.
func TestSlot_EachCallOfTheContextPanics(t *testing.T) {
	for _, used := range []bool{false, true} {
		for at, panics := int64(1), true; panics; at++ {
			inBubble(t, 0, func(b *bubble) {
				if used {
					b.server.Lock("x#0")
					b.server.Lock("x#1")
					time.AfterFunc(300*time.Millisecond, func() {
						b.server.Unlock("x#1")
						b.server.Unlock("x#0")
					})
				}
				ctx, cancel := context.WithCancel(background)
				defer cancel()
				var calls atomic.Int64
				calls.Store(at)
				func() {
					defer func() { panics = recover() != nil }()
					g, err := b.slots.Acquire(fragile{ctx, &calls}, "x", 2, time.Minute, nil)
					require.NoError(b, err)
					require.NoError(b, g.Release())
				}()
				time.Sleep(time.Second)
				assert.Empty(b, b.groups())
				assert.Empty(b, b.queue.HeldNames())
				for _, name := range []string{"x#0", "x#1", "x#gate"} {
					assert.Equal(b, -1, b.server.Holder(name), name)
				}
			})
		}
	}
}
