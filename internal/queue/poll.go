package queue

import "time"

// pollInterval is how often a run asks that has no session to wait with, unless there are
// so many of them that this would take more than half of a session's time.
const pollInterval = 50 * time.Millisecond

// pause passes the time until the next poll, unless somebody is first in line who has not
// been asked for.
func (r *run) pause() {
	q := r.queue
	q.mu.Lock()
	if w := r.firstLocked(); w == nil || !w.asked {
		q.mu.Unlock()
		return
	}
	q.polling++
	r.sleepLocked(max(pollInterval, 2*time.Duration(q.polling)*q.trip))
	q.polling--
	q.mu.Unlock()
}

// sleepLocked passes that time, unless another who has not been asked for becomes first in line,
// or nobody wants the run any more. It lets go of the queue's mu meanwhile.
func (r *run) sleepLocked(pause time.Duration) {
	q := r.queue
	over := make(chan struct{})
	r.pauseOver = over
	r.phase = pausing
	q.mu.Unlock()
	timer := time.NewTimer(pause)
	select {
	case <-timer.C:
	case <-over:
	case <-r.Context().Done():
	}
	timer.Stop()
	q.mu.Lock()
	r.pauseOver = nil
	r.phase = taking
}

// stepUpLocked is called when another is first in line: its own first question does not wait
// for the next poll. The queue's mu must be held.
func (r *run) stepUpLocked() {
	if w := r.line.front; r.pauseOver != nil && w != nil && !w.asked {
		close(r.pauseOver)
		r.pauseOver = nil
	}
}

// tripTookLocked learns from one round trip how long they take. One that is far from the others,
// to a server that was stopped for a moment, counts for little. The queue's mu must be
// held.
func (q *Queue) tripTookLocked(took time.Duration) {
	q.trip += (min(took, 2*q.trip+time.Millisecond) - q.trip) / 8
}
