package pool

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A server that was full for a moment is asked again by callers that no session
// can serve. A leader's session cannot be shared.
func TestShare_AFullServerIsAskedAgain(t *testing.T) {
	for what, req := range map[string]Request{"shares": {}, "own": {Own: true}} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				leader := b.take(Request{Own: true, Lead: true})
				h := b.lock(leader, "leader")
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					if strings.Contains(st.Text, "VERSION()") {
						return &memserver.Reply{Number: 1040}
					}
					return nil
				})
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				begun := time.Now()
				taken := begin(func() *Session {
					req.Caller = &caller{ctx: ctx}
					s, err := b.pool.Take(req)
					assert.NoError(b, err)
					return s
				})
				b.server.Script(nil) // it has room again
				s := <-taken
				assert.Less(b, time.Since(begun), 5*time.Second)
				if s != nil {
					b.pool.Put(s)
				}
				b.release(leader, h)
			})
		})
	}
}

// A pool whose callers have given up takes no wake-up from another.
func TestShare_WakesWhoStillWaits(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2) // one for all Lockers
		one, two := NewPool(b.db, config()), NewPool(b.db, config())
		leader := b.take(Request{Own: true, Lead: true})
		h := b.lock(leader, "a")
		{ // one waits, and gives up
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := one.Take(Request{Caller: &caller{ctx: ctx}})
			assert.ErrorIs(b, err, context.DeadlineExceeded)
			cancel()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		waits := begin(func() *Session {
			s, err := two.Take(Request{Caller: &caller{ctx: ctx}})
			assert.NoError(b, err)
			return s
		})
		b.release(leader, h)
		b.pool.Close() // which gives its connection back
		s := <-waits
		if s != nil {
			two.Put(s)
		}
		one.Close()
		two.Close()
		b.pool = NewPool(b.db, config())
	})
}

// Locks that are waited for inside transactions, on their sessions, do not
// count towards the cap.
func TestShare_NestedWaitsOfTransactions(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 2 }, func(b *bubble) {
		b.db.SetMaxOpenConns(10)
		var sessions []*Session
		var holds []*hold
		for i := range 2 {
			s := b.take(Request{Own: true})
			sessions, holds = append(sessions, s), append(holds, b.lock(s, "tx"+string(rune('0'+i))))
			s = b.take(Request{Home: s})
			require.NotZero(b, b.pool.BeginWait(s, 1, 0))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		s, err := b.pool.Take(Request{Caller: &caller{ctx: ctx}})
		assert.NoError(b, err, "a free name")
		if s != nil {
			b.pool.Put(s)
		}
		for i, s := range sessions {
			b.pool.EndWait(s)
			b.pool.Put(s)
			b.release(s, holds[i])
		}
	})
}

// Room that is given between a caller's decision to wait and its wait wakes the
// caller.
func TestShare_NoWakeUpIsLost(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2)
		other := NewPool(b.db, config())
		s, err := other.Take(Request{Caller: anybody()})
		require.NoError(b, err)
		_, k, err := b.pool.choose(Request{Caller: anybody()}, time.Time{})
		require.NoError(b, err)
		require.NotNil(b, k, "it waits")
		_ = s.MarkBroken(server.ErrClosed)
		other.Put(s) // dead: its connection is given back
		synctest.Wait()
		b.pool.awaitRoom()
		select {
		case <-k.turn:
		case <-time.After(time.Minute):
			b.pool.withdraw(k)
			b.Error("not woken")
		}
		other.Close()
	})
}

// A pool closes while another pool makes it give back an unused session. The
// other pool is woken, and Close waits.
func TestShare_SweepOfAPoolThatCloses(t *testing.T) {
	for range 300 {
		inBubble(t, nil, func(b *bubble) {
			b.db.SetMaxOpenConns(2)
			other := NewPool(b.db, config())
			s, err := other.Take(Request{Caller: anybody()})
			require.NoError(b, err)
			other.Put(s) // idle
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			taken := make(chan *Session, 1)
			go func() {
				s, _ := b.pool.Take(Request{Caller: &caller{ctx: ctx}})
				taken <- s
			}()
			other.Close()
			assert.LessOrEqual(b, b.db.Stats().InUse, 1)
			if s := <-taken; s != nil {
				b.pool.Put(s)
			} else {
				b.Error("starved")
			}
		})
	}
}
