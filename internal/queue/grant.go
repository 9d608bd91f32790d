package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A Grant is a lock that is held.
type Grant struct {
	line    *line
	name    string // as on the server
	session *pool.Session
	outer   *Grant    // the lock around it in its call chain
	use     Use       // of the session
	since   time.Time // when the server granted it, to this caller or to one before

	// Guarded by queue.mu.
	state  state
	result error  // of Release: a loss, and in the end the error of the release
	slots  *slots // of which it is one; nil: none
	slot   int    // its number there

	// The context of the lock's code. It ends by cause: a loss, or an act of
	// the code itself. cause is nil for the release. onLoss makes that of a
	// loss.
	cancel context.CancelCauseFunc
	cause  error
	onLoss func(error) error
}

// A state says how far a grant has come. A loss does not change it: the line of
// a lost lock stays closed until its code calls Release.
type state int

const (
	held      state = iota
	releasing       // Release has begun
	released        // Release has returned
)

// Context returns a context for the code under the lock, which makes its users
// part of the lock's call chain. It ends when the lock is released, when the
// lock is lost (then its cause matches fault.ErrLost), and with ctx. It is
// called at most once.
func (g *Grant) Context(ctx context.Context, onLoss func(error) error) context.Context {
	ctx, cancel := context.WithCancelCause(withGrant{ctx, g})
	q := g.line.queue
	q.mu.Lock()
	g.cancel, g.onLoss = cancel, onLoss
	if g.result != nil {
		g.cause = onLoss(g.result)
	}
	cause := g.cause
	q.mu.Unlock()
	if cause != nil {
		cancel(cause)
	}
	return ctx
}

// Name is the lock's name on the server.
func (g *Grant) Name() string { return g.name }

// Lost implements pool.Hold. If no session is left that could ever serve
// those in line, it ends their waits.
func (g *Grant) Lost(cause error) bool {
	loss := g.lose(cause)
	q := g.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.pool.Gone(); err != nil {
		q.dismissLocked(g.line, err)
	}
	return loss
}

// lose ends the context of the lock's code, whose session has gone by cause. It
// reports whether that is a loss: a release is not, nor is an act of the code
// itself. Several goroutines may call lose, and each returns when the context
// has ended. No mutex is held then, since the context asks its parents, which
// may be the user's.
func (g *Grant) lose(cause error) (loss bool) {
	cut := g.cutOff(cause)
	lost, own := fault.Because(fault.ErrLost, "lock lost", cause), error(nil)
	if cut {
		lost, own = nil, fmt.Errorf("%w: %w", context.Canceled, cause)
	}
	q := g.line.queue
	q.mu.Lock()
	if g.state == held && g.result == nil {
		g.result, g.cause = lost, own
		if lost != nil && g.onLoss != nil {
			g.cause = g.onLoss(lost)
		}
	}
	cancel, cause := g.cancel, g.cause
	q.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
	return !cut
}

// cutOff reports whether g ended by an act of its own code. A context has then
// ended in the middle of a statement of the transaction that g is for, or is
// in. For a lock around the transaction that is a loss.
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
	g.line.queue.mu.Lock()
	defer g.line.queue.mu.Unlock()
	return g.result != nil
}

// Release gives the lock back. It returns nil only if the lock was provably
// held to the end, and otherwise an error that matches fault.ErrLost. Whatever
// it returns, the lock is not held any more. Every call returns the result of
// the first.
func (g *Grant) Release() error {
	q := g.line.queue
	q.mu.Lock()
	for g.state == releasing {
		q.ended.Wait()
	}
	if g.state == released {
		defer q.mu.Unlock()
		return g.result
	}
	g.state = releasing
	err, cancel, cause := g.result, g.cancel, g.cause
	q.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
	handed := false
	if err == nil {
		handed, err = g.unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	g.state, g.result = released, err
	q.ended.Broadcast()
	if handed {
		return nil
	}
	if g.line.holder == g { // and not a grant that was prefetched
		g.line.holder = nil
	}
	if g.slots != nil {
		g.slots.freedLocked(g)
	}
	q.advanceLocked(g.line)
	q.active--
	return err
}

// unwanted releases a lock that was granted while its caller was giving up. On
// a silent network that takes longer than such a caller may wait: after the
// grace the caller goes on, and Close waits for the release.
func (g *Grant) unwanted() {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_, _ = aside(nil, timer.C, g.Release)
}

// unlock hands the lock to the next caller, if that is allowed, or runs
// RELEASE_LOCK on the session of the lock. If that does not prove that the lock
// was held, the connection is closed before unlock returns.
func (g *Grant) unlock() (handed bool, err error) {
	q, s := g.line.queue, g.session
	var successor *waiter
	q.mu.Lock()
	if g.line.front != nil {
		if successor = g.successorLocked(); successor == nil {
			q.prefetchLocked(g)
		}
	}
	q.mu.Unlock()
	if err := q.pool.TakeUrgent(s); err != nil {
		if g.cutOff(err) {
			return false, nil
		}
		return false, fault.Because(fault.ErrLost, "lock lost before its release", err)
	}
	if successor != nil && g.handTo(successor) {
		return true, nil
	}
	err = s.ReleaseLock(g.name)
	q.pool.Drop(s, g)
	if err != nil && g.cutOff(err) {
		return false, nil // the server has the lock until the statement has ended
	}
	return false, err
}
