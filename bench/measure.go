package main

import (
	"math"
	"runtime"
	"slices"
	"time"
)

// samples are measurements of one quantity.
type samples []float64

// quantile returns the q-th quantile, or NaN if there are no samples.
func (s samples) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	position := q * float64(len(sorted)-1)
	below := int(position)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (position-float64(below))*(sorted[above]-sorted[below])
}

func (s samples) median() float64 { return s.quantile(0.5) }

// A comparison has the samples of two sides, which are measured in turns.
type comparison struct{ ours, other samples }

// compare measures A B A B, so that other work of the machine affects both
// sides.
func compare(pairs int, ours, other func() (float64, error)) (comparison, error) {
	var c comparison
	for range pairs {
		a, err := ours()
		if err != nil {
			return c, err
		}
		b, err := other()
		if err != nil {
			return c, err
		}
		c.ours, c.other = append(c.ours, a), append(c.other, b)
	}
	return c, nil
}

// ratios returns the ratios of ours to other, pair by pair.
func (c comparison) ratios() samples {
	ratios := make(samples, len(c.ours))
	for i := range ratios {
		ratios[i] = c.ours[i] / c.other[i]
	}
	return ratios
}

// perRun runs f n times and returns the mean time of a run, in seconds.
func perRun(n int, f func() error) (float64, error) {
	start := time.Now()
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds() / float64(n), nil
}

// allocations runs f n times and returns the mean number of allocations of a
// run, in all goroutines.
func allocations(n int, f func() error) (float64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}

// heap returns the bytes in use on the heap, without garbage.
func heap() float64 {
	runtime.GC()
	runtime.GC() // frees objects that the first collection finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// awaitGoroutines returns how many goroutines there are in excess of before. It
// gives those that are about to end up to 3 s.
func awaitGoroutines(before int) int {
	const most = 3 * time.Second
	for start := time.Now(); time.Since(start) < most; time.Sleep(5 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			break
		}
	}
	return runtime.NumGoroutine() - before
}
