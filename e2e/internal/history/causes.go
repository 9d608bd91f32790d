package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// errors checks that every error is typed, and that each has a cause.
func (c *checker) errors() {
	for _, s := range c.Calls {
		if len(s.Flaws) > 0 {
			c.report("every error has a type", fmt.Sprintf("%q: %s: %s", s.Name, strings.Join(s.Flaws, "; "), s.Error), s.Returned, s)
		}
		c.held(s)
		switch s.Outcome {
		case Unavailable, Interrupted:
			if !c.caused(s, func(f Fault) bool { return true }) {
				c.report("an error has a cause", fmt.Sprintf("%q: %s, and nothing was done to it: %s", s.Name, s.Outcome, s.Error), s.Returned, s)
			}
		}
	}
}

// held checks that ErrReentrant is returned for names, in any letter case, that
// the call chain holds, and for no others.
func (c *checker) held(s *Call) {
	holds := false
	for p := range s.chain {
		holds = holds || p.Locker == s.Locker && fold(p.subject()) == fold(s.subject())
	}
	switch {
	case holds && s.Begun != 0, holds && s.timedOut():
		c.report("acquiring a lock that the call chain holds returns ErrReentrant", fmt.Sprintf("%q: %s", s.Name, s.Outcome), s.Returned, s)
	case !holds && s.Outcome == Held:
		c.report("acquiring a lock that the call chain holds returns ErrReentrant", fmt.Sprintf("%q is not held by the chain", s.Name), s.Returned, s)
	}
}

// losses checks that a lock is lost only if there was a fault that affects its
// session.
func (c *checker) losses() {
	for _, s := range c.Calls {
		if s.Outcome != Lost || s.Locker.ID == Foreign {
			continue
		}
		caused := c.caused(s, func(f Fault) bool {
			session := c.session(s, f.From)
			return f.Kind != Kill && f.Kind != KillQuery || session == 0 || f.Session == session
		})
		if !caused && !c.cutOffBelow(s) {
			c.report("no lock is lost without a cause", fmt.Sprintf("%q: %s", s.Name, s.Error), s.Returned, s)
		}
	}
}

// cutOffBelow reports whether a transaction under s was canceled while s held
// its lock. If the cancel ends a statement in the middle, the session ends,
// together with the locks around the transaction.
func (c *checker) cutOffBelow(s *Call) bool {
	return slices.ContainsFunc(c.Calls, func(below *Call) bool {
		if below.Begun == 0 || below.Outcome != Panicked || below.Returned > s.Returned {
			return false
		}
		for p := range below.chain {
			if p == s {
				return true
			}
		}
		return false
	})
}

// caused reports whether a fault for which may returns true can have affected
// s.
func (c *checker) caused(s *Call, may func(Fault) bool) bool {
	if s.Locker.Single && s.Outcome == Unavailable {
		return true // its connection may have ended at any time before
	}
	// If a process did not run for long enough, its sessions may have timed out.
	if c.lateness(s.Worker, s.Called-int64(time.Second), s.Returned) > 250*time.Millisecond {
		return true
	}
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		after := aftermath
		if strings.Contains(s.Error, "lost the server during the wait") {
			after += outagePause // the last attempt detected that, not this call
		}
		switch f.Kind {
		case Kill, KillQuery, Crash:
		case Limits: // a session keeps the limits for as long as it lives
			return f.From <= s.Returned && cutOff(s)
		case Freeze:
			after = openTime
		case Cut, Stall, Silence, Slow:
			if s.Locker.Path == "" || f.Target != s.Locker.Path {
				return false
			}
			after = openTime
		case Statement, Vanish:
			if f.Target != s.Locker.ID {
				return false
			}
			after = openTime
		default:
			return false
		}
		return f.From <= s.Returned && s.Called <= f.At+int64(after) && may(f)
	})
}

// cutOff reports whether a limit on statements ended a statement of s. MySQL
// and MariaDB report that with these error numbers.
func cutOff(s *Call) bool {
	return strings.Contains(s.Error, "Error 3024") || strings.Contains(s.Error, "Error 1969")
}
