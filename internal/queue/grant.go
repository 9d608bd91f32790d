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

// A Grant is a lock of a caller: wanted, held, or released.
type Grant struct {
	line  *line
	name  string // as on the server
	chain chain  // the locks around it
	use   Use    // of the session

	// Set when the lock is granted.
	session *pool.Session
	since   time.Time // when the server granted it, to this caller or to one before

	// Guarded by queue.mu.
	state state
	why   error // it is lost or stopped; in the end the result of Release

	// Of the context of the lock's code. onLoss makes its cause of a loss.
	cancel context.CancelCauseFunc
	onLoss func(error) error
}

// A state says how far a grant has come.
//
//	wanted ---> held ---> releasing ---> released
//	              |             ^
//	              +--> lost ----+
//	              +--> stopped -+
//
// The line of a lost lock stays closed until its code calls Release.
type state int

const (
	wanted    state = iota
	held            // its code runs
	lost            // its session has gone
	stopped         // its own code has ended its session: see cutOff
	releasing       // Release has begun
	released        // Release has returned
)

// Context returns a context for the code under the lock, which makes its users
// part of the lock's call chain. It ends when the lock is released, when the
// lock is lost, and with ctx. After a loss its cause is the error that onLoss
// makes of the loss, which matches fault.ErrLost. Context is called at most
// once. onLoss may be called again for the same loss, with the queue's mutex
// held.
func (g *Grant) Context(ctx context.Context, onLoss func(error) error) context.Context {
	ctx, cancel := context.WithCancelCause(withGrant{ctx, g})
	q := g.line.queue
	q.mu.Lock()
	g.cancel, g.onLoss = cancel, onLoss
	var cause error
	if g.state != held {
		cause = g.causeLocked()
	}
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
// reports whether that is a loss, as it is during a release: an act of the code
// itself is not. Several goroutines may call lose, and each returns when the
// context has ended, unless Release is about to end it. No mutex is held then,
// since the context asks its parents, which may be the user's.
func (g *Grant) lose(cause error) (loss bool) {
	end, why := lost, error(nil)
	if g.cutOff(cause) {
		end, why = stopped, fmt.Errorf("%w: %w", context.Canceled, cause)
	} else {
		why = fault.Because(fault.ErrLost, "lock lost", cause)
	}
	q := g.line.queue
	q.mu.Lock()
	if g.state == held {
		g.state, g.why = end, why
	}
	cancel, cause := g.cancel, g.causeLocked()
	if g.state >= releasing {
		cancel = nil // Release knows the cause, which may be a loss
	}
	q.mu.Unlock()
	g.end(cancel, cause)
	return end == lost
}

// causeLocked returns the cause by which the context of the lock's code ends.
// It is nil for a release, and before there is a context.
func (g *Grant) causeLocked() error {
	switch {
	case g.state == lost && g.onLoss != nil:
		return g.onLoss(g.why)
	case g.state == stopped:
		return g.why
	}
	return nil
}

// end ends the context of the lock's code, if it has one. That asks the
// contexts around it, whose methods may be code of the user: a panic there must
// not keep the lock.
func (g *Grant) end(cancel context.CancelCauseFunc, cause error) {
	if cancel == nil {
		return
	}
	defer func() {
		if value := recover(); value != nil {
			g.line.queue.pool.Logger.Error("namedlock: a context panicked", "name", g.name, "panic", value)
		}
	}()
	cancel(cause)
}

// cutOff reports whether g ended by an act of its own code. A context has then
// ended in the middle of a statement of the transaction that g is for, or is
// in. For a lock around the transaction that is a loss.
func (g *Grant) cutOff(cause error) bool {
	if !errors.Is(cause, server.ErrCutOff) {
		return false
	}
	for around := g; around != nil; around = around.chain.inner {
		if around.use == ForTx && around.session == g.session {
			return true
		}
	}
	return false
}

// OwnSession implements pool.Hold: the session belongs to the call chain for as
// long as the lock is held.
func (g *Grant) OwnSession() bool { return g.use >= ForTx }

// Loss returns the loss of the lock, which matches fault.ErrLost. It is nil if
// none has been noticed before Release.
func (g *Grant) Loss() error {
	g.line.queue.mu.Lock()
	defer g.line.queue.mu.Unlock()
	if g.state != lost {
		return nil
	}
	return g.why
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
		return g.why
	}
	cancel, cause, err := g.cancel, error(nil), error(nil)
	if g.state != held { // another goroutine may be about to end the context
		cause = g.causeLocked()
	}
	if g.state == lost {
		err = g.why
	}
	g.state = releasing
	q.mu.Unlock()
	g.end(cancel, cause)
	handed := false
	if err == nil {
		handed, err = g.unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	g.state, g.why = released, err
	q.ended.Broadcast()
	if handed {
		return nil
	}
	if g.line.holder == g { // and not a grant that was prefetched
		g.line.holder = nil
	}
	q.advanceLocked(g.line)
	q.active--
	return err
}

// Abandon calls release, which releases a lock that was granted while its
// caller was giving up. On a silent network that takes longer than such a
// caller may wait: after the grace the caller goes on, and Close waits for the
// release.
func Abandon(release func() error) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_, _ = Aside(nil, timer.C, release)
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
