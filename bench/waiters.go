package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

// waitersLine makes very many goroutines of one Locker wait for locks that
// another session holds.
func waitersLine(t target, e effort) ([]row, error) {
	var rows []row
	for _, names := range []int{1, 8} {
		more, err := t.waiters(e, names)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (t target) waiters(e effort, names int) ([]row, error) {
	quiet, err := t.locker()
	if err != nil {
		return nil, err
	}
	defer quiet.close()
	w, err := t.wait(e.waiters, names)
	if err != nil {
		return nil, err
	}
	defer w.close()

	median := func(l *locker) func() (float64, error) {
		name := newName("unrelated")
		return func() (float64, error) {
			return medianOf(10*e.cycles, func() (float64, error) {
				return perRun(1, func() error { return l.cycle(background, name) })
			})
		}
	}
	c, err := compare(e.pairs, median(w.locker), median(quiet))
	if err != nil {
		return nil, err
	}
	left, err := w.giveUp()
	if err != nil {
		return nil, err
	}
	label := fmt.Sprintf("%s waiters for %d names", number(float64(e.waiters)), names)
	if names == 1 {
		label = fmt.Sprintf("%s waiters for one name", number(float64(e.waiters)))
	}
	return []row{
		count(label+": waiting connections", samples{float64(w.blocked)}, atMost(float64(names), "")),
		ratio("an unrelated cycle at the same time, to the same without waiters", c, duration, atMost(2, " ×")),
		count("goroutines and waits left when they have given up", samples{float64(left)}, atMost(0, "")),
	}, nil
}

// A waitingCrowd is a number of goroutines that wait for locks that a foreign
// session holds.
type waitingCrowd struct {
	locker     *locker
	blocked    int // sessions that wait on the server
	goroutines int // before the crowd started

	foreign *prepared
	cancel  context.CancelFunc
	all     sync.WaitGroup
	mu      sync.Mutex
	failed  error // errors of waiters, except for cancels
}

// wait returns when n goroutines wait for the given number of names.
func (t target) wait(n, names int) (_ *waitingCrowd, err error) {
	w := &waitingCrowd{}
	ctx, cancel := context.WithCancel(background)
	w.cancel = cancel
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.foreign, err = t.prepared(); err != nil {
		return nil, err
	}
	held := make([]string, names)
	for i := range held {
		held[i] = newName("waiters")
		if err := w.foreign.take(background, held[i]); err != nil {
			return nil, err
		}
	}
	if w.locker, err = t.locker(); err != nil {
		return nil, err
	}
	if err := w.locker.cycle(background, newName("warm-up")); err != nil {
		return nil, err
	}

	w.goroutines = runtime.NumGoroutine()
	for i := range n {
		w.all.Go(func() {
			lock, err := w.locker.Acquire(ctx, held[i%names], namedlock.Forever)
			if err == nil {
				err = errors.Join(errors.New("acquired what a foreign session holds"), lock.Release())
			}
			if ctx.Err() == nil || !errors.Is(err, context.Canceled) {
				w.mu.Lock()
				w.failed = errors.Join(w.failed, err)
				w.mu.Unlock()
			}
		})
	}
	// The number of waiting sessions is final when it does not change any more.
	for last := -1; w.blocked != last || last < min(n, names); time.Sleep(100 * time.Millisecond) {
		last = w.blocked
		if w.blocked, err = w.foreign.blocked(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// blocked returns how many sessions of the server wait for a named lock.
func (p *prepared) blocked() (int, error) {
	n := 0
	err := p.QueryRowContext(background, "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock'").Scan(&n)
	return n, err
}

// giveUp ends all waits, and returns how many goroutines and waits on the
// server are left. A server needs up to 1 s to detect that a client has closed
// its connection.
func (w *waitingCrowd) giveUp() (int, error) {
	w.cancel()
	w.all.Wait()
	if w.failed != nil {
		return 0, w.failed
	}
	left := awaitGoroutines(w.goroutines)
	const most = 3 * time.Second
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		blocked, err := w.foreign.blocked()
		if err != nil || blocked == 0 || time.Since(start) > most {
			return max(left, 0) + blocked, err
		}
	}
}

func (w *waitingCrowd) close() {
	w.cancel()
	w.all.Wait()
	if w.locker != nil {
		w.locker.close()
	}
	if w.foreign != nil {
		w.foreign.close()
	}
}
