package pool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A transaction that cannot be served keeps no other caller from sharing
// sessions whose locks last.
func TestShare_AWaitingTransactionStarvesNobody(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 3 }, func(b *bubble) {
		b.db.SetMaxOpenConns(4)
		var sessions []*Session
		var holds []*hold
		for i := range 3 {
			s, h := b.held("long" + string(rune('0'+i)))
			sessions, holds = append(sessions, s), append(holds, h)
		}
		b.pool.Put(b.take(Request{})) // one is shared
		tx, giveUp := context.WithCancel(context.Background())
		waits := begin(func() error {
			_, err := b.pool.Take(Request{Own: true, Caller: &caller{ctx: tx}})
			return err
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s, err := b.pool.Take(Request{Caller: &caller{ctx: ctx}})
		assert.NoError(b, err, "a free name")
		if s != nil {
			b.pool.Put(s)
		}
		giveUp()
		require.Error(b, <-waits)
		for i, s := range sessions {
			b.release(s, holds[i])
		}
	})
}

// If the db is changed while callers wait, callers that can be served now are
// served. Callers that never can be get an error.
func TestShare_TheDBIsChangedMeanwhile(t *testing.T) {
	for what, to := range map[string]int{"more": 10, "one": 1} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				b.db.SetMaxOpenConns(2)
				leader := b.take(Request{Own: true, Lead: true})
				h := b.lock(leader, "a")
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				ended := begin(func() error {
					s, err := b.pool.Take(Request{Caller: &caller{ctx: ctx}})
					if err == nil {
						b.pool.Put(s)
					}
					return err
				})
				b.db.SetMaxOpenConns(to)
				time.Sleep(30 * time.Second)
				assert.True(b, hasEnded(ended), "waits though that is of no use")
				<-ended
				b.db.SetMaxOpenConns(2)
				b.release(leader, h)
			})
		})
	}
}

// A caller that waits for a session that is busy for a moment keeps its place
// before a transaction that comes later, and for which that session is then
// drained.
func TestShare_KeepsItsPlaceBeforeATransaction(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(3) // two for the Locker
		leader := b.take(Request{Own: true, Lead: true})
		lead := b.lock(leader, "leader")
		s, h := b.held("a")
		require.Same(b, s, b.take(Request{})) // another chain asks on it
		c := anybody()
		earlier := begin(func() *Session { return b.take(Request{Caller: c}) })
		require.Equal(b, 1, c.queued)
		later := begin(func() *Session { return b.take(Request{Own: true}) })
		second := b.lock(s, "b")
		require.True(b, hasEnded(earlier), "it has the next turn")
		assert.Zero(b, c.exhausted, "a caller that tries once fails then")
		b.pool.Put(<-earlier)
		b.release(s, h)
		b.release(s, second)
		b.pool.Put(<-later)
		b.release(leader, lead)
	})
}

// The db is changed and changed back while a caller waits.
func TestShare_TheDBIsChangedBack(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		one := b.take(Request{Own: true, Lead: true})
		first := b.lock(one, "a")
		two := b.take(Request{Own: true, Lead: true})
		second := b.lock(two, "b")
		waits := begin(func() *Session { return b.take(Request{}) })
		time.Sleep(3 * fullTime)
		require.False(b, hasEnded(waits))
		b.release(two, second)
		b.pool.Put(<-waits)
		time.Sleep(3 * idleTime)
		synctest.Wait()

		b.db.SetMaxOpenConns(2)
		waits = begin(func() *Session { return b.take(Request{}) })
		b.db.SetMaxOpenConns(3)
		time.Sleep(30 * time.Second)
		assert.True(b, hasEnded(waits), "waits though there is room")
		b.release(one, first)
		b.pool.Put(<-waits)
	})
}
