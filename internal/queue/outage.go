package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// An outage is a time in which a wait goes on though the server cannot be
// asked, or is refused, as at a failover. A wait has begun when a suitable
// server has answered that others have the lock. Where the server cannot be
// asked, a caller whose wait has no bound, by a timeout or by a context's
// deadline, is told so and does not go on; nor does one that tries once. A
// server that is refused was demoted, usually, and a proxy takes a moment to
// lead to the next: after that, the refusal stands.

// The pauses between the attempts double.
const (
	firstOutagePause = 50 * time.Millisecond
	lastOutagePause  = 500 * time.Millisecond
)

// refusedFor is how long a refusal is not believed under a wait.
const refusedFor = 5 * time.Second

// outlasts reports whether somebody in line goes on waiting after err, with which there was no session
// to be had, or the second session in a row has died. Those who do not are told.
func (r *run) outlasts(err error) bool {
	q, refused, unavailable := r.queue, errors.Is(err, fault.ErrUnsupported), errors.Is(err, fault.ErrUnavailable)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case r.detached || !r.waited || q.pool.Gone() != nil:
		return false
	case refused && r.refused.IsZero():
		r.refused = time.Now()
	case refused && time.Since(r.refused) > refusedFor, !refused && !unavailable:
		return false
	}
	for w := r.line.front; w != nil; {
		next := w.next
		if w.until.IsZero() && !refused || w.terms.Left == 0 {
			q.serveLocked(w, nil, err)
		}
		w = next
	}
	r.outage, r.refusal = err, refused
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
	r.line.front.waitsLocked()
	r.sleepLocked(r.outagePause)
}

// overLocked ends the outage: the server has answered. The queue's mu must be held.
func (r *run) overLocked() { r.outage, r.outagePause, r.refused = nil, 0, time.Time{} }

// outageLocked is the error for a timeout that has passed in an outage; nil: there is none. The queue's mu must be held.
func (w *waiter) outageLocked() error {
	r := w.line.run
	if r == nil || r.outage == nil {
		return nil
	}
	sentinel := fault.ErrUnavailable
	if r.refusal {
		sentinel = fault.ErrUnsupported
	}
	return fault.Because(sentinel, fmt.Sprintf("not acquired within %v: lost the server during the wait", w.terms.Timeout), r.outage)
}
