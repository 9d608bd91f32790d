package pool

import (
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// If a session is one call chain's own, no other caller has a turn on it.
func TestOwn_NobodyElseHasATurn(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		own := b.take(Request{Own: true})
		h := b.lock(own, "a")
		other := b.take(Request{})
		assert.NotSame(b, own, other)
		waits := begin(func() *Session { return b.take(Request{}) })
		require.NoError(b, b.pool.TakeUrgent(own)) // a proof has a turn, and ends it
		b.pool.Put(own)
		synctest.Wait()
		select {
		case s := <-waits:
			b.Fatalf("another has a turn on %p, %p is one chain's own", s, own)
		default:
		}
		nested := b.take(Request{Home: own})
		assert.Same(b, own, nested)
		b.pool.Put(nested)
		b.pool.Put(other)
		assert.Same(b, other, <-waits)
		b.pool.Put(other)
		b.release(own, h)
	})
}

// A session with locks of other chains does not become one chain's own. A
// session on which all locks are the chain's does.
func TestOwn_NoLocksOfOthers(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 2 }, func(b *bubble) {
		first, h := b.held("a")
		own := b.take(Request{Own: true})
		assert.NotSame(b, first, own)
		b.pool.Put(own)
		b.release(first, h)

		home, outer := b.held("outer")
		own = b.take(Request{Own: true, Home: home, Mine: 1})
		inner := b.lock(own, "inner")
		assert.True(b, inner.own)
		b.release(own, inner)
		b.release(home, outer)
	})
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s, h := b.held("a")
		waits := begin(func() *Session { return b.take(Request{Own: true}) })
		synctest.Wait()
		select {
		case <-waits:
			b.Fatal("a session with another chain's lock is one chain's own")
		default:
		}
		b.release(s, h)
		assert.Same(b, s, <-waits)
		b.pool.Put(s)
	})
}

// A chain's transaction begins on the session of its locks, where the server
// finds its deadlocks, even if another session is idle.
func TestOwn_HomeGoesFirst(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		idle := b.take(Request{})
		home, outer := b.held("outer")
		b.pool.Put(idle)
		own := b.take(Request{Own: true, Home: home, Mine: 1})
		assert.Same(b, home, own)
		b.pool.Put(own)
		b.release(home, outer)
	})
}

// A caller that waits for a session which itself waits for a connection of the
// db is told so. It must not wait as if a session were to be free soon.
func TestOwn_WaitsForTheDB(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2)
		var others []*sql.Conn
		for range 2 {
			conn, err := b.db.Conn(b.Context())
			require.NoError(b, err)
			others = append(others, conn)
		}
		first := begin(func() *Session { return b.take(Request{Own: true}) })
		c := anybody()
		second := begin(func() *Session { return b.take(Request{Own: true, Caller: c}) })
		assert.Equal(b, 1, c.exhausted)
		assert.Zero(b, c.queued)
		for _, conn := range others {
			require.NoError(b, conn.Close())
		}
		b.pool.Put(<-first)
		b.pool.Put(<-second)
	})
}

// Sessions that chains have alone do not count towards the cap. They are
// bounded by the db, of which one connection is left. Callers that wait for it
// are served in order, whatever they need it for.
func TestOwn_BoundedByTheDB(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		b.db.SetMaxOpenConns(4)
		var sessions []*Session
		var holds []*hold
		for range 3 {
			s := b.take(Request{Own: true})
			sessions, holds = append(sessions, s), append(holds, b.lock(s, "a"+string(rune('0'+len(holds)))))
		}
		own := begin(func() *Session { return b.take(Request{Own: true}) })
		synctest.Wait()
		shares := begin(func() *Session { return b.take(Request{}) })
		synctest.Wait()
		require.False(b, hasEnded(own), "one connection is left to the code under the locks")
		require.False(b, hasEnded(shares))
		b.release(sessions[0], holds[0])
		s := <-own
		synctest.Wait()
		require.False(b, hasEnded(shares))
		b.pool.Put(s)
		b.pool.Put(<-shares)
		b.release(sessions[1], holds[1])
		b.release(sessions[2], holds[2])
	})
}

// If there is only one session, a caller that needs it alone is not overtaken
// indefinitely by callers that share it.
func TestOwn_IsNotStarvedByThoseWhoShare(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2)
		s, one := b.held("one")
		require.Same(b, s, b.take(Request{}))
		two := b.lock(s, "two")
		own := begin(func() *Session { return b.take(Request{Own: true}) })
		synctest.Wait()
		shares := begin(func() *Session { return b.take(Request{}) })
		synctest.Wait()
		require.False(b, hasEnded(shares), "it came later")
		b.release(s, one)
		require.False(b, hasEnded(own))
		require.False(b, hasEnded(shares))
		nested := begin(func() *Session { return b.take(Request{Home: s, Mine: 1}) })
		b.pool.Put(<-nested) // its chain has a lock already: it goes on
		b.release(s, two)
		require.Same(b, s, <-own)
		b.pool.Put(s)
		require.Same(b, s, <-shares)
		b.pool.Put(s)
	})
}

// Two chains that share the only session want transactions: the last connection
// of the db lets one begin.
func TestOwn_TransactionsUnderASharedSession(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2)
		s, one := b.held("one")
		require.Same(b, s, b.take(Request{}))
		two := b.lock(s, "two")
		first := b.take(Request{Own: true, Home: s, Mine: 1})
		require.NotSame(b, s, first)
		inner := b.lock(first, "inner")
		second := begin(func() *Session { return b.take(Request{Own: true, Home: s, Mine: 1}) })
		synctest.Wait()
		require.False(b, hasEnded(second))
		b.release(first, inner)
		require.Same(b, first, <-second)
		b.pool.Put(first)
		b.release(s, one)
		b.release(s, two)
	})
}

// All pools of a db together leave one of its connections to other users.
func TestShare_PoolsOfOneDB(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(4)
		other := NewPool(b.db, config())
		defer other.Close()
		s1, h1 := b.held("one")
		s2, h2 := b.held("two")
		third, err := other.Take(Request{Caller: anybody()})
		require.NoError(b, err)
		waits := begin(func() *Session { s, err := other.Take(Request{Caller: anybody()}); assert.NoError(b, err); return s })
		synctest.Wait()
		require.False(b, hasEnded(waits))
		assert.Equal(b, 3, b.db.Stats().InUse)
		b.release(s1, h1)
		s := <-waits // its first session is busy, and there is room for another
		other.Put(s)
		other.Put(third)
		b.release(s2, h2)
	})
}

// A caller waits for a session that is to be free soon. If that session is no
// longer available and no other is left, the caller is told. Otherwise a call
// with timeout 0 would wait for the end of a transaction. If a call chain gets
// the session for itself, it is available to no other caller. If another chain
// takes a lock on it, it is not available to a caller that needs it alone.
func TestOwn_WhoWaitsIsTold(t *testing.T) {
	for what, c := range map[string]struct{ taken, wanted Request }{
		"another has it alone": {Request{Own: true}, Request{}},
		"another has a lock":   {Request{}, Request{Own: true}},
	} {
		told := func(b *bubble) {
			s := b.take(c.taken)
			waits := anybody()
			c.wanted.Caller = waits
			turn := begin(func() *Session { return b.take(c.wanted) })
			assert.Equal(b, 1, waits.queued+waits.exhausted)
			h := b.lock(s, "a")
			synctest.Wait()
			assert.Equal(b, 1, waits.exhausted)
			b.release(s, h)
			assert.Same(b, s, <-turn)
			b.pool.Put(s)
		}
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				b.db.SetMaxOpenConns(2)
				told(b)
			})
			inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) { told(b) })
		})
	}
}

// A chain's home that is busy for a moment is one that it will have soon.
func TestOwn_HomeIsBusyForAMoment(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		home, h := b.held("a")
		require.NoError(b, b.pool.TakeUrgent(home)) // a proof
		waits := anybody()
		turn := begin(func() *Session { return b.take(Request{Own: true, Home: home, Mine: 1, Caller: waits}) })
		assert.Zero(b, waits.exhausted)
		b.pool.Put(home)
		assert.Same(b, home, <-turn)
		b.pool.Put(home)
		b.release(home, h)
	})
}

// If a chain has a session of its own, its calls use that session. If another
// call of the chain waits there for a lock, that wait makes way.
func TestOwn_TheChainsCallsGoNowhereElse(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{Own: true})
		h := b.lock(s, "tx")
		require.Same(b, s, b.take(Request{Home: s, Mine: 1}))
		require.Positive(b, b.pool.BeginWait(s, 1, 0))
		other := begin(func() *Session { return b.take(Request{Home: s, Mine: 1}) })
		require.False(b, hasEnded(other), "not elsewhere")
		b.pool.EndWait(s)
		require.Zero(b, b.pool.BeginWait(s, 1, 0), "the other call is next")
		b.pool.Put(s)
		require.Same(b, s, <-other)
		require.Positive(b, b.pool.BeginWait(s, 1, 0), "nobody else is there")
		b.pool.EndWait(s)
		b.pool.Put(s)
		b.release(s, h)
	})
}

// A session on which another has a turn for a moment stays its chain's own, and
// a leader's.
func TestOwn_YieldKeepsIt(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		home, outer := b.held("outer")
		require.Same(b, home, b.take(Request{Own: true, Lead: true, Home: home, Mine: 1}))
		proof := begin(func() error { return b.pool.TakeUrgent(home) })
		yielded := begin(func() error { return b.pool.Yield(home) })
		require.NoError(b, <-proof)
		b.pool.Put(home)
		require.NoError(b, <-yielded)
		require.Positive(b, b.pool.BeginWait(home, 1, 0), "a leader waits, whatever the cap")
		b.pool.EndWait(home)
		other := begin(func() *Session { return b.take(Request{}) })
		require.True(b, hasEnded(other), "nor does its session count towards the cap")
		b.pool.Put(<-other)
		b.pool.Put(home)
		b.release(home, outer)
	})
}

// A session that one chain had alone does not become an additional shared
// session beyond the cap.
func TestShare_TheCapIsKept(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		own := b.take(Request{Own: true})
		s, h := b.held("a")
		require.NotSame(b, own, s)
		require.NoError(b, b.pool.TakeUrgent(s)) // a proof
		waits := begin(func() *Session { return b.take(Request{}) })
		b.pool.Put(own)
		require.False(b, hasEnded(waits), "not the empty one")
		b.pool.Put(s)
		require.Same(b, s, <-waits)
		b.pool.Put(s)
		require.Same(b, s, b.take(Request{}), "nor is it taken while it is idle")
		b.pool.Put(s)
		time.Sleep(2 * idleTime) // it goes back to the db
		require.Equal(b, 1, sessions(b.pool))
		b.requireNoSpare(s)
		require.Equal(b, 1, sessions(b.pool), "nor is a spare one opened")
		b.release(s, h)
	})
}

// There are no more leaders than leave the db a connection for other locks, and
// one for the code under them.
func TestShare_Leaders(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(4)
		require.NoError(b, b.pool.Lead())
		require.NoError(b, b.pool.Lead())
		err := b.pool.Lead()
		require.ErrorIs(b, err, fault.ErrUnsupported)
		require.ErrorContains(b, err, "at least 5")
		b.pool.Resign()
		require.NoError(b, b.pool.Lead())
		b.pool.Resign()
		b.pool.Resign()
	})
}
