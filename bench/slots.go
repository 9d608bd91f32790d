package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

const (
	slots       = 3
	slotLockers = 3
	slotCallers = 18 // of all Lockers together
	slotWork    = 120 * time.Millisecond
	slotPoll    = 50 * time.Millisecond
)

// A slotter runs fn in one of the slots of a name.
type slotter func(l *locker, name string, fn func()) error

func withSlot(l *locker, name string, fn func()) error {
	return l.WithSlot(background, name, slots, patience, func(context.Context, int) error {
		fn()
		return nil
	})
}

// pollSlots is code that users write: it tries one slot after the other, then
// pauses.
func pollSlots(l *locker, name string, fn func()) error {
	for ; ; time.Sleep(slotPoll) {
		for i := range slots {
			err := l.WithLock(background, fmt.Sprint(name, "#", i), 0, func(context.Context) error {
				fn()
				return nil
			})
			if !errors.Is(err, namedlock.ErrTimeout) {
				return err
			}
		}
	}
}

// raceSlots waits for all slots at the same time, uses the first that it
// acquires, and releases any others.
func raceSlots(l *locker, name string, fn func()) error {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	type result struct {
		lock *namedlock.Lock
		err  error
	}
	results := make(chan result, slots)
	for i := range slots {
		go func() {
			lock, err := l.Acquire(ctx, fmt.Sprint(name, "#", i), patience)
			results <- result{lock, err}
		}()
	}
	var first *namedlock.Lock
	var failed error
	for range slots {
		r := <-results
		switch {
		case r.err != nil && first == nil:
			failed = r.err
		case r.err != nil: // canceled, since another slot was acquired
		case first == nil:
			first = r.lock
			cancel()
		default:
			failed = errors.Join(failed, r.lock.Release())
		}
	}
	if first == nil {
		return failed
	}
	fn()
	return first.Release()
}

// slotsLine compares WithSlot with the code that users write by hand, with
// locks.
func slotsLine(t target, e effort) ([]row, error) {
	ideal := slotWork * slotCallers / slots
	var took, worst [3]samples
	for range e.pairs {
		for i, how := range []slotter{withSlot, pollSlots, raceSlots} {
			all, wait, err := t.throughSlots(how)
			if err != nil {
				return nil, err
			}
			took[i], worst[i] = append(took[i], all.Seconds()), append(worst[i], wait.Seconds())
		}
	}
	asked, waiting, err := t.slotWait()
	if err != nil {
		return nil, err
	}
	byHand := func(of [3]samples) string {
		return fmt.Sprintf("polls: %s s, races: %s s", number(of[1].median()), number(of[2].median()))
	}
	return []row{
		count(fmt.Sprintf("%d callers of %d Lockers on %d slots, %v each: all (ideal: %v)", slotCallers, slotLockers, slots, slotWork, ideal),
			took[0], atMost(0.8, " s")).beside(byHand(took)),
		count("the longest wait of these, beyond the ideal", minus(worst[0], (ideal-slotWork).Seconds()), atMost(0.5, " s")).beside(byHand(worst)),
		count("while they wait: statements a second", samples{asked}, atMost(20, "")),
		count("while they wait: connections a Locker", samples{waiting}, atMost(1, "")),
	}, nil
}

func minus(s samples, d float64) (less samples) {
	for _, v := range s {
		less = append(less, max(0, v-d))
	}
	return less
}

func (t target) slotLockers() (all []*locker, end func(), err error) {
	end = func() {
		for _, l := range all {
			l.close()
		}
	}
	for range slotLockers {
		l, err := t.locker()
		if err != nil {
			end()
			return nil, nil, err
		}
		all = append(all, l)
	}
	return all, end, nil
}

// throughSlots makes every caller work in a slot once.
func (t target) throughSlots(how slotter) (took, worst time.Duration, err error) {
	lockers, end, err := t.slotLockers()
	if err != nil {
		return 0, 0, err
	}
	defer end()
	for _, l := range lockers {
		if err := l.section(newName("warm"), func() {}); err != nil {
			return 0, 0, err
		}
	}
	var mu sync.Mutex
	var work sync.WaitGroup
	name, began := newName("slots"), time.Now()
	for i := range slotCallers {
		work.Go(func() {
			failed := how(lockers[i%slotLockers], name, func() {
				mu.Lock()
				worst = max(worst, time.Since(began))
				mu.Unlock()
				time.Sleep(slotWork)
			})
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed)
		})
	}
	work.Wait()
	return time.Since(began), worst, err
}

// slotWait measures the cost of callers that wait for a slot: statements a
// second of all callers, and connections of a Locker.
func (t target) slotWait() (asked, waiting float64, err error) {
	lockers, end, err := t.slotLockers()
	if err != nil {
		return 0, 0, err
	}
	defer end()
	s, err := t.session()
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	name := newName("slots")
	for i := range slots {
		if err := one(s.QueryRowContext(background, "SELECT GET_LOCK(?, 0)", fmt.Sprint(name, "#", i))); err != nil {
			return 0, 0, err
		}
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	var work sync.WaitGroup
	for i := range slotCallers {
		work.Go(func() {
			_ = lockers[i%slotLockers].WithSlot(ctx, name, slots, patience, func(context.Context, int) error { return nil })
		})
	}
	time.Sleep(time.Second)
	questions := func() (n float64, err error) {
		var variable string
		err = s.QueryRowContext(background, "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&variable, &n)
		return n, err
	}
	before, err := questions()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	time.Sleep(3 * time.Second)
	after, err := questions()
	took := time.Since(began)
	for _, l := range lockers {
		waiting = max(waiting, float64(l.Stats().Sessions))
	}
	cancel()
	work.Wait()
	return (after - before - 1) / took.Seconds(), waiting, err
}
