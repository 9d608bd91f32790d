package history

import (
	"fmt"
	"slices"
	"time"
)

// lateAtMost is the largest excess of a wait over its timeout, and the longest
// time in which a canceled call returns.
const lateAtMost = 100 * time.Millisecond

// openTime is the longest time for opening a session and sending its greeting,
// which does not count as a wait.
const openTime = 5 * time.Second

// passage is the longest time for which a WithSlot that tries once may wait for
// another caller that looks for a slot while one is free.
const passage = 100 * time.Millisecond

// waits checks that every call returns on time, with a lock or an error.
func (c *checker) waits() {
	for _, s := range c.Calls {
		if s.Locker.ID == Foreign {
			continue
		}
		if s.Returned == 0 {
			if !c.killed(s.Worker) {
				c.report("every caller is served or gets an error", fmt.Sprintf("%q: no answer", s.Name), s.Called, s)
			}
			continue
		}
		c.wait(s)
		if s.Locker.Closed != 0 && s.Begun != 0 && s.Begun < s.Locker.Closed && s.Locker.Closed < s.Ended {
			c.report("Close waits until all locks are released", fmt.Sprintf("%q is held", s.Name), s.Locker.Closed, s)
		}
	}
}

func (c *checker) killed(worker string) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool { return f.Kind == KillWorker && f.Target == worker })
}

func (c *checker) wait(s *Call) {
	answered := s.Returned
	if s.Begun != 0 {
		answered = s.Begun
	}
	took := time.Duration(answered - s.Called)
	tooLong := func(since int64, bound time.Duration, of string) {
		bound += c.slack(s, since, answered)
		if late := time.Duration(answered - since); late > bound {
			c.report("a wait ends when it should", fmt.Sprintf("%q: %s after %v, %v after %s; allowed: %v", s.Name, s.Outcome, took, late, of, bound), answered, s)
		}
	}
	if s.timedOut() && took < s.Timeout {
		c.report("a wait is never shorter than asked", fmt.Sprintf("%q: %v instead of %v", s.Name, took, s.Timeout), answered, s)
	}
	if s.Outcome == Expired && answered < c.deadline(s) {
		c.report("a wait is never shorter than asked", fmt.Sprintf("%q: %v before its deadline", s.Name, time.Duration(c.deadline(s)-answered)), answered, s)
	}
	bound := s.Timeout + lateAtMost
	if s.N > 0 && s.Timeout == 0 {
		bound += passage
	}
	if s.Outcome == Unavailable {
		bound += openTime
	}
	tooLong(s.Called, bound, "the call")
	if s.Cancel != 0 && s.Cancel < answered {
		tooLong(max(s.Called, s.Cancel), lateAtMost, "the cancel")
	}
	if s.Deadline != 0 && s.Deadline < answered {
		tooLong(max(s.Called, s.Deadline), lateAtMost, "the deadline")
	}
	if s.Outcome == Cancelled && !c.givenUp(s) {
		c.report("every caller is served or gets an error", fmt.Sprintf("%q: cancelled, but no context ended", s.Name), answered, s)
	}
	if s.Outcome == Closed && (s.Locker.Closing == 0 || s.Locker.Closing > answered) {
		c.report("every caller is served or gets an error", fmt.Sprintf("%q: closed, but Close was not called", s.Name), answered, s)
	}
}

// deadline returns the earliest deadline of the context of s, its own or an
// inherited one.
func (c *checker) deadline(s *Call) int64 {
	d := s.Deadline
	for p := range s.chain {
		if p.Deadline != 0 && (d == 0 || p.Deadline < d) {
			d = p.Deadline
		}
	}
	return d
}

// givenUp reports whether the context of s could have ended. It or a parent
// context was canceled, or a lock around it was lost.
func (c *checker) givenUp(s *Call) bool {
	if s.Cancel != 0 {
		return true
	}
	for p := range s.chain {
		if p.Cancel != 0 || p.Over != 0 || p.Outcome == Lost {
			return true
		}
		if p.Ended == 0 && c.killedSoon(s.Worker, s.Returned) {
			return true // its loss may not have been recorded
		}
	}
	return false
}

// recordedWithin is how soon a worker records an event.
const recordedWithin = 50 * time.Millisecond

// killedSoon reports whether a worker was killed so soon after at that it may
// not have recorded what had happened by then.
func (c *checker) killedSoon(worker string, at int64) bool {
	bound := int64(recordedWithin + steps*c.lateness(worker, at, at+int64(recordedWithin)))
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		return f.Kind == KillWorker && f.Target == worker && f.At >= at && f.From <= at+bound
	})
}
