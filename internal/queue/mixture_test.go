package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
	"github.com/go-namedlock/namedlock/internal/slot"
)

// Random calls of two processes, on one db and another: locks, transactions,
// terms, leaders, slots and nested locks, with timeouts and cancels, while the
// db's limit changes. In half of the cases connections break. No call waits
// indefinitely, no name is held twice, no lock is lost without a fault, and
// nothing is left.
func TestQueue_RandomMixture(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { mixture(t, seed) })
	}
}

func same(err error) error { return err }

func mixture(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		setup := rand.New(rand.NewPCG(seed, 1))
		srv := memserver.New()
		if setup.IntN(2) == 0 {
			srv.SetMySQL()
		}
		db := srv.Open()
		db.SetMaxIdleConns(setup.IntN(4))
		conns := 2 + setup.IntN(5)
		if setup.IntN(3) == 0 {
			conns = 0
		}
		db.SetMaxOpenConns(conns)
		faults := setup.IntN(2) == 0
		var queues []*queue.Queue
		for range 1 + setup.IntN(2) {
			handOff := time.Duration(0)
			if setup.IntN(2) == 0 {
				handOff = 100 * time.Millisecond
			}
			queues = append(queues, queue.New(pool.NewPool(db, pool.Config{MaxSessions: setup.IntN(4), Config: server.Config{
				ReleaseTimeout: 5 * time.Second, KeepAlive: 5 * time.Second, Probe: 25 * time.Millisecond,
				CheckServer: setup.IntN(2) == 0, Lease: time.Minute,
				Logger: slog.New(slog.DiscardHandler),
			}}), handOff))
		}
		db2 := srv.Open()
		queues = append(queues, queue.New(pool.NewPool(db2, pool.Config{MaxSessions: 4, Config: server.Config{
			ReleaseTimeout: 5 * time.Second, KeepAlive: 5 * time.Second, Probe: 25 * time.Millisecond,
			Logger: slog.New(slog.DiscardHandler),
		}}), 0))
		var slots []*slot.Slots
		for _, q := range queues {
			slots = append(slots, slot.New(q))
		}
		trip := time.Duration(setup.IntN(3)) * time.Duration(setup.IntN(20)) * time.Millisecond
		var n atomic.Int64
		srv.Script(func(st memserver.Statement) *memserver.Reply {
			if trip > 0 {
				time.Sleep(trip)
			}
			if faults && n.Add(1)%97 == 0 {
				return &memserver.Reply{Drop: true}
			}
			return nil
		})
		var holders sync.Map // *atomic.Int32 by name
		hold := func(name string) func() {
			v, _ := holders.LoadOrStore(name, new(atomic.Int32))
			c := v.(*atomic.Int32)
			if c.Add(1) != 1 && !faults {
				t.Errorf("seed %d: %s held twice", seed, name)
			}
			return func() { c.Add(-1) }
		}
		var wg sync.WaitGroup
		var where sync.Map
		for i := range 3 + setup.IntN(12) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)+100))
				for k := range 12 {
					process := r.IntN(len(queues))
					q := queues[process]
					ctx, cancel := context.WithCancel(context.Background())
					name := string(rune('a' + r.IntN(3)))
					if r.IntN(3) == 0 {
						name = fmt.Sprint("free", i)
					}
					timeout := []time.Duration{0, 30 * time.Millisecond, time.Second, time.Hour, queue.Forever}[r.IntN(5)]
					use := []queue.Use{queue.ForLock, queue.ForLock, queue.ForTx, queue.ForTerm}[r.IntN(4)]
					if r.IntN(4) == 0 {
						d := time.Duration(r.IntN(300)) * time.Millisecond
						time.AfterFunc(d, cancel)
					}
					where.Store(i, fmt.Sprintf("%d.%d %s %v use %d at %v", i, k, name, timeout, use, time.Now()))
					if r.IntN(6) == 0 {
						g, err := slots[process].Acquire(ctx, "s", 2, timeout, nil)
						if err == nil {
							done := hold(fmt.Sprint("slot", g.Number))
							g.Context(context.Background(), same)
							time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
							done()
							_ = g.Release()
						}
						cancel()
						continue
					}
					if use == queue.ForTerm && r.IntN(2) == 0 {
						if q.Pool().Lead() == nil {
							defer q.Pool().Resign()
							use = queue.ForLead
						}
					}
					g, err := q.Acquire(ctx, name, queue.Terms{Timeout: timeout, Left: timeout, Use: use}, nil)
					if err != nil {
						if timeout >= time.Hour && ctx.Err() == nil && !faults && !errors.Is(err, fault.ErrDeadlock) {
							t.Errorf("seed %d: %v", seed, err)
						}
						cancel()
						continue
					}
					done := hold(name)
					inner := g.Context(context.Background(), same)
					time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
					if name != "z" && r.IntN(3) == 0 {
						nested := "n" + name // in this order no names close a deadlock
						if r.IntN(2) == 0 {
							nested = "z"
						}
						nt := []time.Duration{0, 50 * time.Millisecond, time.Hour}[r.IntN(3)]
						where.Store(i, fmt.Sprintf("%d.%d %s under %s %v use %d at %v", i, k, nested, name, nt, use, time.Now()))
						if g2, err := q.Acquire(inner, nested, queue.For(nt), nil); err == nil {
							done2 := hold(nested)
							time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
							done2()
							_ = g2.Release()
						} else if nt == time.Hour && inner.Err() == nil && !faults {
							t.Errorf("seed %d: nested %s: %v", seed, nested, err)
						}
					}
					done()
					where.Store(i, fmt.Sprintf("%d.%d release %s", i, k, name))
					if err := g.Release(); err != nil && !faults {
						t.Errorf("seed %d: release: %v", seed, err)
					}
					cancel()
				}
				where.Delete(i)
			})
		}
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		changes := time.NewTicker(time.Duration(50+setup.IntN(500)) * time.Millisecond)
		limit := time.After(20 * time.Minute)
	loop:
		for {
			select {
			case <-ended:
				break loop
			case <-changes.C:
				if faults && setup.IntN(3) == 0 {
					all, _ := srv.Sessions()
					if all > 0 {
						srv.Kill(1 + setup.IntN(all))
					}
				}
				if setup.IntN(4) == 0 {
					db.SetMaxOpenConns(2 + setup.IntN(5))
				}
			case <-limit:
				where.Range(func(_, v any) bool { t.Log(v); return true })
				for _, q := range queues {
					t.Log(q.Pool().Numbers(), q.Waiting())
				}
				t.Fatalf("seed %d: still waiting", seed)
			}
		}
		changes.Stop()
		srv.Script(nil)
		for _, q := range queues {
			q.Close()
			q.AtRest(t)
		}
		for _, s := range slots {
			assert.Zero(t, s.Waiting())
			assert.False(t, s.Has("s"))
		}
		assert.Zero(t, db.Stats().InUse)
		_ = db.Close()
		_ = db2.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		_, alive := srv.Sessions()
		assert.Zero(t, alive)
		time.Sleep(3 * time.Hour)
	})
}
