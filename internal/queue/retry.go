package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// An outage is a time in which a wait goes on although the server cannot be
// asked, or is refused, for example in a failover. A wait has begun when a
// suitable server has answered that another session holds the lock. A caller
// that tries once does not go on, nor does a caller without a timeout or
// deadline if the server cannot be asked. A server that is refused was usually
// demoted, and a proxy takes a moment to lead to the new primary. After that
// the refusal stands.
//
// The pauses between the attempts in an outage double.
const (
	firstOutagePause = 50 * time.Millisecond
	lastOutagePause  = 500 * time.Millisecond
)

// refusedFor is how long a wait outlasts a refusal.
const refusedFor = 5 * time.Second

// shortestSlice bounds how far waits are cut into slices when connections keep
// breaking under them.
const shortestSlice = 10 * time.Millisecond

// A retry counts the failures since the server's last answer.
type retry struct {
	failures int           // one after the other
	pause    time.Duration // the last one, in an outage
	outage   error         // why the server cannot be asked, while a wait goes on; nil: it can
	refused  time.Time     // when the outage was first a refusal; zero: it is not
	slice    time.Duration // the bound of a wait; 0: none. Answers do not reset it
}

// NextPause is the pause after last, which was 0 at first: each is twice the
// last.
func NextPause(last, first, longest time.Duration) time.Duration {
	return min(max(2*last, first), longest)
}

// shorter halves the slice if the connection of a wait broke early, after
// elapsed. It reports whether the wait may be repeated. If connections break in
// the middle of waits while the server lives (by a readTimeout in the DSN or by
// a proxy), short waits come through. One KILL leaves waits long. If even the
// shortest slice breaks, the server counts as one that cannot be asked.
func (r *retry) shorter(elapsed, asked time.Duration) bool {
	if elapsed >= asked {
		return true
	}
	if r.slice == shortestSlice {
		return false
	}
	if r.slice == 0 {
		r.slice = max(asked, time.Second)
	}
	r.slice = max(r.slice/2, shortestSlice)
	return true
}

// outlasts reports whether a wait that has begun outlasts err.
func (r *retry) outlasts(err error, refused, unavailable bool) bool {
	switch {
	case !refused:
		r.refused = time.Time{}
	case r.refused.IsZero():
		r.refused = time.Now()
	case time.Since(r.refused) > refusedFor:
		return false
	}
	if refused || unavailable {
		r.outage = err
	}
	return refused || unavailable
}

// timedOut is the error for a timeout that has passed in the outage.
func (r *retry) timedOut(timeout time.Duration) error {
	sentinel := fault.ErrUnavailable
	if !r.refused.IsZero() {
		sentinel = fault.ErrUnsupported
	}
	return fault.Because(sentinel, fmt.Sprintf("not acquired within %v: lost the server during the wait", timeout), r.outage)
}

// failed is called after every failure to ask for w: no session could be
// acquired (s is nil), or a try or a wait on s ended by err. It ends the turn
// on s. Either the asker asks again, at once or after a pause, or err ends the
// wait of w. It ends all waits of the line if each would get the same error.
// again: if the connection broke, the asker asks again at once, on another
// session, since nothing is held.
func (a *asker) failed(w *waiter, s *pool.Session, err error, again bool) step {
	refused, unavailable, interrupted := errors.Is(err, fault.ErrUnsupported), errors.Is(err, fault.ErrUnavailable), errors.Is(err, fault.ErrInterrupted)
	broken := s != nil && s.Broken()
	l := a.line
	q := l.queue
	if s != nil {
		q.pool.Put(s)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	a.retry.failures++
	switch {
	case l.asker != a, broken && again:
		return asks
	case (broken || s == nil) && a.waited && q.pool.Gone() == nil && a.retry.outlasts(err, refused, unavailable):
		for each := l.front; each != nil; {
			next := each.next
			if each.until == never && !refused || each.terms.Left == 0 {
				q.serveLocked(each, err)
			}
			each = next
		}
		return sitsOut
	case s == nil && !interrupted:
		q.dismissLocked(l, err)
	case l.front != nil && (s == nil || l.front == w): // s == nil: a KILL ends one call
		q.serveLocked(l.front, err)
	}
	a.retry.failures = 0
	return asks
}
