package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// inLine is how long after its call a caller is taken to stand in line: between
// the two the library touches nothing but memory. Lateness comes on top.
const inLine = 20 * time.Millisecond

// order: callers of one Locker are served first come first served. Where they
// stand in line cannot be seen; so two are judged only if the first had called
// long enough before the second, and both have locks of no other. When a
// section began says in which order they were served, since the second can only
// begin when the first has ended. One that began on a lock that was then found
// lost had been served too.
func (c *checker) order() {
	for _, line := range c.group(func(s *Call) string { return s.Locker.ID + "\x00" + fold(s.Name) }) {
		if line[0].Locker.ID == Foreign {
			continue
		}
		var last *Call // of those served so far, the one that came last
		for _, s := range line {
			if s.Parent != nil || s.Timeout == 0 || s.N > 0 && c.caused(s, func(Fault) bool { return true }) {
				continue // a search for a slot that loses its session goes to the end of the queue
			}
			if last != nil && last.Called-s.Called > int64(inLine) &&
				time.Duration(last.Called-s.Called) > inLine+steps*c.lateness(s.Worker, s.Called, last.Called) {
				c.report("callers of one Locker are served first come first served",
					fmt.Sprintf("%q: who came %v later was served first", s.Name, time.Duration(last.Called-s.Called)), last.Begun, s, last)
			}
			if last == nil || s.Called > last.Called {
				last = s
			}
		}
	}
}

// between returns the sightings of all, which are in order, that lie within
// from to to.
func between(all []Sighting, from, to int64) []Sighting {
	first, _ := slices.BinarySearchFunc(all, from, func(s Sighting, at int64) int { return cmp.Compare(s.From, at) })
	last := first
	for last < len(all) && all[last].At <= to {
		last++
	}
	return all[first:last]
}
