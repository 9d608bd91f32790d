package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
)

// freeWithin is the time within which a name is free on the server after its
// last release.
const freeWithin = time.Second

// leftovers checks that nothing is held at rest.
func (c *checker) leftovers() {
	for name, session := range c.LeftOver {
		c.report("every name is free after its last release", fmt.Sprintf("%q is held by session %d while all workers rest", name, session), c.Rested)
	}
}

// orphans checks that no session on the server holds a name whose holder is
// done. It reports a session that an observer saw hold a name for more than one
// second without a caller. A caller counts if it had a section of that name, or
// was entering or leaving one.
func (c *checker) orphans() {
	lines := c.byKey()
	c.addSearches(lines)
	for name, samples := range c.Samples {
		line := lines[c.key(name)]
		for i := 0; i < len(samples); {
			first := samples[i]
			j := i + 1
			for j < len(samples) && samples[j].Session == first.Session {
				j++
			}
			if first.Session != 0 {
				c.orphan(name, line, first.Session, first.At, samples[j-1].From)
			}
			i = j
		}
	}
}

// addSearches adds calls to lines, for the gate of each name with slots: the
// calls that may have held the gate, from the call until its slot or its error.
func (c *checker) addSearches(lines map[string][]*Call) {
	for _, s := range c.Calls {
		if s.N > 0 {
			gate := c.key(names.Gate(s.Slots))
			lines[gate] = append(lines[gate], &Call{Worker: s.Worker, Begun: s.Called, Returned: cmp.Or(s.Begun, s.Returned)})
		}
	}
	for _, line := range lines {
		sortByBegun(line)
	}
}

// orphan judges that session held name from from to to.
func (c *checker) orphan(name string, line []*Call, session, from, to int64) {
	free := from // since when no caller has it, by their records
	judge := func(until int64) {
		d := time.Duration(until - free)
		if d <= freeWithin {
			return
		}
		allowed := freeWithin + always + steps*c.latenessOfAll(free, until)
		for _, f := range c.Faults {
			switch f.Kind {
			case Crash, Freeze, Cut, Stall, Silence, Slow, StopWorker, KillWorker:
				if f.From <= until && free <= f.At+int64(aftermath) {
					// After such a fault neither the client nor the server may know the owner.
					return
				}
			}
		}
		if d > allowed {
			c.report("every name is free after its last release",
				fmt.Sprintf("%q is held by session %d for %v after its holder was done", name, session, d), until)
		}
	}
	for _, s := range line {
		begun, done := s.Begun, s.Returned
		if done == 0 {
			done = c.end(s)
		}
		if begun >= to {
			break
		}
		if done <= free {
			continue
		}
		if begun > free {
			judge(begun)
		}
		free = max(free, done)
	}
	if free < to {
		judge(to)
	}
}

// latenessOfAll returns the lateness of the latest worker.
func (c *checker) latenessOfAll(from, to int64) time.Duration {
	late := make(map[string]time.Duration)
	for _, l := range c.Late {
		late[l.Worker] += overlap(l.From, l.At, from, to)
	}
	return late[""] + maxOf(late)
}

func maxOf(m map[string]time.Duration) (d time.Duration) {
	for _, v := range m {
		d = max(d, v)
	}
	return d
}

// Window returns the calls and the faults that were under way around v, in the
// order of time.
func Window(h *History, v Violation, around time.Duration) (calls []*Call, faults []Fault) {
	from, to := v.At-int64(around), v.At+int64(around)
	about := make(map[string]bool)
	for _, s := range v.Calls {
		about[fold(s.subject())] = true
		from, to = min(from, s.Called-int64(around)), max(to, s.Returned)
	}
	for _, s := range h.Calls {
		if s.Called <= to && (s.Returned == 0 || s.Returned >= from) && (len(about) == 0 || about[fold(s.subject())]) {
			calls = append(calls, s)
		}
	}
	for _, f := range h.Faults {
		if f.From <= to && f.At >= from {
			faults = append(faults, f)
		}
	}
	slices.SortFunc(calls, func(a, b *Call) int { return cmp.Compare(a.Called, b.Called) })
	return calls, faults
}
