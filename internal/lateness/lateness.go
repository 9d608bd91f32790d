// Package lateness measures how late a busy machine is, for tests that judge a
// time.
package lateness

import "time"

const (
	// period is the time between two ticks.
	period = 2 * time.Millisecond
	// hops bounds how often an event under test passes from one thread to another,
	// of the client or of the server. Each hop may be as late as a tick.
	hops = 10
)

// Of runs f, and returns the time that the lateness of this machine may have
// added to f. For each hop, that is the worst lateness that a ticking goroutine
// measured while f ran.
func Of(f func()) time.Duration {
	stop, worst := make(chan struct{}), make(chan time.Duration, 1)
	begun := time.Now()
	go func() { worst <- tick(begun, stop) }()
	func() {
		defer close(stop) // also if f ends the test
		f()
	}()
	return hops * <-worst
}

// tick returns the worst lateness of the ticks from begun until stop. It
// measures between successive readings of the clock. So it also counts the time
// for which it is itself kept from running between two of its steps, or before
// the first.
func tick(begun time.Time, stop <-chan struct{}) (worst time.Duration) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	for last := begun; ; {
		ended := false
		select {
		case <-timer.C:
		case <-stop:
			ended = true
		}
		now := time.Now()
		worst = max(worst, now.Sub(last)-period)
		if ended {
			return worst
		}
		last = now
		timer.Reset(period)
	}
}
