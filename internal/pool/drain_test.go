package pool

import (
	"context"
	"testing"
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
