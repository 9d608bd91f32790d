package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A line is those who want one folded name. It exists while there is any, or a
// holder, or a run. A holder excludes a run, but for one that stands by. The queue's mu
// guards it.
type line struct {
	queue  *Queue
	key    string
	holder *Grant
	run    *run // asks the server on behalf of the waiters

	front, back *waiter // the first to be served in front
	misses      int     // how often there was no session to prefetch with, since one was opened for that

	lookup *lookup // who holds the lock on the server, or held it a while ago; may still be asked

	length, left int       // how many are in line, and how many have left it since furthest was found
	furthest     time.Time // no earlier than the last until in line; see lastsLocked
	endless      bool      // somebody in line may have no until
}

// A waiter is a caller in line.
type waiter struct {
	ctx      context.Context // asked for nothing with a mutex held: its methods may be the user's
	done     <-chan struct{} // of ctx
	chain    chain
	line     *line
	name     string
	terms    Terms
	deadline time.Time   // of limit; zero: none
	until    time.Time   // the earlier of deadline and the context's; zero: none
	due      time.Time   // when the timer has something to do for it: before the deadline, and then; zero: never
	timer    *time.Timer // rings then; nil until it is known that w waits for others, see waitsLocked

	// called has room for one: it is told to look at what follows, which the queue's
	// mu guards.
	called     chan struct{}
	prev, next *waiter
	observer   Observer // nil: none, or it has been told
	asked      bool     // the server has said, while it was first in line, that others have the lock
	served     bool     // grant or err is set, for good
	grant      *Grant   // &lock
	err        error

	lock Grant // set by newGrant
}

// heldLocked reports whether a caller of this process has the lock, and has not begun to release
// it. The queue's mu must be held.
func (l *line) heldLocked() bool { return l.holder != nil && !l.holder.releasing }

// joinLocked puts w at the end of the line.
func (l *line) joinLocked(w *waiter) {
	w.prev = l.back
	if l.back != nil {
		l.back.next = w
	} else {
		l.front = w
	}
	l.back = w
	l.length++
	if w.terms.Use != ForSlot { // its call counts already: see slotCall.search
		l.queue.waiting++
	}
	l.reachLocked(w)
}

// lastsLocked returns until when somebody in line waits, at most; endless: somebody waits for
// ever. To look through the line for it at each wait would take, over the life of a line,
// the square of its length. So it is looked for anew only when as many have left as are
// there: until then those who have left may count, too, and a wait may be asked for that is
// longer than anybody wants. Who leaves it last then breaks its connection.
func (l *line) lastsLocked() (until time.Time, endless bool) {
	if l.left >= l.length {
		l.furthest, l.endless, l.left = time.Time{}, false, 0
		for w := l.front; w != nil; w = w.next {
			l.reachLocked(w)
		}
	}
	return l.furthest, l.endless
}

func (l *line) reachLocked(w *waiter) {
	switch {
	case w.until.IsZero():
		l.endless = true
	case w.until.After(l.furthest):
		l.furthest = w.until
	}
}

// partLocked takes w out of the line.
func (l *line) partLocked(w *waiter) {
	l.length--
	l.left++
	if w.terms.Use != ForSlot {
		l.queue.waiting--
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.front = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.back = w.prev
	}
	w.prev, w.next = nil, nil
}

// setDeadline has the timeout of w pass at that time; zero: never.
func (w *waiter) setDeadline(at time.Time) {
	w.deadline, w.until = at, at
	if end, ok := w.ctx.Deadline(); ok && (at.IsZero() || end.Before(at)) {
		w.until = end
	}
	w.due = at
	if ask := w.lookupAt(time.Now()); !ask.IsZero() {
		w.due = ask
	}
}

// call has w look what there is.
func (w *waiter) call() {
	select {
	case w.called <- struct{}{}:
	default: // it has not looked yet since it was called last
	}
}

// waitsLocked is called when it is known that w waits for others: for another
// caller of this process, for a session or a connection, for the lock. Its
// timer starts, and counts from then on, whatever is done for w when it rings.
// Most callers never wait, and need no timer: to open a session and to ask for
// the first time is not a wait for others. The queue's mu must be held.
func (w *waiter) waitsLocked() {
	if w.served {
		return
	}
	if w.observer != nil && w.terms.Left > 0 {
		w.observer.Waits()
		w.observer = nil
	}
	if w.timer == nil && !w.due.IsZero() {
		w.timer = time.AfterFunc(time.Until(w.due), w.ring)
	}
}

// lateLocked reports whether the timeout of w has passed, and counts. The
// queue's mu must be held.
func (w *waiter) lateLocked(now time.Time) bool {
	return w.timer != nil && !w.deadline.IsZero() && !now.Before(w.deadline)
}

// timedOutLocked is the error for a timeout that has passed. The queue's mu must be held.
func (w *waiter) timedOutLocked() error {
	if err := w.outageLocked(); err != nil {
		return err
	}
	if w.starvesLocked() {
		return fault.Because(fault.ErrNoSession, fmt.Sprintf("not acquired within %s: no session was free: %s", within(w.terms.Timeout), w.line.queue.pool.Numbers()), nil)
	}
	holder, text := w.inTheWayLocked(time.Now()), "not acquired within "+within(w.terms.Timeout)
	switch {
	case w.terms.Timeout > 0:
	case holder != nil:
		text = "not acquired (timeout 0)"
	case w.line.front != nil && w.line.front != w:
		text = "not acquired (timeout 0): other callers in this process are waiting for it"
	default:
		text = "not acquired (timeout 0): the lock is held"
	}
	return &Late{fault.Because(fault.ErrTimeout, text, nil), holder}
}

// within returns the text of a timeout. One of some nanoseconds was probably meant to be
// seconds.
func within(timeout time.Duration) string {
	if n := int64(timeout); n > 0 && timeout < time.Microsecond {
		return fmt.Sprintf("%v (a time.Duration without a unit counts nanoseconds: for %d seconds write %[2]d*time.Second)", timeout, n)
	}
	return timeout.String()
}

// errContext is the error of a waiter whose context was seen to have ended, by
// another goroutine. Its own asks the context why.
var errContext = errors.New("the context has ended")

// ended reports whether the context of w has ended, as far as that is known: w may just
// have joined the line. The queue's mu must be held.
func (w *waiter) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// contextError is the error for the end of w's context.
func (q *Queue) contextError(w *waiter) error {
	err := ContextError(w.ctx)
	if w.ctx.Err() != context.DeadlineExceeded {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return &Late{err, w.inTheWayLocked(time.Now())}
}

// starvesLocked reports whether there is no session to ask for w. The queue's mu must be held.
func (w *waiter) starvesLocked() bool {
	r := w.line.run
	return r != nil && !w.asked && (r.phase == exhausted || r.phase == queued)
}

// ContextError is an error for the end of ctx that matches both its Err and its
// Cause.
func ContextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("stopped waiting: %w", cause)
	}
	return fmt.Errorf("stopped waiting: %w: %w", err, cause)
}

// ring has the server asked who is in the way of w, shortly before its time is up, and
// then tells it.
func (w *waiter) ring() {
	q := w.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	switch {
	case w.served:
	case w.lateLocked(now):
		w.call()
	case !now.Before(w.due):
		w.due = w.deadline
		w.line.lookUpLocked(w, now)
		if w.due.IsZero() { // the rest is its context's
			return
		}
		fallthrough
	default:
		w.timer.Reset(time.Until(w.due))
	}
}
