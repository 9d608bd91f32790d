package main

import "fmt"

// defaultCap is the largest number of sessions of a Locker whose db has no
// limit of its own.
const defaultCap = 16

// parallelLine compares many goroutines, each with a name of its own, with a
// single goroutine on the same Locker.
func parallelLine(t target, e effort) ([]row, error) {
	l, err := t.locker()
	if err != nil {
		return nil, err
	}
	defer l.close()
	names := make([]string, crowd)
	for i := range names {
		names[i] = newName("parallel")
	}
	own := func(i int) string { return names[i] }
	c, err := compare(e.pairs,
		func() (float64, error) { return throughput(l, crowd, e.window, own) },
		func() (float64, error) { return throughput(l, 1, e.window, own) })
	if err != nil {
		return nil, err
	}
	return []row{
		ratio(fmt.Sprintf("parallel: %d goroutines with a name each, to one", crowd), c, perSecond, atLeast(1.5, " ×")),
		count("connections of that", samples{float64(l.pool.peak.Load())}, atMost(defaultCap, "")),
	}, nil
}
