package main

import "time"

// An effort is how much is measured: more takes longer and says more.
type effort struct {
	pairs     int           // of a comparison
	longPairs int           // of one whose sides take seconds
	window    time.Duration // in which sections are counted
	turns     int           // of the uncontended cycle, on one pair of connections
	cycles    int           // in a turn
	foreign   time.Duration // in which a foreign session takes a hot lock
	handovers int           // in a sample of the way from one locker to the other
	held      int           // locks held at once
	waiters   int
	kills     int
	commands  int           // of a sample of the command
	quiet     time.Duration // in which the watch's processor time is measured
	repeats   int           // of a point in a plot
	step      int           // from one number of goroutines in a plot to the next, as a factor
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
	// smoke shows that everything runs, and measures nothing worth knowing.
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
