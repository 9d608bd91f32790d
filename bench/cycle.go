package main

import (
	"context"
	"fmt"
	"runtime"
)

// cycleLine compares an uncontended Acquire and Release with two prepared round
// trips, the least that they need.
//
// It runs on one P and counts the fastest of many short turns, over several
// fresh pairs of connections. For every connection, the kernel decides whether
// the server's thread runs on the client's core. That doubles the time of
// either side, and depends on neither side's code.
func cycleLine(t target, e effort) ([]row, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	canEnd, cancel := context.WithCancel(background)
	defer cancel()

	var rows []row
	for _, kind := range []struct {
		what string
		ctx  context.Context
		// The driver watches a context that can end, also during its own statements.
		// The Locker sends its statements with a context that cannot end.
		goal float64
	}{
		{"a context that cannot end", background, 1.10},
		{"a context that can end", canEnd, 1.05},
	} {
		var times, allocs comparison // one pair for each fresh pair of connections
		for range e.pairs {
			if err := t.cyclePair(kind.ctx, e, &times, &allocs); err != nil {
				return nil, err
			}
		}
		fastest := times.ours.quantile(0)
		fastestByHand := times.other.quantile(0)
		rows = append(rows,
			ratioOf(fmt.Sprintf("uncontended cycle, %s, to two prepared round trips", kind.what),
				fastest, fastestByHand, fastest/fastestByHand, times.ratios(), duration, atMost(kind.goal, " ×")),
			count(fmt.Sprintf("allocations of that, %s", kind.what), allocs.ours, atMost(22, "")).beside(number(allocs.other.median())))
	}
	return rows, nil
}

// cyclePair adds the fastest turn and the allocations of one fresh Locker, and
// of one fresh connection.
func (t target) cyclePair(ctx context.Context, e effort, times, allocs *comparison) error {
	ours, err := t.locker()
	if err != nil {
		return err
	}
	defer ours.close()
	theirs, err := t.prepared()
	if err != nil {
		return err
	}
	defer theirs.close()

	name, other := newName("cycle"), newName("cycle")
	cycle := func() error { return ours.cycle(ctx, name) }
	roundTrips := func() error { return theirs.cycle(ctx, other) }
	turn := func(f func() error) func() (float64, error) {
		return func() (float64, error) { return perRun(e.cycles, f) }
	}
	if _, err := compare(1, turn(cycle), turn(roundTrips)); err != nil { // warms up
		return err
	}
	turns, err := compare(e.turns, turn(cycle), turn(roundTrips))
	if err != nil {
		return err
	}
	times.ours = append(times.ours, turns.ours.quantile(0))
	times.other = append(times.other, turns.other.quantile(0))

	a, err := allocations(10*e.cycles, cycle)
	if err != nil {
		return err
	}
	b, err := allocations(10*e.cycles, roundTrips)
	allocs.ours, allocs.other = append(allocs.ours, a), append(allocs.other, b)
	return err
}
