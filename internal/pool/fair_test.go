package pool

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A Locker whose own callers keep all its sessions busy leaves those of another
// on the same db their turn.
func TestShare_ABusyLockerStarvesNoOther(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		busy, stop := context.WithCancel(context.Background())
		ended := make(chan struct{}, 6)
		for range 6 { // transactions on free names, until busy ends
			go func() {
				defer func() { ended <- struct{}{} }()
				for busy.Err() == nil {
					s, err := b.pool.Take(Request{Own: true, Caller: anybody()})
					if !assert.NoError(b, err) {
						return
					}
					time.Sleep(10 * time.Millisecond)
					b.pool.Put(s)
				}
			}()
		}
		time.Sleep(time.Second)
		other := NewPool(b.db, config())
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s, err := other.Take(Request{Caller: &caller{ctx: ctx}})
		assert.NoError(b, err, "a free name")
		if s != nil {
			other.Put(s)
		}
		stop()
		for range 6 {
			<-ended
		}
		other.Close()
	})
}
