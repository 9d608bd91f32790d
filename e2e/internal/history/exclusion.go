package history

import (
	"fmt"
	"time"
)

// seenBy is how soon a loss is known where the socket shows it.
const seenBy = 50 * time.Millisecond

// exclusion: two sections never overlap in time, unless one had lost its lock,
// and that one was told within the bound. Within one Locker they never do.
func (c *checker) exclusion() {
	for _, line := range c.group(func(s *Call) string { return s.Locker.ID + "\x00" + fold(s.Name) }) {
		if line[0].Locker.ID == Foreign {
			continue
		}
		c.pairs(line, func(a, b *Call) {
			c.report("one Locker never has two sections of one name", fmt.Sprintf("%q, %s and %s", b.Name, a.Outcome, b.Outcome), b.Begun, a, b)
		})
	}
	for _, line := range c.byKey() {
		c.pairs(line, func(a, b *Call) {
			if c.clean(a) && c.clean(b) {
				c.report("who is told that it held was alone", fmt.Sprintf("%q: both clean", b.Name), b.Begun, a, b)
				return
			}
			// The second may be the victim: it may have lost the lock before it came to
			// begin.
			if !c.told(a, b.Begun) && !c.told(b, b.Begun) {
				c.report("a loss is told within its bound", fmt.Sprintf("%q: two at once, %s and %s", b.Name, a.Outcome, b.Outcome), b.Begun, a, b)
			}
		})
	}
}

// told reports whether s was told in time that it had lost its lock by then, or
// ended before that was due.
func (c *checker) told(s *Call, lost int64) bool {
	if c.clean(s) {
		return false
	}
	if s.Locker.ID == Foreign {
		return true // it has no library that would tell it
	}
	return time.Duration(c.over(s)-lost) <= c.bound(s, lost)
}

// bound is how soon s must know of a loss.
func (c *checker) bound(s *Call, lost int64) time.Duration {
	d := seenBy
	intervals := 2 * s.Locker.KeepAlive
	if s.Locker.Blind {
		d = intervals
	} else if c.stalled(s.Locker, lost-int64(time.Second), lost+int64(intervals)) > 0 {
		return c.silentBound(s, lost) // a silent network keeps the end of the connection to itself
	}
	return d + c.lateBy(s, lost, d)
}

// silentBound is how soon s must know of a loss that nothing but silence
// shows: within two intervals. No proof is sent while the library ends a
// transaction of a term, which may take half of the lease (RELIABILITY.md).
func (c *checker) silentBound(s *Call, from int64) time.Duration {
	d := 2 * s.Locker.KeepAlive
	d += c.lateBy(s, from, d)
	for _, ending := range s.Endings {
		if ending.At < from || ending.From > from+int64(d) {
			continue
		}
		half := s.Locker.Lease / 2
		half += c.lateBy(s, ending.From, half)
		d = max(d, time.Duration(ending.From-from)+half)
	}
	return d
}

// detection: what is known to have been done to the session of a section that
// goes on is told to it within its bound, whether somebody else had the lock
// meanwhile or not.
func (c *checker) detection() {
	for _, f := range c.Faults {
		switch f.Kind {
		case Kill, Vanish, Stall, Silence:
		default:
			continue
		}
		for _, s := range c.Calls {
			if s.Begun == 0 || s.Begun >= f.From || s.Locker.ID == Foreign || !c.hit(s, f) {
				continue
			}
			lost, bound := f.At, c.bound(s, f.At)
			if f.silent() {
				lost, bound = f.From, c.silentBound(s, f.From)
				if time.Duration(f.At-f.From) < bound {
					continue
				}
			}
			if time.Duration(c.over(s)-lost) > bound {
				c.report("a loss is told within its bound", fmt.Sprintf("%q: %s of session %d, nothing for %v; allowed: %v",
					s.Name, f.Kind, f.Session, time.Duration(c.over(s)-lost), bound), lost+int64(bound), s)
			}
		}
	}
}

// silent reports whether f keeps from each side that the other is there.
func (f Fault) silent() bool { return f.Kind == Stall || f.Kind == Silence }

// hit reports whether f takes the lock of s, which had begun before.
func (c *checker) hit(s *Call, f Fault) bool {
	if f.silent() {
		return s.Locker.Path == f.Target
	}
	for _, other := range c.Faults {
		if other.Kind == Crash && other.From <= f.At && s.Called <= other.At {
			return false // the server counts its sessions from the beginning again
		}
	}
	return f.Session != 0 && c.session(s, f.From) == f.Session
}

// clean reports whether s was told that it held to the end, and could know. In
// the middle of a run of hand-offs the proof is the socket alone; and where a
// network is in between, the word that a session has been killed takes its
// time: a section that ends before it must have come may have been told so in
// good faith.
func (c *checker) clean(s *Call) bool {
	if s.Outcome != Clean || !s.Locker.HandOff || s.Locker.Path == "" {
		return s.Outcome == Clean
	}
	for _, f := range c.Faults {
		if f.Kind != Kill || f.From >= c.end(s) || time.Duration(c.end(s)-f.From) > c.bound(s, f.From) {
			continue
		}
		if id := c.session(s, f.From); id == 0 || id == f.Session {
			return false
		}
	}
	return true
}

// over is when the code of s had ended, or was told to.
func (c *checker) over(s *Call) int64 {
	over := c.end(s)
	if s.Over != 0 {
		over = min(over, s.Over)
	}
	return over
}

// lateBy is the lateness that counts for a bound of d after from: as long as it
// goes on, the bound moves.
func (c *checker) lateBy(s *Call, from int64, d time.Duration) time.Duration {
	late := always
	for {
		more := always + steps*c.lateness(s.Worker, from, from+int64(d+late))
		if more == late {
			return late
		}
		late = more
	}
}

// proof: a section that was told that it held did hold on the server all the
// time, in one session. What is asked for inside the section must be answered
// by that session's id.
func (c *checker) proof() {
	for _, s := range c.Calls {
		if !c.clean(s) || s.Begun == 0 {
			continue
		}
		var holder int64
		for _, seen := range c.sightings(s) {
			if seen.Session == 0 || holder != 0 && seen.Session != holder {
				c.report("who is told that it held did hold", fmt.Sprintf("%q: the server named session %d, then %d (0: nobody)", s.Name, holder, seen.Session), seen.At, s)
				break
			}
			holder = seen.Session
		}
		for _, f := range c.Faults {
			if f.Kind == Vanish && s.Begun < f.From && f.At < c.end(s) && c.hit(s, f) {
				c.report("who is told that it held did hold", fmt.Sprintf("%q: session %d was made to forget its locks meanwhile", s.Name, f.Session), f.At, s)
			}
		}
	}
}

// sightings are what was seen of the name of s, by itself and by the observer,
// while its section ran.
func (c *checker) sightings(s *Call) []Sighting {
	all := s.Seen
	for _, seen := range between(c.Samples[s.Name], s.Begun, c.end(s)) {
		all = append(all[:len(all):len(all)], seen)
	}
	return all
}

// session is the server's id of the session that had the lock of s, as it was
// last seen before the time, 0 if it was not. What is seen later may be who has
// the lock after a loss.
func (c *checker) session(s *Call, before int64) (id int64) {
	last := int64(0)
	for _, seen := range c.sightings(s) {
		if seen.At < before && seen.At > last {
			last, id = seen.At, seen.Session
		}
	}
	return id
}
