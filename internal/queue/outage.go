package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// An outage is a time in which a wait goes on though the server cannot be asked, as at a failover. A
// wait has begun when the server has said that others have the lock. Who waits without a bound does not
// go on, for nobody would ever tell that caller; nor does who tries once.

// The pauses between the attempts double.
const (
	firstOutagePause = 50 * time.Millisecond
	lastOutagePause  = time.Second
)

// outlasts reports whether somebody in line goes on waiting after err, with which there was no session
// to be had. Those who do not are told.
func (r *run) outlasts(err error) bool {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.detached || !r.waited || !errors.Is(err, fault.ErrUnavailable) || q.pool.Gone() != nil {
		return false
	}
	for w := r.line.front; w != nil; {
		next := w.next
		if w.until.IsZero() || w.terms.Left == 0 {
			q.serveLocked(w, nil, err)
		}
		w = next
	}
	r.outage = err
	return true
}

// sitOut passes the time until the next attempt.
func (r *run) sitOut() {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.firstLocked() == nil {
		return
	}
	r.outagePause = min(max(2*r.outagePause, firstOutagePause), lastOutagePause)
	r.line.front.startTimerLocked()
	r.sleepLocked(r.outagePause)
}

// overLocked ends the outage: the server has answered. The queue's mu must be held.
func (r *run) overLocked() { r.outage, r.outagePause = nil, 0 }

// outageLocked is the error for a timeout that has passed in an outage; nil: there is none. The queue's mu must be held.
func (w *waiter) outageLocked() error {
	r := w.line.run
	if r == nil || r.outage == nil {
		return nil
	}
	return fault.Because(fault.ErrUnavailable, fmt.Sprintf("not acquired within %v: the server went away meanwhile", w.terms.Timeout), r.outage)
}
