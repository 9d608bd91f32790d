package history

import (
	"fmt"
	"slices"

	"github.com/go-namedlock/namedlock/internal/names"
)

// slots checks the number of callers of one name with slots that are in their
// sections at the same time. The limit is the largest n of these callers.
// Callers that lost their slot and were told within the bound do not count.
// Each caller has a slot below its own n. exclusion checks that no two callers
// have the same slot, as for every lock.
func (c *checker) slots() {
	for key, line := range c.group(func(s *Call) string { return c.key(s.Slots) }) {
		if key == "" {
			continue // calls for one lock
		}
		var open []*Call
		for _, b := range line {
			if !b.hasOneOfItsSlots() {
				c.report("a slot is one of the n that were asked for", fmt.Sprintf("%q: %q, of %d", b.Slots, b.Name, b.N), b.Begun, b)
			}
			open = append(slices.DeleteFunc(open, func(a *Call) bool { return c.end(a) <= b.Begun }), b)
			var running []*Call // sections that count as running
			n := 0
			for _, s := range open {
				if !c.told(s, b.Begun) {
					running, n = append(running, s), max(n, s.N)
				}
			}
			if len(running) > n {
				c.report("never more than n have a slot", fmt.Sprintf("%q: %d at once, of %d", b.Slots, len(running), n), b.Begun, running...)
			}
		}
	}
}

// hasOneOfItsSlots reports whether the lock of c is one of the slots of its
// call.
func (c *Call) hasOneOfItsSlots() bool {
	for i := range c.N {
		if c.Name == names.Slot(c.Slots, i) {
			return true
		}
	}
	return false
}
