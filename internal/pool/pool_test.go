package pool

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

func TestSessionCap(t *testing.T) {
	for _, c := range []struct{ wanted, maxOpen, limit int }{
		{0, 0, 16}, {0, 2, 1}, {0, 3, 2}, {0, 8, 4}, {0, 12, 6}, {0, 100, 50},
		{1, 0, 1}, {40, 0, 40}, {40, 100, 40}, {40, 8, 7}, {5, 5, 4},
	} {
		got, err := SessionCap(c.wanted, c.maxOpen)
		require.NoError(t, err)
		assert.Equal(t, c.limit, got, "%+v", c)
	}
	for _, wanted := range []int{0, 1, 5} {
		_, err := SessionCap(wanted, 1)
		assert.ErrorIs(t, err, fault.ErrUnsupported)
	}
}

// Every lock has a session of its own up to the cap; beyond it, sessions are
// shared, and the one with the fewest locks is the first to be.
func TestPool_SharesOnlyBeyondTheCap(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		seen := map[*Session]int{}
		held := map[*hold]*Session{}
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			s, h := b.held(name)
			seen[s]++
			held[h] = s
		}
		assert.Len(b, seen, 4)
		for _, locks := range seen {
			assert.Equal(b, 2, locks)
		}
		for h, s := range held {
			b.release(s, h)
		}
	})
}

// The cap follows the db's own.
func TestPool_CapIsReadAgain(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 0 }, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		s, h := b.held("a")
		other, more := b.held("b")
		assert.NotSame(b, s, other)
		third, last := b.held("c")
		assert.Contains(b, []*Session{s, other}, third, "one connection is left to the code under the locks")
		b.db.SetMaxOpenConns(1)
		s4, err := b.pool.Take(Request{Caller: anybody()})
		assert.Nil(b, s4)
		require.ErrorIs(b, err, fault.ErrUnsupported)
		b.db.SetMaxOpenConns(3)
		b.release(s, h)
		b.release(other, more)
		b.release(third, last)
	})
}

// A chain goes to its session, whatever else is free.
func TestPool_ChainGoesHome(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("outer")
		b.pool.Put(b.take(Request{})) // an empty one
		inner := b.take(Request{Home: s})
		assert.Same(b, s, inner)

		second := begin(func() *Session { return b.take(Request{Home: s}) })
		assert.False(b, hasEnded(second), "a statement on it is over soon")
		b.pool.Put(inner)
		assert.Same(b, s, <-second)
		b.pool.Put(s)
		b.release(s, h)
	})
}

// A chain's call that waits for a turn on the chain's session goes elsewhere
// when another call of the chain begins to wait there for a lock.
func TestPool_HomeBeginsToWait(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("outer")
		require.Same(b, s, b.take(Request{Home: s, Mine: 1}))
		waits := begin(func() *Session { return b.take(Request{Home: s, Mine: 1}) })
		require.False(b, hasEnded(waits), "a statement on it is over soon")
		require.Positive(b, b.pool.BeginWait(s, 1, 0))
		require.True(b, hasEnded(waits), "a wait is not")
		other := <-waits
		assert.NotSame(b, s, other)
		b.pool.Put(other)
		b.pool.EndWait(s)
		b.pool.Put(s)
		b.release(s, h)
	})
}

// Callers that need this session go first, then callers that accept any
// session. Both are served in their order.
func TestPool_OrderOfTurns(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s := b.take(Request{})
		order := make(chan string, 3)
		turn := func(name string, take func()) {
			go func() {
				take()
				order <- name
				time.Sleep(time.Millisecond)
				b.pool.Put(s)
			}()
			synctest.Wait()
		}
		turn("first waiter", func() { b.take(Request{}) })
		turn("second waiter", func() { b.take(Request{}) })
		turn("urgent", func() { assert.NoError(b, b.pool.TakeUrgent(s)) })
		b.pool.Put(s)
		for _, want := range []string{"urgent", "first waiter", "second waiter"} {
			assert.Equal(b, want, <-order)
		}
		time.Sleep(10 * time.Millisecond)
	})
}

// Yield lets a release pass, and no other caller.
func TestPool_YieldIsForTheUrgent(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s := b.take(Request{})
		waiter := begin(func() *Session { return b.take(Request{}) })
		require.NoError(b, b.pool.Yield(s))
		assert.False(b, hasEnded(waiter))

		owned := begin(func() error { return b.pool.TakeUrgent(s) })
		yielded := begin(func() error { return b.pool.Yield(s) })
		require.NoError(b, <-owned)
		assert.False(b, hasEnded(yielded), "the turn is another's")
		b.pool.Put(s)
		require.NoError(b, <-yielded)
		assert.False(b, hasEnded(waiter))
		b.pool.Put(s)
		b.pool.Put(<-waiter)
	})
}

// A caller that gives up while it is given the turn passes the turn on.
func TestPool_TurnOfOneWhoGaveUp(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s := b.take(Request{})
		ctx, cancel := context.WithCancel(context.Background())
		gaveUp := begin(func() error {
			_, err := b.pool.Take(Request{Caller: &caller{ctx: ctx}})
			return err
		})
		cancel()
		require.ErrorIs(b, <-gaveUp, context.Canceled)
		assert.Empty(b, b.pool.waiters)

		b.pool.mu.Lock()
		k := &waiter{priority: first, turn: make(chan struct{})}
		b.pool.waiters = append(b.pool.waiters, k)
		b.pool.mu.Unlock()
		next := begin(func() *Session { return b.take(Request{}) })
		b.pool.Put(s) // to k
		assert.False(b, hasEnded(next))
		b.pool.withdraw(k)
		b.pool.Put(<-next)
	})
}

// A session goes back unchanged when it has been idle for a second. A session
// that is used within the second stays.
func TestPool_IdleSessionsGoBack(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, other := b.take(Request{}), b.take(Request{})
		b.pool.Put(s)
		time.Sleep(600 * time.Millisecond)
		b.pool.Put(other)
		inUse := func() int { synctest.Wait(); return b.db.Stats().InUse }
		time.Sleep(399 * time.Millisecond)
		assert.Equal(b, 2, inUse())
		time.Sleep(time.Millisecond)
		assert.Equal(b, 1, inUse(), "the first goes back after a second")
		time.Sleep(500 * time.Millisecond)
		assert.Same(b, other, b.take(Request{}))
		time.Sleep(2 * time.Second)
		assert.Equal(b, 1, inUse(), "it is in use")
		h := b.lock(other, "a")
		time.Sleep(2 * time.Second)
		assert.Equal(b, 1, inUse(), "it has a lock")
		b.release(other, h)
		time.Sleep(time.Second)
		assert.Zero(b, inUse())
		assert.Equal(b, 2, b.db.Stats().Idle, "both are pooled")
		assert.Len(b, b.server.Sent("SET SESSION wait_timeout = 60"), 2)
		assert.Len(b, b.server.Sent("SET SESSION wait_timeout = 28800"), 2)

		s = b.take(Request{})
		all, _ := b.server.Sessions()
		assert.Equal(b, 2, all, "the pooled ones are used again")
		b.pool.Put(s)
		time.Sleep(time.Second)
		assert.Zero(b, inUse(), "the timer runs again")
	})
}

// The timer that gives one session back runs again for those that were too
// young.
func TestPool_IdleSessionsGoBackInTurn(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, other := b.take(Request{}), b.take(Request{})
		b.pool.Put(s)
		time.Sleep(600 * time.Millisecond)
		b.pool.Put(other)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Zero(b, b.db.Stats().InUse)
	})
}

// A caller shares a session if the db has no free connection. If there is no
// session to share, the caller is told that the db is exhausted.
func TestPool_ExhaustedDB(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 3 }, func(b *bubble) {
		b.db.SetMaxOpenConns(4)
		var others []*sql.Conn
		borrow := func(n int) {
			for range n {
				conn, err := b.db.Conn(context.Background())
				require.NoError(b, err)
				others = append(others, conn)
			}
		}
		borrow(3)
		s, h := b.held("a")
		c := anybody()
		assert.Same(b, s, b.take(Request{Caller: c}))
		assert.Zero(b, c.exhausted)
		b.pool.Put(s)
		b.release(s, h)
		time.Sleep(2 * time.Second) // it goes back to the db
		borrow(1)

		taken := begin(func() *Session { return b.take(Request{Caller: c}) })
		assert.False(b, hasEnded(taken))
		assert.Equal(b, 1, c.exhausted)
		// The next caller waits for the same connection: the db is exhausted for
		// both.
		behind := anybody()
		ctx, cancel := context.WithCancel(context.Background())
		behind.ctx = ctx
		gaveUp := begin(func() error { _, err := b.pool.Take(Request{Caller: behind}); return err })
		assert.False(b, hasEnded(gaveUp))
		assert.Equal(b, 1, behind.exhausted)
		cancel()
		require.ErrorIs(b, <-gaveUp, context.Canceled)
		time.Sleep(time.Hour) // no bound but the caller's
		assert.False(b, hasEnded(taken))
		require.NoError(b, others[0].Close())
		b.pool.Put(<-taken)
		for _, conn := range others[1:] {
			require.NoError(b, conn.Close())
		}
	})
}

// To open a session is bounded by 5 s in all.
func TestPool_OpeningIsBounded(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
		begun := time.Now()
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.Equal(b, server.AnswerTime, time.Since(begun))
		b.server.Script(nil)
		b.pool.Put(b.take(Request{}))
	})
}

// Connections that died in the db's pool are passed over, within the same
// bound.
func TestPool_StaleConnections(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		var idle []*sql.Conn
		for range 3 {
			conn, err := b.db.Conn(context.Background())
			require.NoError(b, err)
			idle = append(idle, conn)
		}
		for _, conn := range idle {
			require.NoError(b, conn.Close())
		}
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Session <= 3 {
				return &memserver.Reply{Hang: true}
			}
			return nil
		})
		begun := time.Now()
		b.pool.Put(b.take(Request{}))
		assert.Equal(b, 3*staleTime, time.Since(begun))
	})
}

// A session that the caller's failure has shown to be stale takes the idle ones
// with it.
func TestPool_FreshMeansNew(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		old, another := b.take(Request{}), b.take(Request{})
		b.pool.Put(old)
		b.pool.Put(another)
		s := b.take(Request{Fresh: true})
		assert.NotSame(b, old, s)
		assert.NotSame(b, another, s)
		b.pool.Put(s)
	})
}

// A session in doubt is dead. Its locks are lost, and callers that wait for it
// are told. Callers that accept any session go elsewhere. Its connection is
// closed before Put returns.
func TestPool_SessionInDoubt(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s, h := b.held("a")
		require.NoError(b, b.pool.TakeUrgent(s))
		owned := begin(func() error { return b.pool.TakeUrgent(s) })
		waiter := begin(func() *Session { return b.take(Request{}) })
		home := begin(func() *Session { return b.take(Request{Home: s}) })
		_ = s.MarkBroken(errors.New("doubt"))
		b.pool.Put(s)
		synctest.Wait() // for the server to see that the connection is closed
		assert.Equal(b, -1, b.server.Holder("a"), "closed when Put has returned")
		assert.Equal(b, s.BrokenBy(), <-owned)
		b.awaitLoss(h)
		assert.Equal(b, s.BrokenBy(), h.why)
		assert.Equal(b, s.BrokenBy(), b.pool.TakeUrgent(s))
		assert.False(b, b.pool.Hold(s, h))
		for range 2 { // they share the next
			select {
			case other := <-waiter:
				assert.NotSame(b, s, other)
				b.pool.Put(other)
			case other := <-home:
				assert.NotSame(b, s, other)
				b.pool.Put(other)
			}
		}
	})
}

// The cap is lowered, and a wait is ended for that in the moment in which it is
// granted. No later statement reaches the server on such a session, so its
// caller must not take the lock.
func TestPool_AWaitIsEndedWhenItIsGranted(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		require.Positive(b, b.pool.BeginWait(s, 0, 0))
		granted, err := s.GetLock("a", time.Second)
		require.NoError(b, err)
		require.True(b, granted)
		b.db.SetMaxOpenConns(2)
		other := begin(func() *Session { return b.take(Request{}) })
		b.pool.EndWait(s)
		assert.True(b, s.Broken())
		b.pool.Put(s)
		b.pool.Put(<-other)
		synctest.Wait() // the server frees the lock after the connection is closed
		assert.Negative(b, b.server.Holder("a"), "free")
	})
}

// Waits within the cap are not ended, even if no other session will be free
// soon: the one that is being opened waits for a connection of the db.
func TestPool_WaitsWithinTheCapLast(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 2 }, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		s := b.take(Request{})
		require.Positive(b, b.pool.BeginWait(s, 0, 0))
		var others []*sql.Conn
		for range 2 {
			conn, err := b.db.Conn(b.Context())
			require.NoError(b, err)
			others = append(others, conn)
		}
		first := begin(func() *Session { return b.take(Request{}) })
		second := begin(func() *Session { return b.take(Request{}) })
		assert.False(b, hasEnded(first))
		assert.False(b, hasEnded(second))
		b.pool.EndWait(s)
		assert.False(b, s.Broken())
		for _, conn := range others {
			require.NoError(b, conn.Close())
		}
		b.pool.Put(s)
		b.pool.Put(<-first)
		b.pool.Put(<-second)
	})
}

// Which callers may block a session in a wait, and for how long.
func TestPool_LeaveToWait(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 3; c.KeepAlive = time.Second }, func(b *bubble) {
		empty := b.take(Request{})
		assert.Equal(b, server.Slice, b.pool.BeginWait(empty, 0, 0), "an empty session")
		withOne := b.take(Request{})
		h := b.lock(withOne, "a")
		require.NoError(b, b.pool.TakeUrgent(withOne))
		assert.Zero(b, b.pool.BeginWait(withOne, 0, 0), "others' locks are on it")
		assert.Equal(b, 500*time.Millisecond, b.pool.BeginWait(withOne, 1, 0), "half an interval")
		last := b.take(Request{})
		assert.Zero(b, b.pool.BeginWait(last, 0, 0), "the cap's last")
		b.pool.EndWait(empty)
		assert.Equal(b, server.Slice, b.pool.BeginWait(last, 0, 0))
		b.pool.EndWait(last)
		b.pool.EndWait(withOne)

		urgent := begin(func() error { return b.pool.TakeUrgent(empty) })
		assert.Zero(b, b.pool.BeginWait(empty, 0, 0), "a release waits for it")
		b.pool.Put(empty)
		require.NoError(b, <-urgent)
		b.pool.Put(empty)
		b.pool.Put(last)
		b.pool.Put(withOne)
		b.release(withOne, h)
	})
	inBubble(t, func(c *Config) { c.KeepAlive = 10 * time.Second }, func(b *bubble) {
		s, h := b.held("a")
		require.NoError(b, b.pool.TakeUrgent(s))
		assert.Equal(b, sliceHolding, b.pool.BeginWait(s, 1, 0), "never longer than a second")
		b.pool.EndWait(s)
		b.pool.Put(s)
		b.release(s, h)
	})
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s := b.take(Request{})
		assert.Equal(b, sliceLent, b.pool.BeginWait(s, 0, 0))
		b.pool.EndWait(s)
		assert.Zero(b, b.pool.BeginWait(s, 0, 1), "somebody polls")
		waiter := begin(func() *Session { return b.take(Request{}) })
		assert.Zero(b, b.pool.BeginWait(s, 0, 0), "somebody wants the session")
		b.pool.Put(s)
		b.pool.Put(<-waiter)
	})
}

// A wait is killed on a session that holds nothing and can be replaced, and at
// no other time.
func TestPool_KillWait(t *testing.T) {
	kill := func(b *bubble, s *Session, mine int) bool {
		b.pool.KillWait(s)
		assert.False(b, s.killed, "it does not wait")
		require.NoError(b, b.pool.TakeUrgent(s))
		require.Positive(b, b.pool.BeginWait(s, mine, 0))
		b.pool.KillWait(s)
		b.pool.EndWait(s)
		defer b.pool.Put(s)
		return s.Broken()
	}
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		assert.False(b, kill(b, s, 1), "it has a lock")
		b.release(s, h)
		assert.True(b, kill(b, s, 0))
	})
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		assert.False(b, kill(b, b.pool.lent, 0), "no other session can be opened")
	})
}

// The one connection, once gone, is not replaced.
func TestPool_SingleSessionIsNotReplaced(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		b.pool.Put(b.take(Request{}))
		b.server.Kill(1)
		s := b.take(Request{})
		_, err := s.GetLock("a", 0)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		b.pool.Put(s)
		for range 2 {
			_, err := b.pool.Take(Request{Caller: anybody()})
			require.ErrorIs(b, err, fault.ErrUnavailable)
		}
	})
}

// A session in steady use is asked again whether its server is fit, an interval
// after the last time.
func TestPool_ChecksSessionsInUseAgain(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		for range 12 { // one every half second: it never goes back
			time.Sleep(500 * time.Millisecond)
			b.pool.Put(b.take(Request{}))
		}
		assert.Len(b, b.server.Sent("SELECT @@read_only"), 1)
		b.server.SetReadOnly(true)
		time.Sleep(500 * time.Millisecond)
		for range 12 {
			s, err := b.pool.Take(Request{Caller: anybody()})
			if err != nil {
				require.ErrorIs(b, err, fault.ErrUnsupported)
				return
			}
			b.pool.Put(s)
			time.Sleep(500 * time.Millisecond)
		}
		b.Error("the replica is still used")
	})
}

// A connection counts until it is back in its db: there are never more than the
// cap.
func TestPool_CountsWhatIsBeingGivenBack(t *testing.T) {
	for what, part := range map[string]func(b *bubble, s *Session){
		"given back": func(b *bubble, s *Session) {
			b.pool.Put(s)
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if strings.Contains(st.Text, "SET SESSION wait_timeout = 28800") {
					time.Sleep(time.Second / 2)
				}
				return nil
			})
			time.Sleep(idleTime + time.Second/4)
		},
		"discarded": func(b *bubble, s *Session) {
			_ = s.MarkBroken(server.ErrClosed)
			b.pool.Put(s)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.MaxSessions, c.Lease = 1, time.Minute }, func(b *bubble) {
				part(b, b.take(Request{}))
				most, done := 0, make(chan struct{})
				go func() {
					defer close(done)
					for range 1000 {
						most = max(most, b.db.Stats().InUse)
						time.Sleep(time.Millisecond)
					}
				}()
				c := anybody()
				s := b.take(Request{Caller: c})
				<-done
				assert.LessOrEqual(b, most, 1)
				assert.Zero(b, c.exhausted)
				b.pool.Put(s)
			})
		})
	}
}

// A db that is changed to a single connection is refused, also while a session
// is idle.
func TestPool_ChangedToASingleConnection(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.pool.Put(b.take(Request{}))
		b.db.SetMaxOpenConns(1)
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnsupported)
		assert.Nil(b, b.pool.TakeSpare(nil))
		b.db.SetMaxOpenConns(0)
		b.pool.Put(b.take(Request{}))
	})
}

// A server that has no connection left for us: the sessions that there are, are
// shared, and it is not asked again at each call.
func TestPool_FullServer(t *testing.T) {
	for _, number := range []uint16{1040, 1203, 1226} {
		inBubble(t, nil, func(b *bubble) {
			s, h := b.held("a")
			refused := 0
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if strings.Contains(st.Text, "VERSION()") {
					refused++
					return &memserver.Reply{Number: number}
				}
				return nil
			})
			for range 5 {
				shared := b.take(Request{})
				assert.Same(b, s, shared)
				b.pool.Put(shared)
			}
			assert.LessOrEqual(b, refused, 2, "a greeting, and the same in plainer words")
			b.server.Script(nil)
			time.Sleep(fullTime)
			other := b.take(Request{})
			assert.NotSame(b, s, other)
			b.pool.Put(other)
			b.release(s, h)
		})
	}
	inBubble(t, nil, func(b *bubble) { // there is none to share
		b.server.Script(func(st memserver.Statement) *memserver.Reply { return &memserver.Reply{Number: 1040} })
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnavailable)
	})
}

// What it takes to connect is taken off what the greeting may take.
func TestPool_OpeningIsBoundedAsAWhole(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.server.SetDialing(3 * time.Second)
		b.server.Script(func(st memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
		begun := time.Now()
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.Equal(b, server.AnswerTime, time.Since(begun))
	})
}

// A connection that has answered nonsense is not given back to the db.
func TestInspect_BrokenConnectionIsNotPooled(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxIdleConns(10)
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "IS_USED_LOCK") {
				return &memserver.Reply{Row: []any{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}
			}
			return nil
		})
		err := b.pool.Inspect(context.Background(), nil, func(s *server.Conn) error {
			_, _, err := s.Holder("a")
			return err
		})
		require.ErrorIs(b, err, fault.ErrUnavailable)
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Zero(b, alive)
		assert.Zero(b, b.db.Stats().OpenConnections)
	})
}

func sessions(p *Pool) int {
	all, _ := p.Sessions()
	return all
}

// Callers that are woken to choose again keep their order: one that has waited
// for long is not overtaken by a later one.
func TestPool_ChoosingAgainKeepsTheOrder(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s := b.take(Request{})
		var callers, waiting []Caller
		var done []<-chan error
		for range 10 {
			c := anybody()
			callers = append(callers, c)
			time.Sleep(time.Millisecond) // no two come at the same time
			done = append(done, begin(func() error {
				s, err := b.pool.Take(Request{Caller: c})
				if err == nil {
					b.pool.Put(s)
				}
				return err
			}))
		}
		b.pool.mu.Lock()
		b.pool.wakeWaitersLocked(forAny)
		b.pool.mu.Unlock()
		synctest.Wait()
		b.pool.mu.Lock()
		for _, k := range b.pool.waiters {
			waiting = append(waiting, k.req.Caller)
		}
		b.pool.mu.Unlock()
		b.pool.Put(s)
		for _, d := range done {
			require.NoError(b, <-d)
		}
		assert.True(b, slices.Equal(callers, waiting), "they wait in another order")
	})
}
