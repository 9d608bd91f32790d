package slot

import (
	"context"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// passage bounds how long a caller that tries once looks for a free slot
// without the gate. If it has seen one, it waits for the gate within the same
// bound: the caller that holds the gate for some round trips has not acquired
// that slot yet.
const passage = 100 * time.Millisecond

// A call is a call for one of the slots.
type call struct {
	*group
	queue *queue.Queue

	ctx      context.Context
	name     string
	names    []string // of the slots
	timeout  time.Duration
	began    time.Time
	freed    chan struct{} // has room for one: a slot of this process has been released
	observer queue.Observer
	waits    bool // for the gate, or for a slot. Then the timeout counts
	polls    bool // do not wait for a slot on the server
	failed   bool // the last gate was lost with its session
}

// Waits implements queue.Observer: the calls for the gate and for a slot are
// one call.
func (c *call) Waits() {
	if !c.waits && c.observer != nil {
		c.observer.Waits()
	}
	c.waits = true
}

// left is how much of the timeout is left.
func (c *call) left() time.Duration {
	if c.timeout == queue.Forever {
		return queue.Forever
	}
	return max(0, c.timeout-time.Since(c.began))
}

// Acquire acquires one of n slots of the name. If it returns an error, nothing
// is held. The observer is told as that of queue.Queue.Acquire, but perhaps
// without a mutex held.
func (s *Slots) Acquire(ctx context.Context, name string, n int, timeout time.Duration, observer queue.Observer) (*Grant, error) {
	if ctx.Err() != nil {
		return nil, queue.ContextError(ctx)
	}
	c := &call{
		queue:    s.queue,
		ctx:      ctx,
		name:     name,
		names:    make([]string, n),
		timeout:  timeout,
		began:    time.Now(),
		freed:    make(chan struct{}, 1),
		observer: observer,
	}
	for i := range n {
		c.names[i] = names.Slot(name, i)
	}
	if err := c.reenters(s); err != nil {
		return nil, err
	}
	c.group = s.join(name)
	defer c.leave()
	for {
		g, lost, err := c.attempt()
		if !lost || c.failed {
			return g, err
		}
		c.failed = true // nothing is held: once more, on another session
	}
}

// reenters returns an error if the call's chain holds a slot of the name
// already, or a lock that the call may need.
func (c *call) reenters(s *Slots) error {
	chain := c.queue.Chain(c.ctx)
	if len(chain) == 0 {
		return nil
	}
	c.polls = true
	if number, has := s.among(chain, c.name); has {
		return fault.Because(fault.ErrReentrant, fmt.Sprintf("this call chain already holds slot %d; do not acquire another under fn's ctx", number), nil)
	}
	return c.queue.Held(c.ctx, append([]string{names.Gate(c.name)}, c.names...)...)
}

// attempt goes through the gate once. lost: the session of the gate has gone,
// and nothing is held. err is for a caller that does not start over then.
func (c *call) attempt() (g *Grant, lost bool, err error) {
	gate, err := c.enterGate()
	if err != nil {
		return nil, false, c.explain(err)
	}
	left := false
	defer func() {
		if left {
			return
		}
		if g != nil { // a method of the context has panicked
			queue.Abandon(g.Release)
		}
		queue.Abandon(gate.Release)
	}()
	g, err = c.search(gate)
	if err != nil {
		switch loss := gate.Loss(); {
		case loss != nil && c.ctx.Err() == nil:
			return nil, true, gone(loss)
		case loss != nil: // err may be that of the gate's context, which ended first
			err = c.contextError()
		}
		return nil, false, c.explain(err)
	}
	// If the context ends, the caller goes, and the release of the gate goes
	// on.
	released, ended := queue.Aside(c.ctx.Done(), nil, gate.Release)
	left = true
	switch {
	case !ended:
		queue.Abandon(g.Release)
		return nil, false, queue.ContextError(c.ctx)
	case released != nil:
		_ = g.Release() // it was on the same session
		return nil, true, gone(released)
	}
	return g, false, nil
}

// enterGate acquires the gate.
func (c *call) enterGate() (*queue.Grant, error) {
	name := names.Gate(c.name)
	terms := queue.Terms{Timeout: c.timeout, Left: c.left(), Use: queue.ForOrder, Waited: c.waits, Part: true}
	g, err := c.queue.Acquire(c.ctx, name, terms, c)
	if _, late := err.(*queue.Late); !late || c.timeout > 0 || c.ctx.Err() != nil {
		return g, err
	}
	began := time.Now()
	if !c.mayBeFree() {
		return nil, err
	}
	terms.Timeout, terms.Left = passage, max(0, passage-time.Since(began))
	return c.queue.Acquire(c.ctx, name, terms, nil)
}

// mayBeFree looks at the slots without the gate, for a call that tries once
// while another caller holds the gate. It reports whether it has seen a free
// slot.
func (c *call) mayBeFree() bool {
	c.slots.mu.Lock()
	full := c.searching != nil && len(c.names) <= len(c.searching.names)
	c.slots.mu.Unlock()
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
