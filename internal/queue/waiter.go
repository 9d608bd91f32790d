package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// never is the deadline of a wait without a bound.
var never = time.Unix(1<<40, 0)

// deadlineAfter returns when a wait of that length ends that begins now.
func deadlineAfter(left time.Duration) time.Time {
	if left == Forever {
		return never
	}
	return time.Now().Add(left)
}

// A waiter is a caller in line, with the lock that it waits for. Other callers
// refer to that Grant only once w has been served with it.
type waiter struct {
	Grant
	ctx      context.Context // not used with a mutex held: its methods may be the user's
	terms    Terms           // Busy is guarded by queue.mu
	deadline time.Time       // when the timeout passes; never: there is none
	until    time.Time       // the earlier of deadline and the context's deadline
	served   chan struct{}   // closed when w has left its line, with the lock or err

	// Guarded by queue.mu.
	prev, next *waiter
	done       <-chan struct{} // of ctx; nil until w is in line
	timer      *time.Timer     // nil until w is known to wait for another: see noteWaitLocked
	observer   Observer        // nil: none, or it has been told
	busy       bool            // the answer to its own question: another session holds the lock
	err        error           // why it was served without the lock
}

// isServed reports whether w has left its line.
func (w *waiter) isServed() bool {
	select {
	case <-w.served:
		return true
	default:
		return false
	}
}

// refusedLocked returns an error if w cannot join its line. nested says that
// its chain holds locks, taken that its line has a holder or waiters. The
// queue's mu must be held.
func (w *waiter) refusedLocked(nested, taken bool) error {
	l := w.line
	switch {
	case w.chain.holds(l.holder):
		return l.queue.heldAlready(l.holder, w.name)
	case taken && w.terms.Left == 0:
		return w.timedOutLocked()
	}
	if w.OwnSession() {
		if err := w.chain.mayHaveOwn(); err != nil {
			return err
		}
	}
	if nested && l.holder != nil && l.queue.deadlocksLocked(w.chain, l.holder) {
		return fault.Because(fault.ErrDeadlock, "deadlock: the holder, in this process, is waiting for a lock that this call chain holds; release the outer lock", nil)
	}
	return nil
}

// anySessionLocked reports whether a lock of that name on any session will do
// for w. w must want exactly that name: on MariaDB, names that differ in letter
// case are two locks. Its chain must hold no lock and need no session of its
// own. The queue's mu must be held.
func (w *waiter) anySessionLocked(name string) bool {
	return w.name == name && w.chain.empty() && !w.OwnSession()
}

// noteWaitLocked notes that w is known to wait: for another caller of this
// process, for a session or a connection, or for the lock. It starts the timer
// of w. Opening a session and the first question are not such waits, so most
// callers need no timer. A timer that has begun always counts, whatever is done
// for w when it rings. The queue's mu must be held.
func (w *waiter) noteWaitLocked() {
	if w.isServed() {
		return
	}
	if w.observer != nil && w.terms.Left > 0 {
		w.observer.Waits()
		w.observer = nil
	}
	if w.timer != nil {
		return
	}
	if at := w.firstRing(time.Now()); at != never {
		w.timer = time.AfterFunc(time.Until(at), w.ring)
	}
}

// firstRing returns when the timer of w rings first: shortly before the end of
// the wait, to look up the holder, or else at the deadline.
func (w *waiter) firstRing(now time.Time) time.Time {
	left := w.until.Sub(now)
	if w.until == never || left < shortestLookup || w.terms.Busy || w.use == ForOrder {
		return w.deadline
	}
	return w.until.Add(-min(lookupAhead, left/2))
}

// ring looks up the holder before the deadline, and ends the wait at the
// deadline. If the wait on the server is about to end, the wait of w ends a
// grace later: the answer is near, and waiting for it spares the connection.
func (w *waiter) ring() {
	q := w.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	switch {
	case w.isServed():
	case !now.Before(w.deadline) && w.endsSoonLocked():
		w.timer = time.AfterFunc(grace, w.timeOut)
	case !now.Before(w.deadline):
		q.withdrawLocked(w, w.timedOutLocked())
	default:
		w.line.lookUpLocked(w, now)
		if w.deadline != never { // otherwise the context bounds the rest
			w.timer.Reset(w.deadline.Sub(now))
		}
	}
}

// timeOut ends the wait of w, whose timeout has passed.
func (w *waiter) timeOut() {
	q := w.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.isServed() {
		q.withdrawLocked(w, w.timedOutLocked())
	}
}

// endsSoonLocked reports whether the wait that w heads ends by itself within
// the grace. The queue's mu must be held.
func (w *waiter) endsSoonLocked() bool {
	a := w.line.asker
	return a != nil && a.wait != nil && w.line.front == w && time.Until(a.wait.ends) < grace
}

// overLocked returns the error for w if its context has ended, or its timeout
// has passed and counts. The queue's mu must be held.
func (w *waiter) overLocked(now time.Time) error {
	select {
	case <-w.done: // for example of a chain whose session has just died with its locks
		return errContext
	default:
	}
	if w.timer == nil || now.Before(w.deadline) {
		return nil
	}
	return w.timedOutLocked()
}

// starvesLocked reports whether no session is free to ask for w. The queue's mu
// must be held.
func (w *waiter) starvesLocked() bool {
	a := w.line.asker
	return a != nil && !w.busy && a.phase == starving
}

// timedOutLocked is the error for a timeout that has passed. The queue's mu
// must be held.
func (w *waiter) timedOutLocked() error {
	l := w.line
	if a := l.asker; a != nil && a.retry.outage != nil {
		return a.retry.timedOut(w.terms.Timeout)
	}
	if w.starvesLocked() {
		return fault.Because(fault.ErrNoSession, fmt.Sprintf("not acquired within %s: no session was free: %s", Within(w.terms.Timeout), l.queue.pool.Numbers()), nil)
	}
	holder, text := w.inTheWayLocked(time.Now()), "not acquired within "+Within(w.terms.Timeout)
	switch {
	case w.terms.Timeout > 0:
	case holder != nil:
		text = "not acquired (timeout 0)"
	case l.front != nil && l.front != w:
		text = "not acquired (timeout 0): other callers in this process are waiting for it"
	default:
		text = "not acquired (timeout 0): the lock is held"
	}
	return &Late{fault.Because(fault.ErrTimeout, text, nil), holder}
}

// Within returns the text of a timeout. It explains a timeout of less than a
// microsecond, which was probably meant to be seconds.
func Within(timeout time.Duration) string {
	if n := int64(timeout); n > 0 && timeout < time.Microsecond {
		return fmt.Sprintf("%v (a time.Duration without a unit counts nanoseconds: for %d seconds write %[2]d*time.Second)", timeout, n)
	}
	return timeout.String()
}

// errContext serves a waiter whose context was found to have ended by another
// goroutine. The waiter's own goroutine asks the context for the cause.
var errContext = errors.New("the context has ended")

// contextError is the error for the end of the context of w. It reports whether
// a deadline has passed just before the end of the wait that w heads.
func (q *Queue) contextError(w *waiter) (err error, endsSoon bool) {
	err = ContextError(w.ctx)
	if w.ctx.Err() != context.DeadlineExceeded {
		return err, false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return &Late{err, w.inTheWayLocked(time.Now())}, w.endsSoonLocked()
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
