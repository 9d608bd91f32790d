package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// After any sequence of events the counts are right, and every caller can be
// served.
func TestShare_CountsComeOut(t *testing.T) {
	for round := range 6 {
		inBubble(t, func(c *Config) { c.CheckServer = false }, func(b *bubble) {
			config := func() Config { c := config(); c.CheckServer = false; return c }
			b.db.SetMaxOpenConns(4)
			sh := shareOf(b.db)
			pools := []*Pool{b.pool, NewPool(b.db, config()), NewPool(b.db, config())}
			rnd := rand.New(rand.NewPCG(uint64(round), 1))
			var mu sync.Mutex
			r := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
			stop := make(chan struct{})
			var wg, bg sync.WaitGroup
			var n int
			failed, served := 0, 0
			bg.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(r(50)) * time.Millisecond):
					}
					switch r(4) {
					case 0:
						b.db.SetMaxOpenConns(2 + r(6))
					case 1:
						all, _ := b.server.Sessions()
						if all > 0 {
							b.server.Kill(1 + r(all))
						}
					case 2:
						b.server.Once("VERSION()", &memserver.Reply{Number: 1040})
					}
				}
			})
			for pi, p := range pools {
				for g := range 8 {
					wg.Go(func() {
						for range 30 {
							ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r(3000))*time.Millisecond)
							req := Request{Caller: &caller{ctx: ctx}, Own: r(2) == 0}
							if req.Own && r(3) == 0 {
								if p.Lead() != nil {
									req.Lead = false
								} else {
									req.Lead = true
								}
							}
							s, err := p.Take(req)
							if err != nil {
								mu.Lock()
								failed++
								mu.Unlock()
								if req.Lead {
									p.Resign()
								}
								cancel()
								continue
							}
							mu.Lock()
							served++
							n++
							name := fmt.Sprintf("n%d-%d-%d", pi, g, n)
							mu.Unlock()
							if ok, err := s.GetLock(name, 0); err == nil && ok {
								h := &hold{name: name, lost: make(chan time.Time, 1), own: s.claim == forTurn}
								if p.Hold(s, h) {
									p.Put(s)
									time.Sleep(time.Duration(r(100)) * time.Millisecond)
									if p.TakeUrgent(s) == nil {
										_ = s.ReleaseLock(name)
										p.Drop(s, h)
									}
								}
							} else {
								p.Put(s)
							}
							if req.Lead {
								p.Resign()
							}
							cancel()
						}
					})
				}
			}
			wg.Wait()
			close(stop)
			bg.Wait()
			for _, p := range pools {
				p.mu.Lock()
				assert.Zero(b, p.countLocked(func(s *Session) bool { return s.status == opening }))
				assert.Empty(b, p.waiters)
				p.mu.Unlock()
			}
			// Every caller can be served now.
			b.db.SetMaxOpenConns(4)
			time.Sleep(2 * time.Second)
			b.server.Script(nil)
			for _, p := range pools {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				s, err := p.Take(Request{Own: true, Caller: &caller{ctx: ctx}})
				if assert.NoError(b, err) {
					p.Put(s)
				}
				cancel()
			}
			for _, p := range pools {
				p.Close()
			}
			taken, leaders := sh.state()
			assert.Zero(b, taken)
			assert.Zero(b, leaders)
			if testing.Verbose() {
				b.Logf("round %d: served %d failed %d", round, served, failed)
			}
			b.pool = NewPool(b.db, config())
		})
	}
}
