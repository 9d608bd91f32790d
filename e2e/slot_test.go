package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

const (
	slotsOfWorkers = 3
	slotCallers    = 4  // goroutines of a worker
	slotTurns      = 20 // turns of each goroutine
)

// inSlots makes callers go through the slots. Each caller creates a mark, and
// fails if the mark exists.
func inSlots(ctx context.Context, l *namedlock.Locker, name, folder string) error {
	var all sync.WaitGroup
	errs := make([]error, slotCallers)
	for i := range errs {
		all.Go(func() {
			for range slotTurns {
				errs[i] = errors.Join(errs[i], l.WithSlot(ctx, name, slotsOfWorkers, time.Minute, func(_ context.Context, slot int) error {
					if slot < 0 || slot >= slotsOfWorkers {
						return fmt.Errorf("slot %d of %d", slot, slotsOfWorkers)
					}
					mark := filepath.Join(folder, fmt.Sprint(slot))
					f, err := os.OpenFile(mark, os.O_CREATE|os.O_EXCL, 0o600)
					if err != nil {
						return fmt.Errorf("two in one slot: %w", err)
					}
					defer os.Remove(mark)
					time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) // the work in the slot
					return f.Close()
				}))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Several processes, some with Open and some with New, use the slots. Two
// callers are never in one slot, so there are never more callers than slots.
func TestPromise50_NeverMoreThanN(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.runWorkers(t, jobSlots, newName("slots"), t.TempDir())
	})
}

// A slotCall is a call that holds its slot until it is told to return.
type slotCall struct {
	got    chan int
	ctx    chan context.Context
	leave  chan struct{}
	result <-chan error
}

func callSlot(t *testing.T, l *locker, name string, n int, timeout time.Duration) *slotCall {
	c := &slotCall{got: make(chan int, 1), ctx: make(chan context.Context, 1), leave: make(chan struct{})}
	c.result = inBackground(func() error {
		return l.WithSlot(t.Context(), name, n, timeout, func(ctx context.Context, slot int) error {
			c.got <- slot
			c.ctx <- ctx
			select {
			case <-c.leave:
			case <-t.Context().Done():
			}
			return nil
		})
	})
	return c
}

func (c *slotCall) end(t *testing.T) {
	t.Helper()
	close(c.leave)
	require.NoError(t, receive(t, c.result, "the call returns"))
}

func slotName(name string, i int) string { return fmt.Sprint(name, "#", i) }

// The callers of three processes are served in their order, whichever slot
// becomes free.
func TestPromise50_InOrder(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		const n = 3
		at, f, name := setup{srv, byOpen}, srv.foreign(t), newName("slots")
		for i := range n {
			f.lock(slotName(name, i))
		}
		var calls []*slotCall
		for i := range 3 {
			l := at.locker(t)
			calls = append(calls, callSlot(t, l, name, n, patience))
			if i == 0 {
				eventually(t, func() bool { return f.holder(name+"#gate") != 0 }, "the first looks for a slot")
				continue
			}
			eventually(t, func() bool { return len(srv.waiters(t, name+"#gate")) == i }, "the next is in the queue")
		}
		for i, slot := range []int{2, 0, 1} {
			f.unlock(slotName(name, slot))
			assert.Equal(t, slot, receive(t, calls[i].got, "caller %d is served", i))
			for _, later := range calls[i+1:] {
				select {
				case <-later.got:
					t.Fatal("overtaken")
				default:
				}
			}
		}
		for _, c := range calls {
			c.end(t)
		}
	})
}

// If a session dies, the next caller in any process gets its slot. The code in
// the slot is told.
func TestPromise50_ALossFreesTheSlot(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, other, f, name := at.locker(t), at.locker(t), at.foreign(t), newName("slots")
		first := callSlot(t, l, name, 2, 0)
		require.Zero(t, receive(t, first.got, "slot 0"))
		ctx := <-first.ctx
		f.lock(slotName(name, 1))
		next := callSlot(t, other, name, 2, patience)
		eventually(t, func() bool { return f.holder(name+"#gate") != 0 }, "the next caller looks for a slot")
		h, held, err := other.Holder(t.Context(), slotName(name, 0))
		require.NoError(t, err)
		require.True(t, held)
		f.kill(int64(h.ConnectionID))
		receive(t, ctx.Done(), "the code is told")
		assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
		assert.Zero(t, receive(t, next.got, "slot 0, while the code still runs"))
		close(first.leave)
		requireError(t, receive(t, first.result, "the first returns"), namedlock.ErrLost, name)
		next.end(t)
		f.unlock(slotName(name, 1))
		f.free(name+"#gate", slotName(name, 0))
	})
}

// While 30 callers of three processes wait, each process uses one session, and
// all processes together send 20 statements a second. A slot that becomes free
// is acquired within 100 ms.
func TestPromise50_WhatAWaitCosts(t *testing.T) {
	onEachServer(t, func(t *testing.T, srv *server) {
		const n, processes, callers = 4, 3, 10
		at, f, name := setup{srv, byOpen}, srv.foreign(t), newName("slots")
		for i := range n {
			f.lock(slotName(name, i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan int)
		var lockers []*locker
		var calls []<-chan error
		for range processes {
			l := at.spied(t)
			lockers = append(lockers, l)
			for range callers {
				calls = append(calls, inBackground(func() error {
					return l.WithSlot(ctx, name, n, namedlock.Forever, func(ctx context.Context, slot int) error {
						got <- slot
						<-ctx.Done()
						return nil
					})
				}))
			}
		}
		eventually(t, func() bool { return len(srv.waiters(t, name+"#gate")) == processes-1 }, "all are in the queue")
		for _, l := range lockers {
			eventually(t, func() bool { return l.Stats().Waiting == callers }, "all wait")
			l.spy.Reset()
		}
		began := time.Now()
		time.Sleep(3 * time.Second) // in which the statements are counted
		asked, took := 0, time.Since(began)
		for _, l := range lockers {
			asked += len(l.spy.Sent())
			assert.Equal(t, 1, l.Stats().Sessions)
		}
		t.Logf("%d statements in %v", asked, took)
		assert.LessOrEqual(t, float64(asked), 20*took.Seconds()+float64(2*processes), "and a keep-alive")

		for _, slot := range []int{3, 1, 2} {
			srv.prompt(t, 100*time.Millisecond, "a free slot is acquired", func() time.Duration {
				time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) // any moment between two polls
				freed := time.Now()
				f.unlock(slotName(name, slot))
				require.Equal(t, slot, receive(t, got, "a slot"))
				return time.Since(freed)
			})
		}
		cancel()
		for _, c := range calls {
			receive(t, c, "all return")
		}
	})
}
