package queue

import (
	"time"

	"github.com/go-namedlock/namedlock/internal/pool"
)

// shortestSlice bounds how far waits are cut into slices when connections keep
// dying under them.
const shortestSlice = 10 * time.Millisecond

// A wait is one statement that waits on the server.
type wait struct {
	name    string
	session *pool.Session
	nested  bool // on the session of a chain that holds other locks, or is to have it alone: its chain's own
	ends    time.Time
}

// waitOn lets the server's queue do the waiting, on a session where the try has
// just said that others have the lock. It returns false if the pool had no leave
// to give for that. The turn on s is over when it returns.
func (r *run) waitOn(s *pool.Session) (allowed bool) {
	q := r.queue
	for {
		if err := q.pool.Yield(s); err != nil {
			return true // gone, and its locks with it: begin again
		}
		wt, w, d := r.beginWait(s)
		if wt == nil {
			q.pool.Put(s)
			return w == nil
		}
		start := time.Now()
		getLock := s.GetLock
		if w.terms.Busy {
			getLock = s.GetLockThenLook
		}
		granted, err := getLock(wt.name, d)
		elapsed := time.Since(start)

		q.mu.Lock()
		r.wait = nil
		r.phase = taking
		if first := r.line.front; !r.detached && first != nil && wt.suits(first) {
			first.asked = true
		}
		q.mu.Unlock()
		q.pool.Waited(s)
		mayRepeat := r.mayRepeat(s, elapsed, d) // a question after the grant that fails says nothing about waits
		if granted {
			err = s.Confirm(wt.name)
			granted = err == nil
		}
		if granted || err != nil {
			r.settle(s, w, wt.name, granted, err, !mayRepeat)
			return true
		}
	}
}

// beginWait plans the next wait on s: for whom, and for how long. Without a wait
// to begin, it returns the waiter who has to poll, or nil if there is none for
// whom s would do.
func (r *run) beginWait(s *pool.Session) (*wait, *waiter, time.Duration) {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	w := r.firstLocked()
	if w == nil || !w.asked {
		return nil, nil, 0
	}
	limit := q.pool.Wait(s, w.chain.on(s), q.polling)
	if limit == 0 {
		return nil, w, 0
	}
	if r.slice > 0 {
		limit = min(limit, r.slice)
	}
	wt := &wait{name: w.name, session: s, nested: !w.chain.empty() || w.terms.Use.own()}
	d := wt.longest(r.line, limit)
	wt.ends = time.Now().Add(d)
	r.wait = wt
	r.phase = waiting
	return wt, w, d
}

// longest is for how long somebody in line wants this wait, up to limit.
func (wt *wait) longest(l *line, limit time.Duration) time.Duration {
	until, endless := l.lastsLocked()
	if wt.nested { // it is its chain's own
		until, endless = l.front.until, l.front.until.IsZero()
	}
	if endless {
		return limit
	}
	return min(max(time.Until(until), time.Millisecond), limit)
}

// suits reports whether w can take over the wait: it wants exactly that name (on
// MariaDB names that differ in case are two locks), and its chain has no session
// of its own, where the server would see its deadlocks.
func (wt *wait) suits(w *waiter) bool {
	return !wt.nested && wt.name == w.name && w.chain.empty() && !w.terms.Use.own()
}

// mayRepeat reports whether a wait that failed after elapsed may be repeated. Each that
// dies before it ends halves what the next is asked for: where connections die in the middle of
// waits while the server lives (a DSN with a readTimeout, a proxy), short ones come through.
// A KILL, which is one death, leaves them long, and a wait that is short anyway may die some times,
// too. Where the shortest die, the server counts as one that cannot be asked.
func (r *run) mayRepeat(s *pool.Session, elapsed, asked time.Duration) bool {
	if !s.Broken() || elapsed >= asked {
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
