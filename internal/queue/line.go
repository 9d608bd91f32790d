package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A line is those who want one folded name. It exists while there is any, or a
// holder, or a run. A holder excludes a run, but for one that asks ahead. The queue's mu
// guards it.
type line struct {
	queue  *Queue
	key    string
	holder *Grant
	run    *run // asks the server on behalf of the waiters

	front, back *waiter // the first to be served in front
	misses      int     // how often nobody could ask ahead, since a session was opened for that

	look *look // who holds the lock on the server, or held it a while ago; may still be asked

	clock *time.Timer // wakes those whose timeout has passed, and has the server asked before
	rings time.Time   // when the clock does so; zero: it is not set
}

// A waiter is a caller in line.
type waiter struct {
	ctx      context.Context
	chain    chain
	line     *line
	name     string
	limit    Limit
	deadline time.Time // of limit; zero: none
	spared   time.Time // the deadline, before it was moved for a ghost; zero: it was not
	until    time.Time // the earlier of deadline and the context's; zero: none
	due      time.Time // when the clock has something to do for it: before the deadline, and then; zero: never

	// called has room for one: it is told to look at what follows, which the queue's
	// mu guards.
	called     chan struct{}
	prev, next *waiter
	waiting    func() // see Queue.Acquire; nil when it has been called
	asked      bool   // the server has said, while it was first in line, that others have the lock
	turn       *run   // the caller is to ask the server itself, in the name of that run
	served     bool   // grant or err is set, for good
	grant      *Grant // &lock
	err        error

	lock Grant // set by newGrant
}

// join puts w at the end of the line.
func (l *line) join(w *waiter) {
	w.prev = l.back
	if l.back != nil {
		l.back.next = w
	} else {
		l.front = w
	}
	l.back = w
}

// part takes w out of the line.
func (l *line) part(w *waiter) {
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
	if look := w.lookAt(); !look.IsZero() {
		w.due = look
	}
}

// call has w look what there is.
func (w *waiter) call() {
	select {
	case w.called <- struct{}{}:
	default: // it has not looked yet since it was called last
	}
}

// waits is called when it is known that others have the lock.
func (w *waiter) waits() {
	if w.waiting != nil {
		w.waiting()
		w.waiting = nil
	}
}

// late reports whether the timeout of w has passed.
func (w *waiter) late(now time.Time) bool {
	return !w.deadline.IsZero() && !now.Before(w.deadline)
}

// timedOut is the error for a timeout that has passed. The queue's mu must be held.
func (w *waiter) timedOut() error {
	if r := w.line.run; r != nil && r.crowded && !w.asked {
		return fault.Because(fault.ErrTimeout, fmt.Sprintf("not acquired within %v: no connection of the db was free to ask the server", w.limit.Timeout), nil)
	}
	if w.limit.Timeout == 0 {
		return fault.Because(fault.ErrTimeout, "not acquired at once: others have it", nil)
	}
	err := fault.Because(fault.ErrTimeout, fmt.Sprintf("not acquired within %v", w.limit.Timeout), nil)
	return &Timeout{err, w.inTheWay(time.Now())}
}

// watchClock sees to it that w is called when its timeout has passed. One clock serves
// the whole line: it stands at what is due first, and most callers find it set. Whose
// question the server has not answered yet needs none, for that is no wait for others;
// nor does one who has left, perhaps as the last.
func (l *line) watchClock(w *waiter) {
	if w.served || w.due.IsZero() || !l.rings.IsZero() && !w.due.Before(l.rings) {
		return
	}
	l.setClock(w.due)
}

func (l *line) setClock(at time.Time) {
	if l.clock == nil || !l.clock.Stop() {
		l.queue.active++ // a clock that rings just now counts for itself
	}
	if d := time.Until(at); l.clock == nil {
		l.clock = time.AfterFunc(d, l.ring)
	} else {
		l.clock.Reset(d)
	}
	l.rings = at
}

// stopClock is for a line that has ended.
func (l *line) stopClock() {
	if l.clock != nil && l.clock.Stop() {
		l.queue.active--
	}
	l.rings = time.Time{}
}

// ring calls all whose time is up, and looks who is in the way of those whose time soon
// will be.
func (l *line) ring() {
	q := l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.finish()
	now := time.Now()
	if now.Before(l.rings) {
		return // it has been set anew meanwhile
	}
	l.rings = time.Time{}
	for w := l.front; w != nil; w = w.next {
		if w.late(now) {
			w.call()
			continue
		}
		if !now.Before(w.due) {
			w.due = w.deadline
			l.lookFor(w, now)
		}
		l.watchClock(w)
	}
}
