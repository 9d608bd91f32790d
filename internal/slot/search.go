package slot

import (
	"context"
	"errors"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// While all slots are used, the caller that holds the gate waits for the slot
// that has had the same holder for the longest time. With similar work, that
// one becomes free first. The server then grants it at once. Every lookEvery
// the caller looks at all slots again. A slot that a caller of this process
// holds is waited for without a statement: see group.free.
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
func (c *call) search(gate *queue.Grant) (*Grant, error) {
	ctx := gate.Context(c.ctx, func(lost error) error { return lost })
	if len(c.names) == 1 {
		return c.acquire(ctx, 0, queue.Terms{Timeout: c.timeout, Left: c.left(), Waited: c.waits})
	}
	defer c.endSearch()
	c.polls = c.polls || gate.Lent()
	for began, looks := time.Now(), 0; ; looks++ {
		free, oldest, err := c.look(gate)
		if err != nil {
			return nil, err
		}
		if looks > 0 {
			c.failed = false
		}
		if g, err := c.acquireFree(ctx, free); g != nil || err != nil {
			return g, err
		}
		if c.left() == 0 {
			return nil, c.timedOut(c.holder())
		}
		c.full()
		every, polls := c.plan(time.Since(began), looks, oldest)
		if polls {
			if err := c.pause(ctx, every); err != nil {
				return nil, err
			}
			continue
		}
		if g, err := c.waitForSlot(ctx, gate, oldest, every); g != nil || err != nil {
			return g, err
		}
	}
}

// acquireFree acquires the first of the slots that is still free. It returns
// nil if none is.
func (c *call) acquireFree(ctx context.Context, free []int) (*Grant, error) {
	for _, i := range free {
		g, err := c.acquire(ctx, i, queue.Terms{})
		if err == nil || !notNow(err) {
			return g, err
		}
		if ctx.Err() != nil {
			return nil, c.contextError()
		}
	}
	return nil, nil
}

// plan returns when to look next, and whether to pause until then. Otherwise
// the call waits for the oldest slot, if there is one. It has searched for so
// long, and this many looks came before the last.
func (c *call) plan(searched time.Duration, looks, oldest int) (every time.Duration, polls bool) {
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
func (c *call) waitForSlot(ctx context.Context, gate *queue.Grant, number int, every time.Duration) (*Grant, error) {
	g, err := c.acquire(ctx, number, queue.Terms{Timeout: every, Left: every, Busy: true})
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
		c.polls = c.polls || gate.Loss() != nil // something ends waits and their connections
		return nil, err
	}
	return nil, nil
}

// pause passes the time until the next look, unless a slot that this process
// held is released.
func (c *call) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.freed:
	case <-ctx.Done():
		return c.contextError()
	case <-c.queue.Closing():
		return fault.ErrClosed
	}
	return nil
}

// full is called when no slot is free: from now on the call waits.
func (c *call) full() {
	c.slots.mu.Lock()
	c.searching = c
	c.slots.mu.Unlock()
	c.Waits()
}

// endSearch is called before the gate is released: from then on a slot that is
// free may be another call's.
func (c *call) endSearch() {
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	if c.searching == c {
		c.searching = nil
	}
}

// acquire acquires the lock of a slot.
func (c *call) acquire(ctx context.Context, number int, terms queue.Terms) (*Grant, error) {
	terms.Part = true
	lock, err := c.queue.Acquire(ctx, c.names[number], terms, c)
	if err != nil {
		return nil, err
	}
	return c.hold(number, lock), nil
}

// look asks the server which slots are held. It returns the numbers of the free
// ones, and of the slot that has had its holder for the longest time. That
// number is -1 if the holder is in this process: then the server need not be
// asked for it.
func (c *call) look(gate *queue.Grant) (free []int, oldest int, err error) {
	select {
	case <-c.freed: // the look shows it
	default:
	}
	left := queue.Forever
	if c.waits {
		left = c.left()
	}
	began := time.Now()
	var holders []int64
	err, ended := gate.Inspect(c.ctx.Done(), left, func(s *server.Conn) (err error) {
		holders, err = s.HolderIDs(c.names)
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
	free, oldest = c.sight(holders, began)
	return free, oldest, nil
}
