package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// inLine is the time after its call in which a caller must have reached the
// queue. In between the library only uses memory. Lateness is added.
const inLine = 20 * time.Millisecond

// order checks that callers of one Locker are served in their order. Their
// places in the queue cannot be observed. So two callers are compared only if
// the first called long enough before the second, and neither holds another
// lock. The order in which they were served is the order of their sections,
// since the second section begins after the end of the first. A section whose
// lock was then found lost was also served.
func (c *checker) order() {
	for _, line := range c.group(func(s *Call) string { return s.Locker.ID + "\x00" + fold(s.Name) }) {
		if line[0].Locker.ID == Foreign {
			continue
		}
		var last *Call // of the callers served so far, the one that called last
		for _, s := range line {
			if s.Parent != nil || s.Timeout == 0 || s.N > 0 && c.caused(s, func(Fault) bool { return true }) {
				continue // a search for a slot that loses its session goes to the end of the queue
			}
			if last != nil && last.Called-s.Called > int64(inLine) &&
				time.Duration(last.Called-s.Called) > inLine+steps*c.lateness(s.Worker, s.Called, last.Called) {
				c.report("callers of one Locker are served in their order",
					fmt.Sprintf("%q: a caller that came %v later was served first", s.Name, time.Duration(last.Called-s.Called)), last.Begun, s, last)
			}
			if last == nil || s.Called > last.Called {
				last = s
			}
		}
	}
}

// between returns the sightings, of all in order, that are within from to to.
func between(all []Sighting, from, to int64) []Sighting {
	first, _ := slices.BinarySearchFunc(all, from, func(s Sighting, at int64) int { return cmp.Compare(s.From, at) })
	last := first
	for last < len(all) && all[last].At <= to {
		last++
	}
	return all[first:last]
}
