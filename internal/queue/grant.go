package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A Grant is a lock that is held.
type Grant struct {
	queue   *Queue
	line    *line
	name    string // as the server knows it
	session *pool.Session
	outer   *Grant    // the lock around it in its call chain
	alone   bool      // its call chain held no other lock
	use     Use       // of the session
	since   time.Time // when the server granted it, to this caller or to one before

	releasing bool   // guarded by queue.mu
	slots     *slots // of which it is one; nil: none. Guarded by queue.mu
	slot      int    // its number there

	mu       sync.Mutex // guards what follows
	lost     error
	released bool          // Release has begun
	ended    chan struct{} // closed when it has returned; made by whoever waits for that
	result   error         // of Release, if over
	over     bool
	cancel   context.CancelCauseFunc // of the context that the lock's code runs under; see end
	onLoss   func(error) error       // makes its cause
	cause    error                   // of the context's end: a loss, or what the lock's code did itself; nil: the release
}

// Context returns a context for the code under the lock. It ends when the lock is
// released or lost (then its cause matches fault.ErrLost), and with ctx; it makes its
// users part of the lock's call chain. It is to be called once.
func (g *Grant) Context(ctx context.Context, onLoss func(error) error) context.Context {
	ctx, cancel := context.WithCancelCause(withGrant{ctx, g})
	g.mu.Lock()
	g.cancel, g.onLoss = cancel, onLoss
	if g.lost != nil {
		g.cause = onLoss(g.lost)
	}
	over := g.cause != nil
	g.mu.Unlock()
	if over {
		g.end()
	}
	return ctx
}

// end ends the context that the lock's code runs under. The context asks its
// parents, which may be the user's, so no mutex is held: end may be called by
// several goroutines. The cause is decided before, and each returns only when
// the context has ended.
func (g *Grant) end() {
	g.mu.Lock()
	cancel, cause := g.cancel, g.cause
	g.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// Name is the lock's name as the server knows it.
func (g *Grant) Name() string { return g.name }

// Lost implements pool.Hold.
func (g *Grant) Lost(cause error) bool {
	g.lose(cause)
	g.queue.lost(g.line)
	return !g.cutOff(cause)
}

// cutOff reports whether g ended by what its own code did: a context of that ended in the
// middle of a statement of the transaction that g is for, or is in. For a lock around the
// transaction that is a loss.
func (g *Grant) cutOff(cause error) bool {
	if !errors.Is(cause, server.ErrCutOff) {
		return false
	}
	for around := g; around != nil; around = around.outer {
		if around.use == ForTx && around.session == g.session {
			return true
		}
	}
	return false
}

// OwnSession implements pool.Hold.
func (g *Grant) OwnSession() bool { return g.use.own() }

func (g *Grant) isLost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost != nil
}

func (g *Grant) lose(cause error) {
	// A release is never taken for a loss, nor is what the code under the lock
	// did itself.
	if g.cutOff(cause) {
		g.decide(nil, fmt.Errorf("%w: %w", context.Canceled, cause))
	} else {
		g.decide(fault.Because(fault.ErrLost, "lock lost", cause), nil)
	}
	g.end()
}

// decide records why the lock's code has to end: by a loss, or by another cause.
func (g *Grant) decide(lost, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.released || g.lost != nil {
		return
	}
	g.lost, g.cause = lost, cause
	if lost != nil && g.onLoss != nil {
		g.cause = g.onLoss(lost)
	}
}

// Release gives the lock back. It returns nil only if the lock was provably held
// to the end, and otherwise an error that matches fault.ErrLost. Whatever it
// returns, the lock is not held any more. Every call returns what the first
// found.
func (g *Grant) Release() error {
	g.mu.Lock()
	if g.released {
		return g.awaitRelease()
	}
	g.released = true
	lost := g.lost
	g.mu.Unlock()
	g.end()

	err := g.release(lost)

	g.mu.Lock()
	defer g.mu.Unlock()
	g.result, g.over = err, true
	if g.ended != nil {
		close(g.ended)
	}
	return err
}

// unwanted releases a lock that was granted while its caller was giving up. On
// a silent network that takes longer than a caller who gives up may wait: after
// the grace it goes on, and Close waits for it.
func (g *Grant) unwanted() {
	released := make(chan struct{})
	go func() {
		defer close(released)
		_ = g.Release()
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-released:
	case <-timer.C:
	}
}

// awaitRelease is for all calls of Release but the first. It unlocks mu.
func (g *Grant) awaitRelease() error {
	if !g.over {
		if g.ended == nil {
			g.ended = make(chan struct{})
		}
		ended := g.ended
		g.mu.Unlock()
		<-ended
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	return g.result
}

func (g *Grant) release(lost error) error {
	g.queue.mu.Lock()
	g.releasing = true
	var successor *waiter
	if g.line.front != nil {
		if successor = g.successorLocked(); lost == nil && successor == nil {
			g.queue.prefetchLocked(g)
		}
	}
	g.queue.mu.Unlock()
	if lost != nil {
		g.queue.release(g)
		return lost
	}
	return g.giveBack(successor)
}

// giveBack hands the lock to successor, if there is one, or runs RELEASE_LOCK on the
// session that acquired. If that does not prove that the lock was held, its
// connection is closed before giveBack returns.
func (g *Grant) giveBack(successor *waiter) error {
	pool, s := g.queue.pool, g.session
	if err := pool.TakeUrgent(s); err != nil {
		g.queue.release(g)
		if g.cutOff(err) {
			return nil
		}
		return fault.Because(fault.ErrLost, "lock lost before its release", err)
	}
	if successor != nil && g.handTo(successor) {
		return nil
	}
	err := s.ReleaseLock(g.name)
	pool.Drop(s, g)
	g.queue.release(g)
	if g.cutOff(err) {
		return nil // the server has the lock until the statement has ended
	}
	return err
}
