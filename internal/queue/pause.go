package queue

import "time"

// pollInterval is how often an asker asks that has no session to wait with,
// unless so many askers poll that they would use more than half of a session's
// time.
const pollInterval = 50 * time.Millisecond

// pauseLocked passes the time until the next question. It does not pause for a
// poll if the server has not been asked for the first waiter. In an outage, it
// does not pause if another caller has come in the meantime, whose wait has not
// begun. The queue's mu must be held.
func (a *asker) pauseLocked(next step) {
	q := a.line.queue
	switch w := a.firstLocked(); {
	case w == nil:
	case next == sitsOut && a.waited:
		a.retry.pause = NextPause(a.retry.pause, firstOutagePause, lastOutagePause)
		w.noteWaitLocked()
		a.sleepLocked(a.retry.pause)
	case next == polls && w.busy:
		q.polling++
		a.sleepLocked(max(pollInterval, 2*time.Duration(q.polling)*q.trip))
		q.polling--
	}
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
	if a.pauseOver != nil && !a.line.front.busy {
		close(a.pauseOver)
		a.pauseOver = nil
	}
}
