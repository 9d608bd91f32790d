package queue

import (
	"github.com/go-namedlock/namedlock/internal/names"
)

// Gone returns an error if no lock can ever be taken again.
func (q *Queue) Gone() error { return q.pool.Gone() }

// Lead counts a call of Lead: see pool.Pool.Lead. Resign must follow, unless
// Lead returns an error.
func (q *Queue) Lead() error { return q.pool.Lead() }

// Resign undoes Lead.
func (q *Queue) Resign() { q.pool.Resign() }

// Numbers says how many sessions there are, and may be.
func (q *Queue) Numbers() string { return q.pool.Numbers() }

// MaxSessions is the cap on sessions, 0 if no session can be opened.
func (q *Queue) MaxSessions() int { return q.pool.Cap() }

// Sessions is how many sessions there are now, and how many of them cannot be
// watched.
func (q *Queue) Sessions() (all, unwatched int) { return q.pool.Sessions() }

// Waiting is how many calls wait for a lock.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// WaitingForSession is how many calls wait for a session.
func (q *Queue) WaitingForSession() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		if l.front != nil && l.front.starvesLocked() {
			n += l.length
		}
	}
	return n
}

// Starves reports whether the server has not been asked for the lock, because
// no session was free.
func (q *Queue) Starves(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[names.Fold(name)]
	return l != nil && l.front != nil && l.front.starvesLocked()
}

// HandOffs is how often a lock was passed on without the server.
func (q *Queue) HandOffs() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.handed
}
