package queue

import (
	"context"
	"time"
)

// A ghost is a session of this process that is dead on our side, while its server does not
// know yet, or has not got round to freeing its locks: one that was lost with a lock, or
// that died under a question and may have been granted what it asked for. If it is in the
// way of a caller, nobody else may be. So a caller whose time is up when the server says
// that others have the lock, as that of a try always is, waits a moment for it, once.

// ghostTime is how long that is: servers take half a millisecond to bury a session. It is
// more than a pollInterval, and less than a timeout may be overrun by.
const ghostTime = 75 * time.Millisecond

// haunt records that a session died on which the line's lock was held. The queue's mu must
// be held.
func (q *Queue) haunt(l *line) {
	q.layGhosts()
	q.ghosts[l.key] = time.Now()
}

// layGhosts forgets those that are of the past, now and then: that costs little even if
// thousands of locks are lost at once. The queue's mu must be held.
func (q *Queue) layGhosts() {
	if len(q.ghosts) == 0 || time.Since(q.laid) <= ghostTime {
		return
	}
	q.laid = time.Now()
	for key, died := range q.ghosts {
		if q.laid.Sub(died) > ghostTime {
			delete(q.ghosts, key)
		}
	}
}

// allowForGhosts gives w, who has just been told that others have the lock, the time to
// outlast one. The queue's mu must be held.
func (r *run) allowForGhosts(w *waiter) {
	now := time.Now()
	died, ok := r.queue.ghosts[r.line.key]
	if haunted := r.failed || ok && now.Sub(died) <= ghostTime; !haunted || !w.spared.IsZero() {
		return
	}
	if soonest := now.Add(ghostTime); w.late(soonest) {
		w.spared = w.deadline // once: or it would be late by more than that
		w.setDeadline(soonest)
	}
}

// gaveUp is the error for the end of the waiter's context, unless its timeout had passed
// before, and it was there for a ghost alone. The queue's mu must be held.
func (w *waiter) gaveUp() error {
	if end, ok := w.ctx.Deadline(); ok && w.ctx.Err() == context.DeadlineExceeded && !w.spared.IsZero() && !end.Before(w.spared) {
		return w.timedOut()
	}
	return contextError(w.ctx)
}
