package history

import "time"

// A bound on time applies to a machine that is not overloaded, and this machine
// may be. So every process measures how late it is woken, and the observer
// measures how late the server answers. The lateness around an event is added
// to its bound.

const (
	// steps is the factor for lateness: an event passes through several goroutines
	// and processes.
	steps = 3
	// always is added in any case, since smaller lateness is not measured.
	always = 25 * time.Millisecond
	// promptAnswer is the time for an answer of the server that does not count as
	// late.
	promptAnswer = 10 * time.Millisecond
	// aftermath is how long a fault of a network has an effect after its end:
	// connections are opened again.
	aftermath = 500 * time.Millisecond
	// outagePause is the pause between two attempts of a wait that outlasts an
	// outage.
	outagePause = 500 * time.Millisecond
)

// overlap returns how much of a to b is within from to to.
func overlap(a, b, from, to int64) time.Duration {
	return time.Duration(max(0, min(b, to)-max(a, from)))
}

// lateness returns how much later than planned the worker ran between from and
// to. It includes lateness that applies to all workers ("").
func (c *checker) lateness(worker string, from, to int64) (late time.Duration) {
	for _, l := range c.Late {
		if l.Worker == worker || l.Worker == "" {
			late += overlap(l.From, l.At, from, to)
		}
	}
	return late
}

// slack returns the time that s may exceed a bound on the time between from and
// to.
func (c *checker) slack(s *Call, from, to int64) time.Duration {
	return always + steps*c.lateness(s.Worker, from, to) + c.stalled(s.Locker, from, to) + c.opening(s.Locker, from, to)
}

// opening returns the longest time between from and to in which l was opening a
// session. That does not count as a wait.
func (c *checker) opening(l *Locker, from, to int64) (longest time.Duration) {
	for _, o := range c.Openings {
		if o.Locker == l.ID {
			longest = max(longest, overlap(o.From, o.At, from, to))
		}
	}
	return longest
}

// stalled returns the time between from and to in which bytes that l sent may
// not have arrived.
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
