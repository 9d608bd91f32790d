package queue

import (
	"time"

	"github.com/go-namedlock/namedlock/internal/pool"
)

// A wait is one statement that waits on the server.
type wait struct {
	name    string
	session *pool.Session
	private bool // for one call chain, which holds other locks or is to have the session alone
	ends    time.Time
}

// waitOn waits in the server's queue for the lock, which another session holds.
// The asker has the turn on s until waitOn returns. The asker polls next if the
// wait was not allowed, or was granted soon and that could not be confirmed.
func (a *asker) waitOn(s *pool.Session) step {
	q := a.line.queue
	for {
		if err := q.pool.Yield(s); err != nil {
			return asks // the session is gone, and its locks with it: start over
		}
		wt, w, d := a.beginWait(s)
		if wt == nil {
			q.pool.Put(s)
			return polls
		}
		start := time.Now()
		getLock := s.GetLock
		if w.terms.Busy {
			getLock = s.GetLockThenLook
		}
		granted, err := getLock(wt.name, d)
		elapsed := time.Since(start)

		q.mu.Lock()
		a.wait = nil
		if granted {
			a.phase = trying
		}
		if first := a.line.front; a.line.asker == a && first != nil && wt.suits(first) {
			first.busy = true
		}
		again := true // the question after a grant says nothing about waits
		if s.Broken() {
			again = a.retry.shorter(elapsed, d)
		}
		q.mu.Unlock()
		q.pool.EndWait(s)
		if granted {
			err = confirm(s, wt.name)
		}
		switch {
		case err != nil:
			next := a.failed(w, s, err, again)
			if granted && elapsed < pollInterval && next == asks {
				return polls // a server that is refused may grant at once each time
			}
			return next
		case granted:
			a.grant(s, w)
			return asks
		}
	}
}

// beginWait plans the next wait on s: for which waiter, and for how long. It
// returns nil if there is to be none.
func (a *asker) beginWait(s *pool.Session) (*wait, *waiter, time.Duration) {
	q := a.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	w := a.firstLocked()
	if w == nil || !w.busy {
		return nil, nil, 0
	}
	limit := q.pool.BeginWait(s, w.chain.on(s), q.polling)
	if limit == 0 {
		return nil, nil, 0
	}
	if a.retry.slice > 0 {
		limit = min(limit, a.retry.slice)
	}
	wt := &wait{name: w.name, session: s, private: !w.chain.empty() || w.OwnSession()}
	d := wt.longest(a.line, limit)
	wt.ends = time.Now().Add(d)
	a.wait, a.phase = wt, asking
	return wt, w, d
}

// longest is for how long a caller in line wants this wait, up to limit.
func (wt *wait) longest(l *line, limit time.Duration) time.Duration {
	until := l.front.until
	if !wt.private { // otherwise it is for the chain of the first alone
		until = l.lastsLocked()
	}
	left := time.Until(until)
	if left < -grace { // it was the deadline of a context whose type hides its end
		left = time.Until(l.front.deadline)
	}
	return min(max(left, time.Millisecond), limit)
}

// suits reports whether w can take over the wait. A chain that holds locks, or
// has a session of its own, waits there, where the server finds its deadlocks.
func (wt *wait) suits(w *waiter) bool { return !wt.private && w.anySessionLocked(wt.name) }
