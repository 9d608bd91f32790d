package queue

import (
	"context"
	"errors"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// While all slots are used, the caller that holds the gate waits for the slot
// that has had the same holder for the longest time. With similar work, that
// one becomes free first. The server then grants it at once. Every lookEvery
// the caller looks at all slots again. A slot that a caller of this process
// holds is waited for without a statement: see slots.freedLocked.
//
// A server that detects deadlocks takes the wait for a slot for a wait for its
// holder alone, although another slot would do. A caller that holds other locks
// could close such a circle. So it does not wait on the server and only looks,
// and so does a caller whose wait has ended in a deadlock.
const (
	// lookEvery is how often a caller looks at the slots. With the two
	// statements that follow, it acquires a slot within 100 ms of its release.
	lookEvery = 95 * time.Millisecond

	// lookSoon replaces lookEvery after the first look, which may have shown
	// all holders for the first time. Then it is not known which slot becomes
	// free first.
	lookSoon = 40 * time.Millisecond

	// pauseEvery: of so many waits for a slot, one is a pause without a
	// statement. That makes 18 statements a second. Two in each lookEvery would
	// be 21.
	pauseEvery = 4

	// pollEvery is how often a caller looks that does not wait in between.
	pollEvery = 60 * time.Millisecond

	// lookSeldom replaces the others after a search of longSearch.
	lookSeldom = 900 * time.Millisecond
	longSearch = time.Minute
)

// search finds a free slot and acquires it, under the gate.
func (c *slotCall) search(gate *Grant) (*Grant, int, error) {
	ctx := gate.Context(c.ctx, func(lost error) error { return lost })
	if len(c.names) == 1 {
		g, err := c.acquire(ctx, 0, Terms{Timeout: c.timeout, Left: c.left(), Use: ForSlot, Waited: c.hasWaited()})
		return g, 0, err
	}
	defer c.endSearch()
	c.polls = c.polls || gate.session.Lent()
	for began, looks := time.Now(), 0; ; looks++ {
		free, oldest, err := c.look(gate)
		if err != nil {
			return nil, 0, err
		}
		if looks > 0 {
			c.failed = false
		}
		if g, number, err := c.acquireFree(ctx, free); g != nil || err != nil {
			return g, number, err
		}
		if c.left() == 0 {
			return nil, 0, c.timedOut(c.holder())
		}
		c.full()
		every, polls := c.plan(time.Since(began), looks, oldest)
		if polls {
			if err := c.pause(ctx, every); err != nil {
				return nil, 0, err
			}
			continue
		}
		if g, err := c.waitForSlot(ctx, gate, oldest, every); g != nil || err != nil {
			return g, oldest, err
		}
	}
}

// acquireFree acquires the first of the slots that is still free. It returns
// nil if none is.
func (c *slotCall) acquireFree(ctx context.Context, free []int) (*Grant, int, error) {
	for _, i := range free {
		g, err := c.acquire(ctx, i, Terms{Use: ForSlot})
		if err == nil || !notNow(err) {
			return g, i, err
		}
		if ctx.Err() != nil {
			return nil, 0, c.contextError()
		}
	}
	return nil, 0, nil
}

// plan returns when to look next, and whether to pause until then. Otherwise
// the call waits for the oldest slot, if there is one. It has searched for so
// long, and this many looks came before the last.
func (c *slotCall) plan(searched time.Duration, looks, oldest int) (every time.Duration, polls bool) {
	every, polls = lookEvery, oldest < 0 || c.polls
	switch {
	case searched >= longSearch:
		every = lookSeldom
	case c.polls:
		every = pollEvery
	case looks == 0:
		every = lookSoon
	case looks%pauseEvery == pauseEvery-1:
		polls = true
	}
	return min(every, c.left()), polls
}

// waitForSlot waits on the server for a slot, for at most that time. It returns
// nil if it was not acquired.
func (c *slotCall) waitForSlot(ctx context.Context, gate *Grant, number int, every time.Duration) (*Grant, error) {
	g, err := c.acquire(ctx, number, Terms{Timeout: every, Left: every, Use: ForSlot, Busy: true})
	late := err != nil && notNow(err)
	switch {
	case err == nil:
		return g, nil
	case errors.Is(err, fault.ErrDeadlock):
		c.polls = true // perhaps there is none: another slot would do
	case late && ctx.Err() != nil: // the timeout has not passed
		err = c.contextError()
		fallthrough
	case !late:
		c.polls = c.polls || gate.isLost() // something ends waits and their connections
		return nil, err
	}
	return nil, nil
}

// pause passes the time until the next look, unless a slot that this process
// held is released.
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

// full is called when no slot is free: from now on the call waits.
func (c *slotCall) full() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	c.slots.searching = c
	c.Waits()
}

// endSearch is called before the gate is released: from then on a slot that is
// free may be another call's.
func (c *slotCall) endSearch() {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	if c.slots.searching == c {
		c.slots.searching = nil
	}
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

// look asks the server which slots are held. It returns the numbers of the free
// ones, and of the slot that has had its holder for the longest time. That
// number is -1 if the holder is in this process: then the server need not be
// asked for it.
func (c *slotCall) look(gate *Grant) (free []int, oldest int, err error) {
	select {
	case <-c.freed: // the look shows it
	default:
	}
	var late <-chan time.Time
	if c.deadline != never && c.hasWaited() {
		timer := time.NewTimer(min(c.left(), Forever-grace) + grace)
		defer timer.Stop()
		late = timer.C
	}
	done := c.ctx.Done() // code of the user's, which may panic, so before the look counts
	began := time.Now()
	var holders []int64
	c.queue.begin() // it may go on, and end its session, when the gate has been released
	err, ended := aside(done, late, func() (err error) {
		defer c.queue.finish()
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
	pool := g.line.queue.pool
	if err := pool.TakeUrgent(g.session); err != nil {
		pool.AwaitEnd(g.session)
		return nil, err
	}
	defer pool.Put(g.session)
	return g.session.HolderIDs(names)
}

// sight keeps the holders of the slots, as they were at that time. It returns
// what look returns.
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
