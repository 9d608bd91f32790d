package main

import (
	"fmt"
	"runtime"

	"github.com/go-namedlock/namedlock"
)

// fewSessions is the limit of sessions for many locks.
const fewSessions = 4

// heldLine measures a Locker that holds very many locks at the same time on a
// few connections.
func heldLine(t target, e effort) ([]row, error) {
	const few = 100
	var bytes, goroutines samples
	var peak int64
	many := func() (float64, error) {
		h, err := t.hold(e.held, 1)
		bytes = append(bytes, h.bytes)
		goroutines = append(goroutines, h.goroutines)
		peak = max(peak, h.connections)
		return h.seconds, err
	}
	// The number of rounds makes both sides take about as long, since the speed of
	// a machine changes with time.
	hundred := func() (float64, error) {
		h, err := t.hold(few, e.held/few)
		return h.seconds, err
	}
	c, err := compare(e.longPairs, many, hundred)
	if err != nil {
		return nil, err
	}
	label := number(float64(e.held))
	return []row{
		count(label+" locks held: connections", samples{float64(peak)}, atMost(fewSessions, "")),
		count("heap a lock", bytes, atMost(2048, " bytes")),
		count("goroutines a lock", goroutines, atMost(0.01, "")),
		ratio(fmt.Sprintf("to take and free one of them, to one of %d", few), c, duration, atMost(1.5, " ×")),
	}, nil
}

// A holding is the cost of each of many locks.
type holding struct {
	seconds, bytes, goroutines float64
	connections                int64
}

// hold acquires n locks and releases them, rounds times.
func (t target) hold(n, rounds int) (holding, error) {
	var h holding
	l, err := t.locker(namedlock.WithMaxSessions(fewSessions))
	if err != nil {
		return h, err
	}
	defer l.close()
	names := make([]string, n)
	for i := range names {
		names[i] = newName("held")
	}
	// Opening the connections is not a cost of the locks.
	locks := make([]*namedlock.Lock, n)
	if err := l.takeAll(locks, names[:fewSessions]); err != nil {
		return h, err
	}
	if err := freeAll(locks[:fewSessions]); err != nil {
		return h, err
	}
	heapBefore, goroutinesBefore := heap(), runtime.NumGoroutine()

	for range rounds {
		took, err := perRun(1, func() error { return l.takeAll(locks, names) })
		if err != nil {
			return h, err
		}
		h.seconds += took
		if rounds == 1 {
			h.bytes = (heap() - heapBefore) / float64(n)
			h.goroutines = float64(runtime.NumGoroutine()-goroutinesBefore) / float64(n)
		}
		if took, err = perRun(1, func() error { return freeAll(locks) }); err != nil {
			return h, err
		}
		h.seconds += took
	}
	h.seconds /= float64(n * rounds)
	h.connections = l.pool.peak.Load()
	return h, nil
}

func (l *locker) takeAll(locks []*namedlock.Lock, names []string) error {
	for i, name := range names {
		var err error
		if locks[i], err = l.Acquire(background, name, patience); err != nil {
			return err
		}
	}
	return nil
}

func freeAll(locks []*namedlock.Lock) error {
	for i, lock := range locks {
		if err := lock.Release(); err != nil {
			return err
		}
		locks[i] = nil
	}
	return nil
}
