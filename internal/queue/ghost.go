package queue

import "time"

// A ghost is a session of this process that is dead on our side, while its server does not
// know yet, or has not got round to freeing its locks: one that was lost with a lock, or
// that died under a question and may have been granted what it asked for. Nobody else is
// in the way of a caller who meets one. So a caller whose time is up, as that of a try
// always is, waits a moment for it.

// ghostTime is how long that is: servers take half a millisecond to bury a session. It is
// more than a pollInterval, and less than a timeout may be overrun by.
const ghostTime = 75 * time.Millisecond

// haunt records that a session died on which the line's lock was held. The queue's mu must
// be held.
func (q *Queue) haunt(l *line) {
	q.layGhosts()
	q.haunted = time.Now()
	q.ghosts[l.key] = q.haunted
}

// layGhosts forgets those that are of the past. The queue's mu must be held.
func (q *Queue) layGhosts() {
	if len(q.ghosts) > 0 && time.Since(q.haunted) > ghostTime {
		clear(q.ghosts)
	}
}

// allowForGhosts gives w, who has just been told that others have the lock, the time to
// outlast one. The queue's mu must be held.
func (r *run) allowForGhosts(w *waiter) {
	now := time.Now()
	died, ok := r.queue.ghosts[r.line.key]
	if haunted := r.failed || ok && now.Sub(died) <= ghostTime; !haunted {
		return
	}
	if soonest := now.Add(ghostTime); w.late(soonest) {
		w.setDeadline(soonest)
	}
}
