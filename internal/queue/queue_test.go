package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
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
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// For returns the Terms of a caller with that timeout.
func For(timeout time.Duration) Terms { return Terms{Timeout: timeout, Left: timeout} }

// A bubble is a queue on a server in memory, under a clock that jumps. At the
// end of the test nothing may be under way, and no goroutine may be left.
type bubble struct {
	*testing.T
	server *memserver.Server
	db     *sql.DB
	queue  *Queue
}

func inBubble(t *testing.T, handOff time.Duration, test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, server: memserver.New()}
		b.db = b.server.Open()
		b.db.SetMaxIdleConns(10)
		b.queue = New(pool.NewPool(b.db, pool.Config{MaxSessions: 4, Config: server.Config{
			ReleaseTimeout: 5 * time.Second,
			KeepAlive:      5 * time.Second,
			Probe:          25 * time.Millisecond,
			Logger:         slog.New(slog.DiscardHandler),
		}}), handOff)
		test(b)
		closed := b.closing()
		time.Sleep(time.Minute)
		b.queue.mu.Lock()
		active, lines := b.queue.active, len(b.queue.lines)
		b.queue.mu.Unlock()
		require.Zero(t, active, "grants and runs under way")
		require.Zero(t, lines)
		<-closed
		assert.Zero(t, b.db.Stats().InUse)
		require.NoError(t, b.server.Close(b.db))
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Zero(t, alive, "sessions of the server")
	})
}

func (b *bubble) closing() <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.queue.Close()
	}()
	synctest.Wait()
	return closed
}

// active returns how many grants and waits are under way.
func (b *bubble) active() int {
	synctest.Wait()
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	return b.queue.active
}

// sliceOf returns the length of the slices of the waits for a name; 0: they are
// not cut.
func (b *bubble) sliceOf(name string) time.Duration {
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	return b.queue.lines[name].asker.retry.slice
}

// A call is an Acquire in a goroutine of its own.
type call struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	grant  *Grant
	err    error
	at     time.Time // when it ended
}

func (b *bubble) call(ctx context.Context, name string, timeout time.Duration) *call {
	ctx, cancel := context.WithCancelCause(ctx)
	return b.callUnder(ctx, cancel, name, timeout)
}

// callFirm is call for a context that cannot end.
func (b *bubble) callFirm(name string, timeout time.Duration) *call {
	return b.callUnder(context.Background(), nil, name, timeout)
}

func (b *bubble) callUnder(ctx context.Context, cancel context.CancelCauseFunc, name string, timeout time.Duration) *call {
	c := &call{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.grant, c.err = b.queue.Acquire(ctx, name, For(timeout), nil)
		c.at = time.Now()
	}()
	synctest.Wait()
	return c
}

func (c *call) waits(b *bubble) {
	b.Helper()
	synctest.Wait()
	select {
	case <-c.done:
		b.Fatalf("ended: %v", c.err)
	default:
	}
}

func (c *call) granted(b *bubble) *Grant {
	b.Helper()
	<-c.done
	require.NoError(b, c.err)
	return c.grant
}

func (c *call) fails(b *bubble, with error) {
	b.Helper()
	<-c.done
	require.ErrorIs(b, c.err, with)
}

// acquire takes a lock that is free.
func (b *bubble) acquire(ctx context.Context, name string) *Grant {
	b.Helper()
	g, err := b.queue.Acquire(ctx, name, For(Forever), nil)
	require.NoError(b, err)
	return g
}

// under returns the context of a lock's code.
func under(g *Grant) context.Context {
	return g.Context(context.Background(), func(err error) error { return err })
}

func release(b *bubble, g *Grant) {
	b.Helper()
	require.NoError(b, g.Release())
	synctest.Wait()
}

var background = context.Background()

// Callers are served in the order in which they came, whether this process or
// another one holds the lock.
func TestQueue_FirstInFirstOut(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		inBubble(t, 0, func(b *bubble) {
			var first *Grant
			if elsewhere {
				b.server.Lock("a")
			} else {
				first = b.acquire(background, "a")
			}
			var calls []*call
			for i := range 6 {
				if i%2 == 0 {
					calls = append(calls, b.call(background, "a", time.Hour))
				} else {
					calls = append(calls, b.callFirm("a", time.Hour))
				}
			}
			if elsewhere {
				b.server.Unlock("a")
			} else {
				require.NoError(b, first.Release())
			}
			for i, c := range calls {
				g := c.granted(b)
				for _, later := range calls[i+1:] {
					later.waits(b)
				}
				require.NoError(b, g.Release())
			}
			assert.LessOrEqual(b, len(b.server.Sent("RELEASE_LOCK")), 7)
		})
	}
}

// The server has one waiter of this process, however many callers wait, and
// they keep its place. A caller that leaves passes the place on.
func TestQueue_TheWaitBelongsToTheName(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		first := b.call(background, "a", time.Hour)
		second := b.call(background, "a", time.Hour)
		third := b.callFirm("a", time.Hour)
		asked := len(b.server.Sent("GET_LOCK"))
		assert.Equal(b, 2, asked, "a try and a wait")
		first.cancel(nil)
		first.fails(b, context.Canceled)
		second.waits(b)
		assert.Len(b, b.server.Sent("GET_LOCK"), asked, "the wait goes on")
		b.server.Unlock("a")
		require.NoError(b, second.granted(b).Release())
		require.NoError(b, third.granted(b).Release())
	})
}

// Every caller's timeout ends its wait exactly in time, in whatever order the
// callers came.
func TestLine_TimeoutsInAnyOrder(t *testing.T) {
	orders := [][]time.Duration{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}, {2, 2, 1}, {3, 1, 3}}
	for _, seconds := range orders {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				holder := b.acquire(background, "a")
				begun := time.Now()
				var calls []*call
				for _, s := range seconds {
					calls = append(calls, b.call(background, "a", s*time.Second))
				}
				for i, c := range calls {
					c.fails(b, fault.ErrTimeout)
					assert.Equal(b, seconds[i]*time.Second, c.at.Sub(begun))
				}
				assert.Equal(b, 1, b.active(), "the holder")
				require.NoError(b, holder.Release())
				assert.Zero(b, b.active())
			})
		})
	}
}

// The longest wait of a line is known without a search each time. It is never
// too short, in whatever order waiters join and leave.
func TestLine_Lasts(t *testing.T) {
	q := New(nil, 0)
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	l := &line{queue: q}
	var in []*waiter
	for range 20_000 {
		if n := len(in); n > 0 && random.IntN(2) == 0 {
			i := random.IntN(n)
			l.partLocked(in[i])
			in = append(in[:i], in[i+1:]...)
		} else {
			w := &waiter{Grant: Grant{line: l}, ctx: background, until: never}
			if random.IntN(50) > 0 {
				w.until = now.Add(time.Duration(1 + random.IntN(1000)))
			}
			l.joinLocked(w)
			in = append(in, w)
		}
		until := l.lastsLocked()
		for _, w := range in {
			require.False(t, w.until.After(until))
		}
		if len(in) == 1 {
			require.Equal(t, in[0].until, until, "who is alone is known exactly")
		}
	}
}

// A line of 20,000 callers costs about as much as eight lines of 2,500.
func TestLine_CostIsLinear(t *testing.T) {
	run := func(n int, timeout time.Duration) {
		q := New(nil, 0)
		l := &line{queue: q}
		for range n {
			w := &waiter{Grant: Grant{line: l}, ctx: background, served: make(chan struct{}), terms: For(timeout), until: time.Now().Add(timeout)}
			l.joinLocked(w)
		}
		for l.front != nil { // after each caller that is served, the next wait begins
			wt := &wait{}
			wt.longest(l, slice)
			q.mu.Lock()
			q.serveLocked(l.front, errGone)
			q.mu.Unlock()
		}
	}
	for _, timeout := range []time.Duration{time.Second, 10 * time.Minute} {
		// A disturbance only makes a run slower. So the shortest of several
		// runs counts, and both measurements are about as long, so that they
		// are disturbed equally.
		short, long := time.Duration(math.MaxInt64/4), time.Duration(math.MaxInt64)
		for begun := time.Now(); long/4 >= short && time.Since(begun) < 20*time.Second; {
			start := time.Now()
			for range 8 {
				run(2_500, timeout)
			}
			between := time.Now()
			run(20_000, timeout)
			short, long = min(short, between.Sub(start)), min(long, time.Since(between))
		}
		assert.Less(t, long, 4*short, "%v: eight lines of 2,500 callers took %v, one of 20,000 took %v", timeout, short, long)
	}
}

const slice = 30 * time.Second

// A call waits for a busy session, at most for its timeout. A try waits for one
// as well, and finds the lock free.
func TestRun_WaitingForATurnIsWaiting(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.db.SetMaxOpenConns(5)
		busy := make(chan struct{})
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK('slow") {
				<-busy
			}
			return nil
		})
		var slow []*call
		for i := range 4 { // all sessions are busy with first questions
			slow = append(slow, b.call(background, fmt.Sprint("slow", i), 0))
		}
		begun := time.Now()
		c := b.call(background, "free", 200*time.Millisecond)
		once := b.call(background, "once", 0)
		c.fails(b, fault.ErrTimeout)
		assert.ErrorContains(b, c.err, "session")
		assert.Equal(b, 200*time.Millisecond, c.at.Sub(begun))
		once.waits(b)
		close(busy)
		require.NoError(b, once.granted(b).Release())
		for _, c := range slow {
			require.NoError(b, c.granted(b).Release())
		}
	})
}

// crowd makes that many calls, each for another lock that is taken. They end
// after the timeout. A round trip to the server takes trip.
func (b *bubble) crowd(names int, trip, timeout time.Duration) (calls []*call) {
	b.server.Script(func(st memserver.Statement) *memserver.Reply {
		time.Sleep(trip)
		return nil
	})
	for i := range names {
		name := fmt.Sprint("busy", i)
		b.server.Lock(name)
		calls = append(calls, b.call(background, name, timeout))
	}
	return calls
}

// At the cap, many names poll on one session. A first question goes before the
// polls. The more names there are, the less often each polls.
func TestRun_PollsMakeWay(t *testing.T) {
	const names, trip = 300, 5 * time.Millisecond
	inBubble(t, 0, func(b *bubble) {
		calls := b.crowd(names, trip, time.Hour)
		for len(b.server.Sent("GET_LOCK('busy")) < names+names/2 { // until they poll, all at the same time
			time.Sleep(trip)
		}
		for range 20 {
			begun := time.Now()
			once := b.call(background, "free", 0)
			require.NoError(b, once.granted(b).Release())
			assert.LessOrEqual(b, once.at.Sub(begun), 4*trip, "one poll that is on its way, and the question")
			late := b.call(background, "busy0", 200*time.Millisecond)
			begun = time.Now()
			late.fails(b, fault.ErrTimeout)
			assert.LessOrEqual(b, late.at.Sub(begun), 210*time.Millisecond)
			time.Sleep(77 * time.Millisecond)
		}
		asked := len(b.server.Sent("GET_LOCK('busy"))
		const while = 12 * time.Second
		time.Sleep(while)
		asked = len(b.server.Sent("GET_LOCK('busy")) - asked
		assert.LessOrEqual(b, asked, int(while/trip*6/10), "polls in that time")
		assert.GreaterOrEqual(b, asked, int(while/trip*3/10))

		b.server.Script(nil)
		for i, c := range calls {
			b.server.Unlock(fmt.Sprint("busy", i))
			require.NoError(b, c.granted(b).Release())
		}
	})
}

// When a caller becomes the first of a line whose wait pauses, its question is
// sent at once, not at the end of the pause.
func TestRun_WhoStepsUpEndsThePause(t *testing.T) {
	const names, trip = 300, 5 * time.Millisecond
	inBubble(t, 0, func(b *bubble) {
		calls := b.crowd(names, trip, time.Minute)
		time.Sleep(20 * time.Second)
		b.server.Lock("line")
		begun := time.Now()
		first := b.call(background, "line", 500*time.Millisecond)
		second := b.call(background, "line", 700*time.Millisecond)
		third := b.call(background, "line", time.Minute)
		time.Sleep(490 * time.Millisecond)
		// Counted before the first leaves: the question may follow at once.
		asked := len(b.server.Sent("GET_LOCK('line'"))
		first.fails(b, fault.ErrTimeout)
		assert.LessOrEqual(b, first.at.Sub(begun), 510*time.Millisecond)
		time.Sleep(100 * time.Millisecond) // within a pause of 3 s
		assert.Len(b, b.server.Sent("GET_LOCK('line'"), asked+1, "the second's own first question")
		second.fails(b, fault.ErrTimeout)
		assert.LessOrEqual(b, second.at.Sub(begun), 710*time.Millisecond)
		b.server.Unlock("line")
		require.NoError(b, third.granted(b).Release())
		for _, c := range calls {
			c.fails(b, fault.ErrTimeout)
		}
	})
}

// One slow answer, of a server that was stopped for a moment, makes no pause
// long.
func TestRun_OneSlowAnswerMakesNoLongPause(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		var calls []*call
		for i := range 4 {
			name := fmt.Sprint("busy", i)
			b.server.Lock(name)
			calls = append(calls, b.call(background, name, time.Hour))
		}
		time.Sleep(time.Second)
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			time.Sleep(4 * time.Second)
			return nil
		})
		time.Sleep(time.Second)
		b.server.Script(nil)
		time.Sleep(8 * time.Second)
		asked := len(b.server.Sent("GET_LOCK('busy"))
		time.Sleep(time.Second)
		assert.GreaterOrEqual(b, len(b.server.Sent("GET_LOCK('busy"))-asked, 3*int(time.Second/pollInterval)/2, "polls in a second")
		for i, c := range calls {
			b.server.Unlock(fmt.Sprint("busy", i))
			require.NoError(b, c.granted(b).Release())
		}
	})
}

// No stream of first questions starves the polls.
func TestRun_PollsDoNotStarve(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			time.Sleep(5 * time.Millisecond)
			return nil
		})
		for i := range 6 {
			b.server.Lock(fmt.Sprint("busy", i))
		}
		var calls []*call
		for i := range 6 {
			calls = append(calls, b.call(background, fmt.Sprint("busy", i), time.Hour))
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		for i := range 20 {
			go func() {
				defer func() { stopped <- struct{}{} }()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					g, err := b.queue.Acquire(background, fmt.Sprint("free", i, "-", n), For(0), nil)
					if assert.NoError(b, err) {
						_ = g.Release()
					}
				}
			}()
		}
		time.Sleep(time.Second)
		b.server.Unlock("busy5")
		unlocked := time.Now()
		<-calls[5].done
		assert.Less(b, calls[5].at.Sub(unlocked), 2*time.Second)
		close(stop)
		for range 20 {
			<-stopped
		}
		require.NoError(b, calls[5].granted(b).Release())
		for i, c := range calls[:5] {
			b.server.Unlock(fmt.Sprint("busy", i))
			require.NoError(b, c.granted(b).Release())
		}
	})
}

// The cap is lowered below the number of sessions that wait. A free name can
// still be acquired, and all waiters go on waiting.
func TestRun_CapLoweredWhileSessionsWait(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.db.SetMaxOpenConns(20)
		var calls []*call
		for i := range 3 {
			b.server.Lock(fmt.Sprint("busy", i))
			calls = append(calls, b.call(background, fmt.Sprint("busy", i), time.Hour))
		}
		time.Sleep(2 * time.Second) // the idle session goes back
		require.Equal(b, 3, sessions(b.queue))
		b.db.SetMaxOpenConns(3)
		begun := time.Now()
		c := b.call(background, "free", 10*time.Second)
		require.NoError(b, c.granted(b).Release())
		assert.Less(b, c.at.Sub(begun), time.Second)
		for i, c := range calls {
			c.waits(b)
			b.server.Unlock(fmt.Sprint("busy", i))
			require.NoError(b, c.granted(b).Release())
		}
	})
}

// A caller whose first question is on its way does not wait for another caller,
// so its timeout does not count yet. The timeouts of the callers behind it
// count.
func TestLine_ABeginningIsNoWaitForOthers(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK") {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		begun := time.Now()
		first := b.call(background, "a", time.Second)
		second := b.call(background, "a", time.Second)
		g := first.granted(b)
		assert.Equal(b, 2*time.Second, first.at.Sub(begun))
		second.fails(b, fault.ErrTimeout)
		assert.Equal(b, time.Second, second.at.Sub(begun))
		require.NoError(b, g.Release())

		b.server.Lock("b")
		begun = time.Now()
		late := b.call(background, "b", time.Second)
		late.fails(b, fault.ErrTimeout)
		assert.Equal(b, 2*time.Second, late.at.Sub(begun), "it had its try")
		b.server.Unlock("b")
		b.server.Script(nil)
	})
}

// A caller leaves while the answer to its try is on its way, and the answer is
// a grant. The next caller, which tries once, must not find the name taken by
// that grant.
func TestRun_TryLeftBehind(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		first := true
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			switch {
			case first && strings.Contains(st.Text, "GET_LOCK('a', 0)"):
				first = false
				b.server.Lock("a") // the grant
				time.Sleep(time.Second)
				return &memserver.Reply{Row: []any{1}}
			case strings.Contains(st.Text, "RELEASE_LOCK('a')"):
				b.server.Unlock("a")
				return &memserver.Reply{Row: []any{1}}
			}
			return nil
		})
		left := b.call(background, "a", time.Hour)
		time.Sleep(time.Second / 2)
		left.cancel(nil)
		left.fails(b, context.Canceled)
		next := b.call(background, "a", 0)
		require.NoError(b, next.granted(b).Release())
		assert.Equal(b, -1, b.server.Holder("a"))
	})
}

// The last caller leaves while the server is asked whether it still excludes,
// after its wait was granted. The next caller, which tries once, must not find
// the name taken by that grant.
func TestRun_WaitLeftBehind(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("a")
		left := b.call(background, "a", time.Hour)
		var asked atomic.Bool
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "SELECT @@read_only") && !asked.Swap(true) {
				time.Sleep(time.Second)
			}
			return nil
		})
		time.Sleep(20 * time.Second) // so that the cluster is asked about again
		b.server.Unlock("a")
		time.Sleep(time.Second / 2)
		left.cancel(nil)
		left.fails(b, context.Canceled)
		next := b.call(background, "a", 0)
		require.NoError(b, next.granted(b).Release())
		assert.True(b, asked.Load())
	})
}

var errGone = errors.New("gone")

// A lock that is granted while its caller leaves is passed on or released.
func TestQueue_CancelledGrant(t *testing.T) {
	for _, next := range []string{"", "a", "A"} {
		t.Run("next="+next, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				hold := make(chan struct{})
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					if strings.Contains(st.Text, "GET_LOCK('a', 0)") && len(b.server.Sent("GET_LOCK('a', 0)")) == 1 {
						<-hold
					}
					return nil
				})
				c := b.call(background, "a", time.Hour)
				c.cancel(errGone)
				c.fails(b, errGone)
				require.ErrorIs(b, c.err, context.Canceled)
				var other *call
				if next != "" {
					other = b.call(background, next, time.Hour)
				}
				close(hold)
				synctest.Wait()
				if other != nil {
					g := other.granted(b)
					assert.Equal(b, next, g.Name())
					assert.Positive(b, b.server.Holder(next))
					require.NoError(b, g.Release())
				}
				assert.Equal(b, -1, b.server.Holder("a"), "nobody has it")
				assert.Zero(b, b.active())
			})
		})
	}
}

// A lock is released if the context of its caller ended at the moment of the
// grant.
func TestQueue_GrantedWhileTheContextEnded(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		ctx := &endingUnseen{Context: background, done: make(chan struct{})}
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK") {
				ctx.ended.Store(true)
			}
			return nil
		})
		_, err := b.queue.Acquire(ctx, "a", For(Forever), nil)
		require.ErrorIs(b, err, context.Canceled)
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Zero(b, b.active())
	})
}

// endingUnseen is a context that ends too late for a waiter to notice it.
type endingUnseen struct {
	context.Context
	done  chan struct{}
	ended atomic.Bool
}

func (c *endingUnseen) Done() <-chan struct{} { return c.done }

func (c *endingUnseen) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// A cancelled wait is ended with its connection, which holds no lock. The name
// is not left held.
func TestQueue_CancelledWait(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.call(background, "a", Forever)
		begun := time.Now()
		c.cancel(errGone)
		c.fails(b, errGone)
		assert.Equal(b, begun, c.at, "at once")
		assert.Zero(b, b.active())
		b.server.Unlock("a")
		assert.Equal(b, -1, b.server.Holder("a"))
		_, alive := b.server.Sessions()
		assert.Zero(b, alive, "the waiting session has gone")
	})
}

// A deadline ends the wait on the server, so the connection stays usable.
func TestQueue_DeadlineSparesTheConnection(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		const brief = shortestLookup - time.Millisecond // another connection would ask for the holder
		b.server.Lock("a")
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		begun := time.Now()
		_, err := b.queue.Acquire(ctx, "a", For(Forever), nil)
		require.ErrorIs(b, err, context.DeadlineExceeded)
		synctest.Wait() // the caller may leave a moment before the answer to its statement is read
		_, err = b.queue.Acquire(background, "a", For(brief), nil)
		require.ErrorIs(b, err, fault.ErrTimeout)
		assert.InDelta(b, time.Second+brief, time.Since(begun), float64(2*time.Millisecond))
		all, alive := b.server.Sessions()
		assert.Equal(b, []int{2, 2}, []int{all, alive}, "that of the waits, and one that has asked who is in the way")
		b.server.Unlock("a")
	})
}

// No statement waits for longer than a slice. The caller still waits for its
// whole timeout.
func TestQueue_LongWaitsGoInSlices(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.callFirm("a", 100*time.Second)
		begun := time.Now()
		c.fails(b, fault.ErrTimeout)
		assert.Equal(b, 100*time.Second, c.at.Sub(begun))
		assert.Len(b, b.server.Sent("GET_LOCK('a', 30)"), 3)
		assert.Len(b, b.server.Sent("GET_LOCK('a', 10)"), 1)
		b.server.Unlock("a")
	})
}

// asksDone is a context that calls asked when its Done is called.
type asksDone struct {
	context.Context
	asked func()
}

func (c asksDone) Done() <-chan struct{} {
	c.asked()
	return c.Context.Done()
}

// A call is in line when it calls Done of its context. So a test that notices
// the call of Done can begin the next call behind it.
func TestQueue_InLineBeforeDone(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		held := b.acquire(background, "a")
		inLine := 0
		c := b.callUnder(asksDone{background, func() {
			b.queue.mu.Lock()
			defer b.queue.mu.Unlock()
			inLine = b.queue.lines["a"].length
		}}, nil, "a", Forever)
		c.waits(b)
		assert.Equal(b, 1, inLine)
		require.NoError(b, held.Release())
		require.NoError(b, c.granted(b).Release())
	})
}

// A chain that holds a name gets ErrReentrant, in any letter case. Forks of a
// chain wait for each other. A cycle of chains is ErrDeadlock, however long it
// is.
func TestQueue_Deadlocks(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		a := b.acquire(background, "a")
		_, err := b.queue.Acquire(under(a), "A", For(time.Hour), nil)
		require.ErrorIs(b, err, fault.ErrReentrant)

		// a → b → c → a
		bb, cc := b.acquire(background, "b"), b.acquire(background, "c")
		underA, underB, underC := a.Context(background, same), under(bb), under(cc)
		ab := b.call(underA, "b", time.Hour)
		bc := b.call(underB, "c", time.Hour)
		_, err = b.queue.Acquire(underC, "a", For(time.Hour), nil)
		require.ErrorIs(b, err, fault.ErrDeadlock)
		ab.waits(b)
		bc.waits(b)
		assert.Len(b, b.queue.nested, 2)

		// A call without a lock closes no cycle.
		stranger := b.call(background, "a", time.Hour)
		stranger.waits(b)

		require.NoError(b, cc.Release())
		inner := bc.granted(b)
		require.NoError(b, inner.Release())
		require.NoError(b, bb.Release())
		inner = ab.granted(b)
		// Released locks do not belong to a chain, even if its context goes on.
		assert.True(b, b.queue.chainOf(context.WithoutCancel(underC)).empty())
		again, err := b.queue.Acquire(context.WithoutCancel(underC), "c", For(0), nil)
		require.NoError(b, err)
		require.NoError(b, again.Release())
		require.NoError(b, inner.Release())
		require.NoError(b, a.Release())
		require.NoError(b, stranger.granted(b).Release())
		assert.Empty(b, b.queue.nested)
	})
}

func same(err error) error { return err }

// Close comes at each moment of several calls. Waiters get ErrClosed. Holders
// keep their lock to the end, for which Close waits. Nothing is left.
func TestQueue_CloseAtEveryMoment(t *testing.T) {
	moments := 0
	for at := int64(1); ; at++ {
		over := false
		inBubble(t, 0, func(b *bubble) {
			b.server.Lock("busy")
			time.AfterFunc(100*time.Millisecond, func() { b.server.Unlock("busy") })
			var seen atomic.Int64
			moment := make(chan struct{})
			come := sync.OnceFunc(func() { close(moment) })
			b.server.Script(func(memserver.Statement) *memserver.Reply {
				if seen.Add(1) == at {
					come()
					time.Sleep(time.Millisecond) // Close comes in this time
				}
				return nil
			})
			go func() {
				<-moment
				b.queue.Close()
			}()
			section := func(name string, firm bool, nested string) <-chan error {
				done := make(chan error, 1)
				go func() {
					ctx, cancel := context.WithCancel(background)
					defer cancel()
					if firm {
						ctx = background
					}
					g, err := b.queue.Acquire(ctx, name, For(time.Hour), nil)
					if err != nil {
						done <- err
						return
					}
					time.Sleep(10 * time.Millisecond)
					if nested != "" {
						if inner, err := b.queue.Acquire(under(g), nested, For(time.Hour), nil); err == nil {
							time.Sleep(10 * time.Millisecond)
							if err := inner.Release(); err != nil {
								done <- err
								return
							}
						} else if !errors.Is(err, fault.ErrClosed) {
							done <- err
							return
						}
					}
					done <- g.Release()
				}()
				return done
			}
			all := []<-chan error{
				section("free", true, ""), section("free", false, ""), section("busy", true, ""),
				section("busy", false, "inner"), section("outer", false, "busy"), section("inner", true, ""),
			}
			for _, done := range all {
				if err := <-done; err != nil {
					assert.ErrorIs(b, err, fault.ErrClosed, "closed at statement %d", at)
				}
			}
			over = seen.Load() < at
			come()
		})
		if over {
			break
		}
		moments++
		if t.Failed() {
			break
		}
	}
	t.Logf("%d moments", moments)
	assert.Greater(t, moments, 20)
}

// Close does not wait for the end of a wait on the server.
func TestQueue_CloseEndsWaits(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		first, second := b.call(background, "a", Forever), b.callFirm("a", time.Hour)
		begun := time.Now()
		<-b.closing()
		assert.Equal(b, begun, time.Now())
		first.fails(b, fault.ErrClosed)
		second.fails(b, fault.ErrClosed)
		b.server.Unlock("a")
		assert.Equal(b, -1, b.server.Holder("a"))
	})
}

// A closed queue refuses every caller, and Close may be called again.
func TestQueue_Closed(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.acquire(background, "a")
		closed, again := b.closing(), b.closing()
		_, err := b.queue.Acquire(background, "b", For(0), nil)
		require.ErrorIs(b, err, fault.ErrClosed)
		select {
		case <-closed:
			b.Error("Close does not wait for the lock")
		case <-again:
			b.Error("the second Close does not wait for the lock")
		default:
		}
		require.NoError(b, g.Release())
		<-closed
		<-again
	})
}

// A caller that leaves does not disturb the caller before it, whose nested wait
// is on the session of its chain.
func TestQueue_WhoLeavesFromBehind(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("b")
		a := b.acquire(background, "a")
		nested := b.call(under(a), "b", Forever)
		behind := b.call(background, "b", Forever)
		asker := b.queue.lines["b"].asker
		require.NotNil(b, asker)

		behind.cancel(errGone)
		behind.fails(b, errGone)
		synctest.Wait()
		assert.Same(b, asker, b.queue.lines["b"].asker, "the wait goes on")

		b.server.Unlock("b")
		g := nested.granted(b)
		assert.Same(b, a.session, g.session)
		require.NoError(b, g.Release())
		require.NoError(b, a.Release())
	})
}

// A wait with a short timeout is also repeated if its connection dies.
func TestRun_AShortWaitMayDie(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.callFirm("a", 8*time.Millisecond)
		synctest.Wait()
		all, _ := b.server.Sessions()
		b.server.Kill(all)
		synctest.Wait()
		b.server.Unlock("a")
		require.NoError(b, c.granted(b).Release())
	})
}

// Each wait whose connection dies halves the next one. A single kill leaves
// waits long. After ten deaths even a wait of 30 s is shorter than any read
// timeout in use.
func TestRun_EachDeathHalvesTheWait(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.call(background, "a", Forever)
		die := func(after time.Duration) {
			time.Sleep(after)
			all, _ := b.server.Sessions()
			b.server.Kill(all) // the newest
			synctest.Wait()
		}
		for want := slice / 2; want > 20*time.Millisecond; want /= 2 {
			die(20 * time.Millisecond)
			assert.Equal(b, want, b.sliceOf("a"))
		}
		c.waits(b)
		b.server.Unlock("a")
		require.NoError(b, c.granted(b).Release())
	})
}

// A try does not wait.
func TestQueue_ATryWaitsForNobody(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("l")
		start := time.Now()
		c := b.callFirm("l", 0)
		c.fails(b, fault.ErrTimeout)
		assert.Zero(b, c.at.Sub(start))
		b.server.Unlock("l")
	})
}

// If the session of a chain dies during a nested question, the chain's lock is
// lost. No other session is opened for the rest of the question.
func TestQueue_ADeadChainAsksNoMore(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		outer := b.acquire(b.Context(), "outer")
		ctx := outer.Context(b.Context(), func(err error) error { return err })
		b.server.Once("GET_LOCK('inner'", &memserver.Reply{Drop: true})
		_, err := b.queue.Acquire(ctx, "inner", For(Forever), nil)
		require.ErrorIs(b, err, fault.ErrLost)
		synctest.Wait()
		all, _ := b.server.Sessions()
		assert.Equal(b, 1, all)
		require.ErrorIs(b, outer.Release(), fault.ErrLost)
	})
}

// A caller that needs a session of its own waits for one, and leaves. The next
// caller in line may share a session: it does not wait for one of its own.
func TestQueue_TheNextNeedsLess(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		p, q := b.acquire(background, "p"), b.acquire(background, "q")
		ctx, leave := context.WithCancel(background)
		left := make(chan error)
		go func() {
			_, err := b.queue.Acquire(ctx, "a", Terms{Timeout: time.Hour, Left: time.Hour, Use: ForTx}, nil)
			left <- err
		}()
		synctest.Wait()
		require.NoError(b, b.acquire(background, "c").Release(), "it shares")
		plain := b.call(background, "a", time.Hour)
		leave()
		require.ErrorIs(b, <-left, context.Canceled)
		release(b, plain.granted(b)) // or the bubble would end
		release(b, p)
		release(b, q)
	})
}

func sessions(q *Queue) int {
	all, _ := q.pool.Sessions()
	return all
}

// inLine reports whether a caller waits for the lock, or holds it.
func (b *bubble) inLine(name string) bool {
	synctest.Wait()
	b.queue.mu.Lock()
	defer b.queue.mu.Unlock()
	l := b.queue.lines[name]
	return l != nil && (l.front != nil || l.holder != nil)
}

// A waiter that was behind another caller ends with its timeout, whatever
// happens to the server and to the other callers.
func TestLine_NoTimeoutIsLost(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, time.Duration(seed%2)*time.Second, func(b *bubble) {
				random := rand.New(rand.NewPCG(seed, 9))
				b.queue.pool.MaxSessions = 1 + random.IntN(3)
				b.server.Lock("a")
				head := b.call(background, "a", time.Hour)
				b.db.SetMaxIdleConns(-1) // Close of a db returns the errors of dead connections
				type waiting struct {
					*call
					due   time.Time
					stood bool // behind another caller
				}
				var all []waiting
				for range 30 {
					switch random.IntN(6) {
					case 0:
						b.server.SetDialing(time.Duration(random.IntN(20)) * time.Second)
						b.down()
					case 1:
						b.back()
					case 2:
						if i := random.IntN(len(all) + 1); i < len(all) {
							all[i].cancel(errGone)
						} else {
							head.cancel(errGone)
						}
					default:
						timeout := time.Duration(1+random.IntN(12_000)) * time.Millisecond
						stood := b.inLine("a")
						all = append(all, waiting{b.call(background, "a", timeout), time.Now().Add(timeout), stood})
					}
					time.Sleep(time.Duration(random.IntN(3_000)) * time.Millisecond)
				}
				end := time.AfterFunc(time.Hour, b.back)
				head.cancel(nil)
				<-head.done
				for i, w := range all {
					<-w.done
					if w.err == nil {
						require.NoError(b, w.grant.Release())
					}
					late := 100 * time.Millisecond
					if !w.stood {
						late += 10 * time.Second // opening a session, twice, does not count
					}
					assert.LessOrEqual(b, w.at.Sub(w.due), late, "%d: %v", i, w.err)
				}
				end.Stop()
				b.back()
				b.server.Unlock("a")
			})
		})
	}
}

// A cancel at the moment of the grant returns soon, even if the network has
// fallen silent. Close waits for the release.
func TestQueue_ACancelMeetsTheGrantOnASilentNetwork(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		ctx := &endingUnseen{Context: background, done: make(chan struct{})}
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			switch {
			case strings.Contains(st.Text, "GET_LOCK('a'"):
				ctx.ended.Store(true)
			case strings.Contains(st.Text, "RELEASE_LOCK('a'"):
				return &memserver.Reply{Hang: true}
			}
			return nil
		})
		begun := time.Now()
		_, err := b.queue.Acquire(ctx, "a", For(Forever), nil)
		require.ErrorIs(b, err, context.Canceled)
		assert.LessOrEqual(b, time.Since(begun), 100*time.Millisecond)
		assert.Equal(b, 1, b.active(), "the release")
		closed := b.closing()
		select {
		case <-closed:
			b.Error("Close does not wait for the release")
		default:
		}
		<-closed
		assert.LessOrEqual(b, time.Since(begun), 6*time.Second)
		synctest.Wait() // the connection is closed; the server notices that in a goroutine of its own
		assert.Equal(b, -1, b.server.Holder("a"))
	})
}

// If no caller is left when the session is ready, no GET_LOCK is sent: another
// caller would find the lock taken.
func TestRun_NobodyWantsTheQuestion(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		one := b.acquire(background, "one")
		time.Sleep(6 * time.Second) // what is known of the server is older than an interval
		require.NoError(b, one.Release())
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.HasPrefix(st.Text, "SELECT @@read_only") {
				time.Sleep(time.Second)
			}
			return nil
		})
		c := b.call(background, "a", time.Hour)
		time.Sleep(time.Second / 2)
		c.cancel(errGone)
		c.fails(b, errGone)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Empty(b, b.server.Sent("GET_LOCK('a'"))
		assert.Zero(b, b.active())
	})
}

// A grant by a demoted server is not a death of the wait: the next wait is as
// long.
func TestRun_ADemotionLeavesWaitsLong(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("a")
		c := b.call(background, "a", time.Hour)
		b.server.SetReadOnly(true)
		b.server.Unlock("a")
		synctest.Wait()
		b.server.SetReadOnly(false)
		if b.server.Holder("a") < 0 {
			b.server.Lock("a")
		}
		c.waits(b)
		assert.Zero(b, b.sliceOf("a"), "0: not cut")
		time.Sleep(time.Second)
		b.server.Unlock("a")
		require.NoError(b, c.granted(b).Release())
	})
}

// A refused call leaves no line behind.
func TestQueue_RefusedCallsLeaveNoLine(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		own := Terms{Timeout: Forever, Left: Forever, Use: ForLead}
		g, err := b.queue.Acquire(background, "a", own, nil)
		require.NoError(b, err)
		_, err = b.queue.Acquire(under(g), "b", own, nil)
		require.ErrorIs(b, err, fault.ErrInTransaction)
		assert.Len(b, b.queue.lines, 1)
		require.NoError(b, g.Release())
	})
}

// Calls of a chain with a session of its own share that session. While one of
// them waits there for a lock, another gets a free lock, and neither starves.
func TestQueue_ForksShareTheirOwnSession(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("held")
		tx, err := b.queue.Acquire(background, "tx", Terms{Timeout: Forever, Left: Forever, Use: ForTx}, nil)
		require.NoError(b, err)
		ctx := under(tx)
		waits := b.call(ctx, "held", Forever)
		for range 20 {
			begun := time.Now()
			free := b.call(ctx, "free", 5*time.Second)
			g := free.granted(b)
			assert.Same(b, tx.session, g.session)
			assert.LessOrEqual(b, free.at.Sub(begun), 1100*time.Millisecond, "a slice of the wait")
			require.NoError(b, g.Release())
			time.Sleep(10 * time.Millisecond)
		}
		waits.waits(b)
		b.server.Unlock("held")
		g := waits.granted(b)
		assert.Same(b, tx.session, g.session)
		require.NoError(b, g.Release())
		require.NoError(b, tx.Release())
	})
}

// The session dies at the question after the grant of a wait or of a poll.
// Nothing is held then, and no code runs yet: the lock is asked for again, on
// another session.
func TestRun_TheQuestionAfterTheGrantDies(t *testing.T) {
	for name, cap := range map[string]int{"wait": 4, "poll": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.queue.pool.CheckServer = true
				b.queue.pool.MaxSessions = cap
				b.server.Lock("a")
				c := b.call(background, "a", time.Hour)
				time.Sleep(21 * time.Second) // so that the cluster is asked about again, and not before the next poll
				b.server.Once("SELECT @@read_only", &memserver.Reply{Drop: true})
				died := len(b.server.Sent("GET_LOCK('a'"))
				sessions, _ := b.server.Sessions()
				b.server.Unlock("a")
				g := c.granted(b)
				ctx := under(g)
				time.Sleep(time.Minute)
				require.NoError(b, ctx.Err())
				require.NoError(b, g.Release())
				all, _ := b.server.Sessions()
				assert.Equal(b, sessions+1, all, "one died")
				assert.Greater(b, len(b.server.Sent("GET_LOCK('a'")), died)
			})
		})
	}
}

// Behind a proxy each wait may be granted by a server that is refused then,
// while other statements reach the primary. The next wait comes after a pause.
func TestRun_EachGrantIsRefused(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		const most = 100
		waits := 0
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			switch {
			case !strings.Contains(st.Text, "GET_LOCK('a', "):
				b.server.SetReadOnly(false)
			case strings.Contains(st.Text, "GET_LOCK('a', 0)"):
				return &memserver.Reply{Row: []any{0}}
			default:
				waits++
				b.server.SetReadOnly(waits <= most)
			}
			return nil
		})
		began := time.Now()
		g := b.call(background, "a", time.Hour).granted(b)
		assert.GreaterOrEqual(b, time.Since(began), most*pollInterval)
		b.up()
		require.NoError(b, g.Release())
	})
}

// The answer to the wait contains whether the server can be written to, so no
// question follows. A server that was demoted during the wait grants nothing.
func TestRun_TheAnswerToTheWaitSaysWhetherTheServerIsWritable(t *testing.T) {
	for _, demoted := range []bool{false, true} {
		inBubble(t, 0, func(b *bubble) {
			b.queue.pool.CheckServer = true
			b.server.Lock("a")
			c := b.call(background, "a", time.Hour)
			time.Sleep(time.Second)
			asked := len(b.server.Sent("SELECT @@read_only"))
			b.server.SetReadOnly(demoted)
			b.server.Unlock("a")
			if demoted {
				c.fails(b, fault.ErrReadOnly)
			} else {
				require.NoError(b, c.granted(b).Release())
			}
			assert.Len(b, b.server.Sent("SELECT @@read_only"), asked)
		})
	}
}

// The connection is killed as the wait is granted, shortly before the timeout.
// The caller asks again at once: after a pause it would be too late.
func TestRun_KilledAtTheGrantShortlyBeforeTheTimeout(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.queue.pool.CheckServer = true
		b.server.Lock("a")
		b.queue.pool.KeepAlive = 100 * time.Millisecond // so that a question follows the grant
		c := b.call(background, "a", time.Second)
		time.Sleep(time.Second - pollInterval/2)
		b.server.Once("SELECT @@read_only", &memserver.Reply{Drop: true})
		b.server.Unlock("a")
		release(b, c.granted(b))
	})
}
