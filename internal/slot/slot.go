package slot

import (
	"slices"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// Slots acquires the slots of one Locker, on the locks of its queue.
type Slots struct {
	queue *queue.Queue

	mu     sync.Mutex        // guards groups, and their fields
	groups map[string]*group // by the folded name
}

// New returns Slots on the locks of q.
func New(q *queue.Queue) *Slots {
	return &Slots{queue: q, groups: make(map[string]*group)}
}

// A group is shared by the calls of this process for the slots of one folded
// name. It exists while there is a call, or a slot is held. Slots.mu guards it.
type group struct {
	slots *Slots
	key   string
	calls int // under way

	held      map[int]*Grant   // by the number of the slot
	seen      map[int]sighting // of slots that any process holds, by the last look
	looked    time.Time        // when that look began
	searching *call            // it has the gate, and has found no free slot; nil: none
}

// A sighting says since when a slot has been seen to have the same holder.
type sighting struct {
	holder int64 // its connection id
	since  time.Time
}

// A Grant is a slot that a caller of this process holds. Its own Release must
// be called, not that of its lock.
type Grant struct {
	*queue.Grant
	Number int

	group *group
	since time.Time
}

// Release releases the slot, as queue.Grant.Release releases its lock.
func (g *Grant) Release() error {
	err := g.Grant.Release()
	g.group.free(g)
	return err
}

// Waiting is how many calls wait for a slot.
func (s *Slots) Waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.groups {
		n += f.calls
	}
	return n
}

// Has reports whether a caller of this process has a slot of the name.
func (s *Slots) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.groups[names.Fold(name)]
	return f != nil && len(f.held) > 0
}

// join begins a call for a slot of the name.
func (s *Slots) join(name string) *group {
	key := names.Fold(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.groups[key]
	if f == nil {
		f = &group{slots: s, key: key, held: make(map[int]*Grant), seen: make(map[int]sighting)}
		s.groups[key] = f
	}
	f.calls++
	return f
}

// leave is the end of a call.
func (f *group) leave() {
	f.slots.mu.Lock()
	defer f.slots.mu.Unlock()
	f.calls--
	f.endLocked()
}

// endLocked forgets a group that has ended.
func (f *group) endLocked() {
	if f.calls == 0 && len(f.held) == 0 {
		delete(f.slots.groups, f.key)
	}
}

// among returns the number of the slot of the name that is one of the locks.
func (s *Slots) among(locks []*queue.Grant, name string) (number int, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.groups[names.Fold(name)]; f != nil {
		for number, g := range f.held {
			if slices.Contains(locks, g.Grant) {
				return number, true
			}
		}
	}
	return 0, false
}

// hold notes that this process holds the slot.
func (f *group) hold(number int, lock *queue.Grant) *Grant {
	g := &Grant{Grant: lock, Number: number, group: f, since: time.Now()}
	f.slots.mu.Lock()
	defer f.slots.mu.Unlock()
	f.held[number] = g
	return g
}

// free notes that g has been released.
func (f *group) free(g *Grant) {
	f.slots.mu.Lock()
	defer f.slots.mu.Unlock()
	if f.held[g.Number] != g {
		return // it was noted before, or the next holder has been noted already
	}
	delete(f.held, g.Number)
	delete(f.seen, g.Number)
	if c := f.searching; c != nil && g.Number < len(c.names) {
		select {
		case c.freed <- struct{}{}:
		default:
		}
	}
	f.endLocked()
}

// sight keeps the holders of the slots, as they were at that time. It returns
// the numbers of the free slots, and of the slot that has had its holder for
// the longest time, -1 if that holder is in this process.
func (f *group) sight(holders []int64, at time.Time) (free []int, oldest int) {
	f.slots.mu.Lock()
	defer f.slots.mu.Unlock()
	f.looked, oldest = at, -1
	var longest time.Time
	for i, id := range holders {
		var since time.Time
		switch g, seen := f.held[i], f.seen[i]; {
		case g != nil:
			since = g.since
		case id == 0:
			delete(f.seen, i)
			free = append(free, i)
			continue
		default:
			if seen.holder != id {
				seen = sighting{id, at}
				f.seen[i] = seen
			}
			since = seen.since
		}
		if oldest < 0 || since.Before(longest) {
			oldest, longest = i, since
		}
	}
	if f.held[oldest] != nil {
		oldest = -1
	}
	return free, oldest
}
