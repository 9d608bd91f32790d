package locktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

// Callers of two processes go through the slots, and each slot has one at a
// time.
func neverTwoInOneSlot(s *suite) {
	const n, callers, turns = 3, 8, 5
	processes, name := []Process{s.starting("WithSlot"), s.start()}, s.name("slots")
	var mu sync.Mutex
	var in [n]bool
	var work sync.WaitGroup
	for i := range callers {
		p := processes[i%len(processes)]
		work.Go(func() {
			for range turns {
				s.noError(p.WithSlot(s.Context(), name, n, patience, func(_ context.Context, slot int) error {
					if slot < 0 || slot >= n {
						return fmt.Errorf("slot %d of %d", slot, n)
					}
					mu.Lock()
					taken := in[slot]
					in[slot] = true
					mu.Unlock()
					if taken {
						return fmt.Errorf("two callers have slot %d", slot)
					}
					time.Sleep(time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					in[slot] = false
					return nil
				}), "WithSlot")
			}
		})
	}
	work.Wait()
}

// While n run, the next gets ErrTimeout, at once or at its end, and gets a slot
// when one is free.
func noMoreThanN(s *suite) {
	p, other, name := s.starting("WithSlot"), s.start(), s.name("slots")
	nobody := func(context.Context, int) error {
		s.Error("fn ran although all slots were held")
		return nil
	}
	s.noError(p.WithSlot(s.Context(), name, 2, 0, func(_ context.Context, first int) error {
		return errors.Join(other.WithSlot(s.Context(), name, 2, 0, func(_ context.Context, second int) error {
			if first == second {
				s.Errorf("two callers have slot %d", first)
			}
			for _, timeout := range []time.Duration{0, aWhile} {
				for _, p := range []Process{p, other} {
					s.isError(p.WithSlot(s.Context(), name, 2, timeout, nobody), namedlock.ErrTimeout, name)
				}
			}
			return nil
		}), other.WithSlot(s.Context(), name, 2, patience, func(_ context.Context, slot int) error {
			if slot == first {
				s.Errorf("two callers have slot %d", first)
			}
			return nil
		}))
	}), "WithSlot")
}

// A chain that has a slot gets no other of the name, whatever n is.
func slotHeldAgain(s *suite) {
	p, name := s.starting("WithSlot"), s.name("slots")
	nobody := func(context.Context, int) error {
		s.Error("fn ran in a second slot of the same call chain")
		return nil
	}
	s.noError(p.WithSlot(s.Context(), name, 2, 0, func(ctx context.Context, _ int) error {
		for _, n := range []int{1, 2, 5} {
			s.isError(p.WithSlot(ctx, name, n, patience, nobody), namedlock.ErrReentrant, name)
		}
		return p.WithSlot(ctx, s.name("others"), 2, 0, func(context.Context, int) error { return nil })
	}), "WithSlot")
}
