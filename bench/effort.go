package main

import "time"

// An effort is how much is measured. More effort takes longer and gives more
// exact figures.
type effort struct {
	pairs     int           // pairs in a comparison
	longPairs int           // pairs in a comparison whose sides take seconds
	window    time.Duration // the time in which sections are counted
	turns     int           // turns of the uncontended cycle, on one pair of connections
	cycles    int           // cycles in a turn
	foreign   time.Duration // the time in which a foreign session acquires a hot lock
	handovers int           // handovers in a sample of the way from one Locker to the other
	held      int           // locks held at once
	waiters   int
	kills     int
	commands  int           // commands in a sample
	quiet     time.Duration // the time in which the watch's processor time is measured
	repeats   int           // measurements of a point in a plot
	step      int           // the factor between the numbers of goroutines in a plot
}

var (
	full = effort{
		pairs:     7,
		longPairs: 5,
		window:    300 * time.Millisecond,
		turns:     60,
		cycles:    40,
		foreign:   5 * time.Second,
		handovers: 100,
		held:      10_000,
		waiters:   1000,
		kills:     40,
		commands:  40,
		quiet:     time.Second,
		repeats:   3,
		step:      2,
	}
	quick = effort{
		pairs:     3,
		longPairs: 2,
		window:    100 * time.Millisecond,
		turns:     20,
		cycles:    40,
		foreign:   time.Second,
		handovers: 20,
		held:      10_000,
		waiters:   1000,
		kills:     5,
		commands:  20,
		quiet:     500 * time.Millisecond,
		repeats:   1,
		step:      8,
	}
	// smoke runs every measurement, too briefly for usable figures.
	smoke = effort{
		pairs:     1,
		longPairs: 1,
		window:    20 * time.Millisecond,
		turns:     2,
		cycles:    5,
		foreign:   200 * time.Millisecond,
		handovers: 3,
		held:      200,
		waiters:   100,
		kills:     1,
		commands:  1,
		quiet:     20 * time.Millisecond,
		repeats:   1,
		step:      8,
	}
)
