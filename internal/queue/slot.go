package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A slot is one of n locks, any of which will do for a caller. No server can
// wait for one of several locks, so callers take turns. A caller acquires
// another lock, the gate, and looks for a free slot while it holds the gate.
// All other callers, in every process, are in the queue for the gate. So they
// are served in the order in which they came. Of each process one session
// waits, and of all processes one session asks, however many callers wait.
//
//	gate -> look -> GET_LOCK(slot, 0) -----------------------> RELEASE_LOCK(gate) -> grant
//	        ^  |                                               ^
//	        |  +-- all used: GET_LOCK(slot, lookEvery), or pause
//	        +----------+
//
// The gate and the slot are on one session, and the slot is held before the
// gate is released. The slots exclude by themselves. The gate is for the order,
// and for the number of statements. For the search see slot_search.go.

// passage bounds how long a caller that tries once looks for a free slot
// without the gate. If it has seen one, it waits for the gate within the same
// bound: the caller that holds the gate for some round trips has not acquired
// that slot yet.
const passage = 100 * time.Millisecond

// slots is shared by the calls of this process for the slots of one folded
// name. It exists while there is a call, or a slot is held. The queue's mu
// guards it.
type slots struct {
	queue *Queue
	key   string
	users int // calls under way, and slots held

	held      map[int]*Grant   // by the number of the slot
	seen      map[int]sighting // of slots that any process holds, by the last look
	looked    time.Time        // when that look began
	searching *slotCall        // it has the gate, and has found no free slot; nil: none
}

// A sighting says since when a slot has been seen to have the same holder.
type sighting struct {
	holder int64 // its connection id
	since  time.Time
}

// A slotCall is a call for one of the slots.
type slotCall struct {
	*slots

	ctx      context.Context
	name     string
	names    []string // of the slots
	timeout  time.Duration
	deadline time.Time     // when the timeout passes, if the call has waited; never: there is none
	freed    chan struct{} // has room for one: a slot of this process has been released
	observer Observer
	waits    bool // for the gate, or for a slot. Then the deadline counts. Guarded by queue.mu
	polls    bool // do not wait for a slot on the server
	failed   bool // the last gate was lost with its session
}

// Waits implements Observer: the calls for the gate and for a slot are one
// call.
func (c *slotCall) Waits() {
	if !c.waits && c.observer != nil {
		c.observer.Waits()
	}
	c.waits = true
}

func (c *slotCall) hasWaited() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.waits
}

// left is how much of the timeout is left.
func (c *slotCall) left() time.Duration { return max(0, time.Until(c.deadline)) }

// AcquireSlot acquires one of n slots of the name, and returns it with its
// number. If it returns an error, nothing is held.
func (q *Queue) AcquireSlot(ctx context.Context, name string, n int, terms Terms, observer Observer) (*Grant, int, error) {
	if ctx.Err() != nil {
		return nil, 0, ContextError(ctx)
	}
	c := &slotCall{
		ctx:      ctx,
		name:     name,
		names:    make([]string, n),
		timeout:  terms.Timeout,
		deadline: deadlineAfter(terms.Left),
		freed:    make(chan struct{}, 1),
		observer: observer,
	}
	for i := range n {
		c.names[i] = names.Slot(name, i)
	}
	if err := c.enter(q); err != nil {
		return nil, 0, err
	}
	defer c.leave()
	for {
		g, number, lost, err := c.attempt()
		if !lost || c.failed {
			return g, number, err
		}
		c.failed = true // nothing is held: once more, on another session
	}
}

// enter begins the call in q. It returns an error if the call's chain holds a
// slot of the name already.
func (c *slotCall) enter(q *Queue) error {
	chain, key := q.chainOf(c.ctx), names.Fold(c.name)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !chain.empty() {
		c.polls = true
		if err := c.reentersLocked(q, chain, key); err != nil {
			return err
		}
	}
	f := q.slots[key]
	if f == nil {
		f = &slots{queue: q, key: key, held: make(map[int]*Grant), seen: make(map[int]sighting)}
		q.slots[key] = f
	}
	f.users++
	c.slots = f
	q.waiting++ // once, in whichever lines it waits
	return nil
}

func (c *slotCall) reentersLocked(q *Queue, chain chain, key string) error {
	for g := range chain.locks {
		if g.slots != nil && g.slots.key == key {
			return fault.Because(fault.ErrReentrant, fmt.Sprintf("this call chain already holds slot %d; do not acquire another under fn's ctx", g.slot), nil)
		}
	}
	for _, name := range append([]string{names.Gate(c.name)}, c.names...) {
		if l := q.lines[names.Fold(name)]; l != nil && chain.holds(l.holder) {
			return q.heldAlready(l.holder, name)
		}
	}
	return nil
}

func (c *slotCall) leave() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.waiting--
	c.slots.partLocked()
}

// partLocked counts a user that has gone.
func (f *slots) partLocked() {
	if f.users--; f.users == 0 {
		delete(f.queue.slots, f.key)
	}
}

// freedLocked is called when g, a slot that this process held, has been
// released.
func (f *slots) freedLocked(g *Grant) {
	if f.held[g.slot] == g {
		delete(f.held, g.slot)
		delete(f.seen, g.slot)
	}
	if c := f.searching; c != nil && g.slot < len(c.names) {
		select {
		case c.freed <- struct{}{}:
		default:
		}
	}
	f.partLocked()
}

// attempt goes through the gate once. lost: the session of the gate has gone,
// and nothing is held. err is for a caller that does not start over then.
func (c *slotCall) attempt() (g *Grant, number int, lost bool, err error) {
	gate, err := c.enterGate()
	if err != nil {
		return nil, 0, false, c.explain(err)
	}
	left := false
	defer func() {
		if left {
			return
		}
		if g != nil { // a method of the context has panicked
			g.unwanted()
		}
		gate.unwanted()
	}()
	g, number, err = c.search(gate)
	if err != nil {
		if c.ctx.Err() == nil && gate.isLost() {
			return nil, 0, true, gate.gone()
		}
		return nil, 0, false, c.explain(err)
	}
	// If the context ends, the caller goes, and the release of the gate goes
	// on.
	released, ended := aside(c.ctx.Done(), nil, gate.Release)
	left = true
	switch {
	case !ended:
		g.unwanted()
		return nil, 0, false, ContextError(c.ctx)
	case released != nil:
		_ = g.Release() // it was on the same session
		return nil, 0, true, gate.gone()
	}
	return g, number, false, nil
}

// gone is the error for a call whose gate was lost.
func (g *Grant) gone() error {
	q := g.line.queue
	q.mu.Lock()
	cause := g.why
	q.mu.Unlock()
	if r := (*fault.Reason)(nil); errors.As(cause, &r) && r.Cause != nil {
		cause = r.Cause // the call has lost nothing that its caller knows of
	}
	return fault.Because(fault.ErrUnavailable, "lost the session while looking for a free slot", cause)
}

// enterGate acquires the gate.
func (c *slotCall) enterGate() (*Grant, error) {
	q, name := c.queue, names.Gate(c.name)
	g, err := q.Acquire(c.ctx, name, Terms{Timeout: c.timeout, Left: c.left(), Use: ForGate, Waited: c.hasWaited()}, c)
	if _, late := err.(*Late); !late || c.timeout > 0 || c.ctx.Err() != nil {
		return g, err
	}
	began := time.Now()
	if !c.mayBeFree() {
		return nil, err
	}
	left := max(0, passage-time.Since(began))
	return q.Acquire(c.ctx, name, Terms{Timeout: passage, Left: left, Use: ForGate}, nil)
}

// mayBeFree looks at the slots without the gate, for a call that tries once
// while another caller holds the gate. It reports whether it has seen a free
// slot.
func (c *slotCall) mayBeFree() bool {
	c.queue.mu.Lock()
	full := c.slots.searching != nil && len(c.names) <= len(c.slots.searching.names)
	c.queue.mu.Unlock()
	if full {
		return false
	}
	ctx, cancel := context.WithTimeout(c.ctx, passage) // also for the wait for a connection
	defer cancel()
	free := false
	err := c.queue.Inspect(ctx, func(s *server.Conn) error {
		holders, err := s.HolderIDs(c.names)
		for _, id := range holders {
			free = free || id == 0
		}
		return err
	})
	return err == nil && free
}

// HasSlot reports whether a caller of this process has a slot of the name.
func (q *Queue) HasSlot(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.slots[names.Fold(name)]
	return f != nil && len(f.held) > 0
}
