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

// A slotCall is a call for a slot.
type slotCall struct {
	queue    *Queue
	slots    *slots
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
		queue:    q,
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
	if err := c.enter(); err != nil {
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

// enter begins the call, unless its chain holds a slot of the name already.
func (c *slotCall) enter() error {
	q, chain := c.queue, c.queue.chainOf(c.ctx)
	key := names.Fold(c.name)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !chain.empty() {
		c.polls = true
		if err := c.reentersLocked(chain, key); err != nil {
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

func (c *slotCall) reentersLocked(chain chain, key string) error {
	for g := range chain.locks {
		if g.slots != nil && g.slots.key == key {
			return fault.Because(fault.ErrReentrant, fmt.Sprintf("this call chain already holds slot %d; do not acquire another under fn's ctx", g.slot), nil)
		}
	}
	for _, name := range append([]string{names.Gate(c.name)}, c.names...) {
		if l := c.queue.lines[names.Fold(name)]; l != nil && chain.holding(l) {
			return c.queue.heldAlready(l.holder, name)
		}
	}
	return nil
}

func (c *slotCall) leave() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.waiting--
	if c.slots.searching == c {
		c.slots.searching = nil
	}
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
	cause := g.result
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

// search finds a free slot and acquires it, under the gate.
func (c *slotCall) search(gate *Grant) (*Grant, int, error) {
	ctx := gate.Context(c.ctx, func(lost error) error { return lost })
	c.begin()
	defer c.end()
	if c.n == 1 {
		g, err := c.acquire(ctx, 0, Terms{Timeout: c.terms.Timeout, Left: c.left(), Use: ForSlot, Waited: c.hasWaited()})
		return g, 0, err
	}
	c.polls = c.polls || gate.session.Lent()
	for began, looks := time.Now(), 0; ; looks++ {
		free, oldest, err := c.look(gate)
		if err != nil {
			return nil, 0, err
		}
		if looks > 0 {
			c.failed = false
		}
		for _, i := range free {
			g, err := c.acquire(ctx, i, Terms{Use: ForSlot})
			if err == nil || !notNow(err) {
				return g, i, err
			}
			if ctx.Err() != nil {
				return nil, 0, c.contextError()
			}
		}
		left := c.left()
		if left == 0 {
			return nil, 0, c.timedOut(c.holder())
		}
		c.full()
		every, polls := lookEvery, oldest < 0 || c.polls
		switch {
		case time.Since(began) >= longSearch:
			every = lookSeldom
		case c.polls:
			every = pollEvery
		case looks == 0:
			every = lookSoon
		case looks%pauseEvery == pauseEvery-1:
			polls = true
		}
		every = min(every, left)
		if polls {
			if err := c.pause(ctx, every); err != nil {
				return nil, 0, err
			}
			continue
		}
		g, err := c.acquire(ctx, oldest, Terms{Timeout: every, Left: every, Use: ForSlot, Busy: true})
		late := err != nil && notNow(err)
		switch {
		case err == nil:
			return g, oldest, nil
		case errors.Is(err, fault.ErrDeadlock):
			c.polls = true // perhaps none: another slot would do
		case !late || ctx.Err() != nil:
			c.polls = c.polls || gate.isLost() // something ends waits and their connections
			if late {                          // by the end of ctx, or of every: the timeout has not passed
				err = c.contextError()
			}
			return nil, 0, err
		}
	}
}

// begin counts the call, which is in no queue now, among those that wait.
func (c *slotCall) begin() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.waiting++
}

func (c *slotCall) end() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.queue.waiting--
	if c.slots.searching == c {
		c.slots.searching = nil
	}
}

// full is called when no slot is free: from now on the call waits.
func (c *slotCall) full() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.slots.searching = c
	c.Waits()
}

// acquire acquires the lock of a slot.
func (c *slotCall) acquire(ctx context.Context, number int, terms Terms) (*Grant, error) {
	g, err := c.queue.Acquire(ctx, c.names[number], terms, c)
	if err != nil {
		return nil, err
	}
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	f := c.slots
	g.slots, g.slot = f, number
	f.held[number] = g
	f.users++
	return g, nil
}

// look asks the server which slots are held. It returns the numbers of the free ones, and of the
// one that has had its holder for the longest time: -1 if that is a caller of this process, for
// which the server need not be asked.
func (c *slotCall) look(gate *Grant) (free []int, oldest int, err error) {
	select {
	case <-c.freed: // the look shows it
	default:
	}
	var late <-chan time.Time
	if c.hasWaited() && c.terms.Left != Forever {
		timer := time.NewTimer(c.left() + grace)
		defer timer.Stop()
		late = timer.C
	}
	began := time.Now()
	var holders []int64
	err, ended := c.queue.aside(c.ctx, late, func() (err error) {
		holders, err = gate.look(c.names)
		return err
	})
	switch {
	case ended && err != nil:
		return nil, 0, err
	case c.ctx.Err() != nil:
		return nil, 0, c.contextError()
	case !ended:
		return nil, 0, c.timedOut(c.holder())
	}
	free, oldest = c.slots.sight(holders, began)
	return free, oldest, nil
}

// look is HolderIDs on the session of g.
func (g *Grant) look(names []string) ([]int64, error) {
	pool := g.queue.pool
	if err := pool.TakeUrgent(g.session); err != nil {
		pool.AwaitEnd(g.session)
		return nil, err
	}
	defer pool.Put(g.session)
	return g.session.HolderIDs(names)
}

// sight remembers the holders of the slots, as they were at that time. It returns what look does.
func (f *slots) sight(holders []int64, at time.Time) (free []int, oldest int) {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
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

// notNow reports whether err is that of a bound for one statement, and not of the call:
// the lock is held, or the turn on the session did not come within the bound.
func notNow(err error) bool {
	_, late := err.(*Late)
	return late || errors.Is(err, fault.ErrTimeout)
}

// pause passes the time until the next look, unless a slot that this process had is released.
func (c *slotCall) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.freed:
	case <-ctx.Done():
		return c.contextError()
	case <-c.queue.closing.Done():
		return fault.ErrClosed
	}
	return nil
}

// contextError is the error for the end of the call's context; nil: it has not ended, and so that of the gate has.
func (c *slotCall) contextError() error {
	if c.ctx.Err() == nil {
		return fault.ErrLost
	}
	return &Late{ContextError(c.ctx), nil}
}

// explain is err, of the gate or of a slot, as that of the call.
func (c *slotCall) explain(err error) error {
	late, is := err.(*Late)
	if !is {
		return err
	}
	holder := c.holder()
	if late.Holder != nil && names.Fold(late.Holder.Name) != names.Fold(names.Gate(c.name)) {
		holder = late.Holder
	}
	if errors.Is(late, fault.ErrTimeout) {
		return c.timedOut(holder)
	}
	return &Late{late.error, holder}
}

// timedOut is the error of a call whose timeout has passed.
func (c *slotCall) timedOut(holder *server.Holder) error {
	text := fmt.Sprintf("no free slot (of %d)", c.n)
	if c.terms.Timeout > 0 {
		text += " within " + within(c.terms.Timeout)
	}
	return &Late{fault.Because(fault.ErrTimeout, text, nil), holder}
}

// holder is the holder of one of the slots, as far as that is known; nil: it is not.
func (c *slotCall) holder() *server.Holder {
	f := c.slots
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	now, oldest := time.Now(), -1
	for i := range c.n {
		if g := f.held[i]; g != nil && (oldest < 0 || g.since.Before(f.held[oldest].since)) {
			oldest = i
		}
	}
	if oldest >= 0 {
		return &server.Holder{Name: c.names[oldest], Local: true, HeldFor: now.Sub(f.held[oldest].since)}
	}
	if now.Sub(f.looked) > 2*lookupAhead {
		return nil
	}
	for i := range c.n {
		if seen, ok := f.seen[i]; ok && (oldest < 0 || seen.since.Before(f.seen[oldest].since)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return nil
	}
	return &server.Holder{Name: c.names[oldest], ConnectionID: uint64(f.seen[oldest].holder)}
}

// HasSlot reports whether a caller of this process has a slot of the name.
func (q *Queue) HasSlot(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.slots[names.Fold(name)]
	return f != nil && len(f.held) > 0
}
