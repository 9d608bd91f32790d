package history

import "time"

// A bound on time holds on a machine that is not starved, and this one may be.
// So every process measures how late it is woken, the observer how late the
// server answers, and what was measured around an event is allowed on top of
// its bound.

const (
	// steps is how many times the lateness counts: an event passes through several
	// goroutines and processes.
	steps = 3
	// always is allowed anyhow: what is less is not measured.
	always = 25 * time.Millisecond
	// promptAnswer is how long the server may take for an answer without being
	// called late.
	promptAnswer = 10 * time.Millisecond
	// aftermath is how long a fault of a network has an effect after its end:
	// connections are made anew.
	aftermath = 500 * time.Millisecond
	// outagePause is how long a wait that outlasts an outage pauses between two
	// attempts.
	outagePause = 500 * time.Millisecond
)

// overlap is how much of a to b lies within from to to.
func overlap(a, b, from, to int64) time.Duration {
	return time.Duration(max(0, min(b, to)-max(a, from)))
}

// lateness is how much later than planned worker, or who measures for all (""),
// was between from and to.
func (c *checker) lateness(worker string, from, to int64) (late time.Duration) {
	for _, l := range c.Late {
		if l.Worker == worker || l.Worker == "" {
			late += overlap(l.From, l.At, from, to)
		}
	}
	return late
}

// slack is what is allowed to s beyond a bound on the time between from and to.
func (c *checker) slack(s *Call, from, to int64) time.Duration {
	return always + steps*c.lateness(s.Worker, from, to) + c.stalled(s.Locker, from, to) + c.opening(s.Locker, from, to)
}

// opening is for how long between from and to l was opening a session, which
// counts as no wait.
func (c *checker) opening(l *Locker, from, to int64) (longest time.Duration) {
	for _, o := range c.Openings {
		if o.Locker == l.ID {
			longest = max(longest, overlap(o.From, o.At, from, to))
		}
	}
	return longest
}

// stalled is for how long between from and to what l sent may have gone
// nowhere.
func (c *checker) stalled(l *Locker, from, to int64) (d time.Duration) {
	for _, f := range c.Faults {
		switch f.Kind {
		case Cut, Stall, Silence, Slow:
			if l.Path == "" || l.Path != f.Target {
				continue
			}
		case Crash, Freeze:
		default:
			continue
		}
		d += overlap(f.From, f.At+int64(aftermath), from, to)
	}
	return d
}
