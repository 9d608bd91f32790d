package namedlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// Lead runs fn in one process at a time, among all that call Lead for name,
// until ctx ends. It waits for the lock, runs fn as the leader, and waits again
// if the lock is lost. fn should run until its ctx ends.
//
// # What Lead returns
//
//   - If ctx ends, Lead waits for fn to return. Its error matches ctx.Err(),
//     and also fn's error if that is a different one.
//   - If fn returns while it still leads, it resigns, and another process leads
//     next. Lead returns fn's result, nil included.
//   - If fn returns after the lock was lost, its result is logged and otherwise
//     ignored. Lead waits for the next term.
//   - If an error cannot be cured by waiting, Lead returns it.
//
// These errors cannot be cured by waiting:
//
//   - [ErrInvalidName], [ErrClosed], and the error for a nil fn or ctx;
//   - [ErrUnsupported], unless the server is only read-only;
//   - [ErrReentrant], [ErrInTransaction] and [ErrDeadlock], if Lead is called
//     under another lock;
//   - [ErrUnavailable], if the connection given to [New] is gone, or the db
//     given to [Open] is closed.
//
// # The leader's function
//
// fn's ctx ends when ctx ends and when the lock is lost (its cause then matches
// [ErrLost]). fn must then return. Until it does, the lock is not released, and
// this process does not wait for the next term.
//
// A process that is paused for longer than the lease does not know that another
// process leads. Nothing that it writes through [Term.WithTx] is committed
// then.
//
// # Shutting down
//
// End ctx, wait for Lead to return, then call [Locker.Shutdown]. Shutdown alone
// does not stop a leader before Shutdown's own ctx ends.
//
// # Outages
//
// If the server is unreachable or read-only, as in a failover, Lead retries,
// with pauses that grow from 100 ms to 5 s. It logs this once for each outage
// ([WithLogger]).
//
// Lead also pauses if terms are lost one after the other, from the second loss
// on. There is no pause after a term that lasted longer than 5 s. The reason is
// that fn itself may be breaking its session, for example with a statement that
// is too long.
//
// # Sessions
//
// A Lead has a session to itself for as long as it runs, whether it waits or
// leads. The session does not count towards [WithMaxSessions], but it is one of
// the db's connections. All Leads of one db together leave it two: one for
// other locks, and one for the code under them.
//
// A Lead for which there is no connection left returns [ErrUnsupported] at
// once. The text has the number of connections that is enough
// (sql.DB.SetMaxOpenConns), with the Leads of all Lockers of the db included.
//
// With [New] there is only one session. While its Lead leads, other callers get
// no lock ([ErrNoSession]), except under fn's ctx.
func (l *Locker) Lead(ctx context.Context, name string, fn func(ctx context.Context, term *Term) error) error {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	if l.isZero() {
		return acquireError(name, errZeroLocker)
	}
	if err := l.pool.Lead(); err != nil {
		return acquireError(name, err)
	}
	defer l.pool.Resign()
	var out outage
	for {
		lock, err := l.getLock(ctx, Event{Method: "Lead", Name: name, Timeout: Forever}, queue.Terms{Timeout: Forever, Left: Forever, Use: queue.ForLead}) // GET_LOCK
		switch {
		case err == nil:
			began := time.Now()
			if over, err := lock.lead(fn); over {
				return err
			}
			if out.lost(time.Since(began)) {
				err = out.sitOut(ctx, l.queue.Closing())
			}
		case ctx != nil && ctx.Err() != nil:
			return l.endedWhile(ctx, name, err)
		case ctx == nil || !l.mayMend(err):
			return err
		default:
			if lock.call.waits {
				out = outage{} // it began with the end of the session that waited, which is logged
			} else if !out.told {
				out.told = true
				l.observer.logger.WarnContext(ctx, "namedlock: Lead cannot reach a writable server; retrying", "name", name, "error", err)
			}
			err = out.sitOut(ctx, l.queue.Closing())
		}
		if err != nil {
			return acquireError(name, err)
		}
	}
}

// LeadInterface is for code that calls [Locker.Lead]: see [Interface]. *Locker
// and the Locker of package locktest implement it.
type LeadInterface interface {
	Lead(ctx context.Context, name string, fn func(ctx context.Context, term *Term) error) error
}

// endedWhile is the error if ctx ends while an attempt fails with err. An err
// that another attempt may cure is left out.
func (l *Locker) endedWhile(ctx context.Context, name string, err error) error {
	switch {
	case errors.Is(err, ctx.Err()) && errors.Is(err, context.Cause(ctx)):
		return err
	case l.mayMend(err):
		return acquireError(name, queue.ContextError(ctx))
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return acquireError(name, fmt.Errorf("%w: %w", queue.ContextError(ctx), err))
}

// mayMend reports whether another attempt may succeed after err.
func (l *Locker) mayMend(err error) bool {
	switch {
	case errors.Is(err, fault.ErrReadOnly), errors.Is(err, ErrInterrupted):
		return true
	}
	return errors.Is(err, ErrUnavailable) && l.pool.Gone() == nil
}

// An outage is a time in which the server is unavailable, or in
// which every term is lost soon.
type outage struct {
	pause  time.Duration // the last one
	told   bool          // the outage is logged, with its cause
	losses int           // terms lost soon, one after the other
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// lost notes the loss of a term, which is logged already, and reports whether
// to pause before the next term. Without a pause, fn could break the session
// again at once, for example with a statement that is too long. In the pause
// another process can lead.
func (o *outage) lost(lasted time.Duration) bool {
	if lasted > lastPause {
		*o = outage{}
	}
	if o.losses == 0 {
		o.pause = 0
	}
	o.told = false
	o.losses++
	return o.losses > 1
}

// sitOut passes the time until the next attempt. It returns an error if ctx has
// ended, or if Close has begun.
func (o *outage) sitOut(ctx context.Context, closing <-chan struct{}) error {
	o.pause = queue.NextPause(o.pause, firstPause, lastPause)
	timer := time.NewTimer(o.pause/2 + rand.N(o.pause/2)) // so that the Leads of one outage do not all ask at once
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return queue.ContextError(ctx)
	case <-closing:
		return ErrClosed
	}
}

// lead runs fn for one term of a Lead, and releases the lock. over reports that
// the Lead ends with err, because fn has resigned or ctx has ended.
func (k *Lock) lead(fn func(ctx context.Context, term *Term) error) (over bool, err error) {
	ctx := k.ctx
	k.call.locker.observer.logger.InfoContext(ctx, "namedlock: this process is now the leader", "name", k.name, "waited", k.call.event.Waited)
	led, returned, lost := k.term(fn)
	switch {
	case led && lost == nil:
		return true, returned
	case !led && ctx.Err() != nil:
		if errors.Is(context.Cause(k.ctx), ErrLost) { // ctx is the one around it
			k.discount(returned)
			returned = nil
		}
		return true, k.ended(ctx, returned)
	}
	k.discount(returned) // after a loss, which may have been found only by the release
	return false, nil
}

// discount logs the error that fn returned after a loss. It does not count.
func (k *Lock) discount(err error) {
	if err != nil && err != context.Canceled {
		k.call.locker.observer.logger.InfoContext(k.ctx, "namedlock: leader's function returned after a loss; its result is ignored", "name", k.name, "error", err)
	}
}

// ended is the error for the end of ctx, joined with fn's error if that says
// more.
func (k *Lock) ended(ctx context.Context, err error) error {
	over := &Error{Op: OpHold, Name: k.name, Err: contextEnded(ctx)}
	ends := errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))
	if err == nil || ends && !joins(err) {
		return over
	}
	return errors.Join(over, err)
}

// joins reports whether err consists of several errors.
func joins(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if _, several := err.(interface{ Unwrap() []error }); several {
			return true
		}
	}
	return false
}
