package history

import (
	"fmt"
	"time"
)

// seenBy is the time within which a loss is detected if the socket shows it.
const seenBy = 50 * time.Millisecond

// exclusion checks that two sections never overlap, unless one of them lost its
// lock and was told within the bound. Within one Locker sections never overlap.
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
				c.report("a section that was reported as held was alone", fmt.Sprintf("%q: both clean", b.Name), b.Begun, a, b)
				return
			}
			// The second section may be the victim: it may have lost the lock before its
			// code began.
			if !c.told(a, b.Begun) && !c.told(b, b.Begun) {
				c.report("a loss is reported within its bound", fmt.Sprintf("%q: two at once, %s and %s", b.Name, a.Outcome, b.Outcome), b.Begun, a, b)
			}
		})
	}
}

// told reports whether the holder of s was told in time that the lock was lost
// at that time, or ended before that was due.
func (c *checker) told(s *Call, lost int64) bool {
	if c.clean(s) {
		return false
	}
	if s.Locker.ID == Foreign {
		return true // no library watches its lock
	}
	return time.Duration(c.over(s)-lost) <= c.bound(s, lost)
}

// bound returns the time within which the code of s must learn of a loss.
func (c *checker) bound(s *Call, lost int64) time.Duration {
	d := seenBy
	intervals := 2 * s.Locker.KeepAlive
	if s.Locker.Blind {
		d = intervals
	} else if c.stalled(s.Locker, lost-int64(time.Second), lost+int64(intervals)) > 0 {
		// A silent network does not deliver the end of the connection.
		return c.silentBound(s, lost)
	}
	return d + c.lateBy(s, lost, d)
}

// silentBound returns the time within which the code of s must learn of a loss
// that only silence shows: two intervals. No keep-alive is sent while the
// library ends a transaction of a term, which may take half of the lease
// (RELIABILITY.md).
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

// detection checks each known fault at the session of a running section. The
// section must be told of the loss within its bound, whether another session
// held the lock in the meantime or not.
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
				c.report("a loss is reported within its bound", fmt.Sprintf("%q: %s of session %d, nothing for %v; allowed: %v",
					s.Name, f.Kind, f.Session, time.Duration(c.over(s)-lost), bound), lost+int64(bound), s)
			}
		}
	}
}

// silent reports whether f hides from each side that the other side is there.
func (f Fault) silent() bool { return f.Kind == Stall || f.Kind == Silence }

// hit reports whether f takes the lock of s, which began before f.
func (c *checker) hit(s *Call, f Fault) bool {
	if f.silent() {
		return s.Locker.Path == f.Target
	}
	for _, other := range c.Faults {
		if other.Kind == Crash && other.From <= f.At && s.Called <= other.At {
			return false // a restarted server counts its sessions from the start again
		}
	}
	return f.Session != 0 && c.session(s, f.From) == f.Session
}

// clean reports whether s was told that it held to the end, and could detect a
// loss. During a run of hand-offs only the socket is checked. Through a
// network, the end of a killed session is reported with a delay. A section that
// ends before the report is due may be told so wrongly, but in good faith.
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

// over returns the time when the code of s had ended, or was told to end.
func (c *checker) over(s *Call) int64 {
	over := c.end(s)
	if s.Over != 0 {
		over = min(over, s.Over)
	}
	return over
}

// lateBy returns the lateness that counts for a bound of d after from. For as
// long as lateness continues, the bound moves.
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

// proof checks that a section that was reported as held did hold on the server
// all the time, in one session. Every query for the holder inside the section
// must return that session's id.
func (c *checker) proof() {
	for _, s := range c.Calls {
		if !c.clean(s) || s.Begun == 0 {
			continue
		}
		var holder int64
		for _, seen := range c.sightings(s) {
			if seen.Session == 0 || holder != 0 && seen.Session != holder {
				c.report("a section that was reported as held was held", fmt.Sprintf("%q: the server named session %d, then %d (0: no session)", s.Name, holder, seen.Session), seen.At, s)
				break
			}
			holder = seen.Session
		}
		for _, f := range c.Faults {
			if f.Kind == Vanish && s.Begun < f.From && f.At < c.end(s) && c.hit(s, f) {
				c.report("a section that was reported as held was held", fmt.Sprintf("%q: session %d was made to forget its locks at that time", s.Name, f.Session), f.At, s)
			}
		}
	}
}

// sightings returns the holders of the name of s that s itself and the observer
// saw while its section ran.
func (c *checker) sightings(s *Call) []Sighting {
	all := s.Seen
	for _, seen := range between(c.Samples[s.Name], s.Begun, c.end(s)) {
		all = append(all[:len(all):len(all)], seen)
	}
	return all
}

// session returns the server's id of the session that held the lock of s, as it
// was last seen before the time, or 0 if it was not seen. A later sighting may
// be of the holder after a loss.
func (c *checker) session(s *Call, before int64) (id int64) {
	last := int64(0)
	for _, seen := range c.sightings(s) {
		if seen.At < before && seen.At > last {
			last, id = seen.At, seen.Session
		}
	}
	return id
}
