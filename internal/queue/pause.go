package queue

import "time"

// pollInterval is how often an asker asks that has no session to wait with,
// unless so many askers poll that they would use more than half of a session's
// time.
const pollInterval = 50 * time.Millisecond

// pause passes the time until the next question. It does not pause if the
// server has not been asked for the first waiter.
func (a *asker) pause() {
	q := a.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := a.firstLocked(); w == nil || !w.busy {
		return
	}
	q.polling++
	a.sleepLocked(max(pollInterval, 2*time.Duration(q.polling)*q.trip))
	q.polling--
}

// sleepLocked passes that time. It ends early if another caller becomes the
// first waiter and has not been asked for, or if the line lets go of the asker.
// It unlocks the queue's mu for as long as it sleeps.
func (a *asker) sleepLocked(pause time.Duration) {
	q := a.line.queue
	over := make(chan struct{})
	a.phase, a.pauseOver = asking, over
	q.mu.Unlock()
	timer := time.NewTimer(pause)
	select {
	case <-timer.C:
	case <-over:
	case <-a.Context().Done():
	}
	timer.Stop()
	q.mu.Lock()
	a.pauseOver = nil
}

// stepUpLocked is called when another caller is the first waiter. Its first
// question does not wait for the next poll. The queue's mu must be held.
func (a *asker) stepUpLocked() {
	if w := a.line.front; a.pauseOver != nil && w != nil && !w.busy {
		close(a.pauseOver)
		a.pauseOver = nil
	}
}
