package queue

import (
	"context"
	"time"
)

// A session is stale when it is dead on our side and its server has not ended it yet: one
// that was lost with a lock, or that died under a question and may have been granted what
// it asked for. Until the server ends it, it may hold the lock, though nobody wants it. So
// a caller whose time is up when the server says that others have the lock, as that of a
// try always is, gets a moment more, once.

// staleTime is that moment. Servers take half a millisecond to end a session. It is more
// than a pollInterval, and less than a timeout may be overrun by.
const staleTime = 75 * time.Millisecond

// noteStaleLocked records that a session died on which the line's lock was held. The queue's mu
// must be held.
func (q *Queue) noteStaleLocked(l *line) {
	q.forgetStaleLocked()
	q.stale[l.key] = time.Now()
}

// forgetStaleLocked forgets those that the server has ended by now. It does so now and then: that
// costs little even if thousands of locks are lost at once. The queue's mu must be held.
func (q *Queue) forgetStaleLocked() {
	if len(q.stale) == 0 || time.Since(q.swept) <= staleTime {
		return
	}
	q.swept = time.Now()
	for key, died := range q.stale {
		if q.swept.Sub(died) > staleTime {
			delete(q.stale, key)
		}
	}
}

// allowForStaleLocked extends the deadline of w, who has just been told that others have the lock,
// if a stale session may be the one. The queue's mu must be held.
func (r *run) allowForStaleLocked(w *waiter) {
	now := time.Now()
	died, ok := r.queue.stale[r.line.key]
	if stale := r.failed || ok && now.Sub(died) <= staleTime; !stale || !w.asGiven.IsZero() {
		return
	}
	if soonest := now.Add(staleTime); w.late(soonest) {
		w.asGiven = w.deadline // once: or it would be late by more than that
		w.setDeadline(soonest)
	}
}

// contextEndedLocked is the error for the end of the waiter's context. If its timeout had passed
// before, and it waited for a stale session alone, that is the error of the timeout. The
// queue's mu must be held.
func (w *waiter) contextEndedLocked() error {
	if end, ok := w.ctx.Deadline(); ok && w.ctx.Err() == context.DeadlineExceeded && !w.asGiven.IsZero() && !end.Before(w.asGiven) {
		return w.timedOutLocked()
	}
	return contextError(w.ctx)
}
