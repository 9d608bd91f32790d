// Package lateness measures how late a busy machine is, for tests that judge a time.
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

// tick returns by how much the worst of the ticks until stop was late.
func tick(stop <-chan struct{}) (worst time.Duration) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		due := time.Now().Add(period)
		select {
		case <-timer.C:
			worst = max(worst, time.Since(due))
		case <-stop:
			return max(worst, time.Since(due))
		}
		timer.Reset(period)
	}
}
