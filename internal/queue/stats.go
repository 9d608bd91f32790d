package queue

import "github.com/go-namedlock/namedlock/internal/names"

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
