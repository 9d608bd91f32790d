// Package lateness measures how late a busy machine is, for tests that judge a
// time.
package lateness

import "time"

const (
	// period is the time between two ticks.
	period = 2 * time.Millisecond
	// hops is how often, at most, what a test waits for passes from one thread to
	// another, of the client or of the server. Each may be as late as a tick.
	hops = 10
)

// Of runs f, and returns what this machine's own lateness may have added to the
// time that f took: at every hop, the worst that a plain ticking goroutine saw
// meanwhile.
func Of(f func()) time.Duration {
	stop, worst := make(chan struct{}), make(chan time.Duration, 1)
	go func() { worst <- tick(stop) }()
	func() {
		defer close(stop) // also if f ends the test
		f()
	}()
	return hops * <-worst
}

// tick returns by how much the worst of the ticks until stop was late. It
// measures from one reading of the clock to the next, so that it also counts
// the time for which it is itself kept from running between two of its steps.
func tick(stop <-chan struct{}) (worst time.Duration) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	for last := time.Now(); ; {
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
