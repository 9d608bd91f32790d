package queue

import (
	"slices"
	"strings"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// Close refuses new callers, ends those in line with fault.ErrClosed, waits until
// every lock is released and gives the sessions back. Every call returns when
// that is done.
func (q *Queue) Close() {
	q.Refuse()
	<-q.idle
	q.endPool.Do(q.pool.Close)
}

// Refuse begins Close: when it has returned nobody is granted a lock any more.
func (q *Queue) Refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for _, l := range q.lines {
		q.dismissLocked(l, fault.ErrClosed)
		if l.run != nil {
			l.run.abandonLocked()
		}
		q.advanceLocked(l)
	}
	q.closed = true
	q.beginClosing()
	if q.active == 0 {
		close(q.idle)
	}
}

// Closing is closed when Close begins.
func (q *Queue) Closing() <-chan struct{} { return q.closing.Done() }

// GiveUp tells all who hold a lock that it is lost, by cause, and has their sessions end. It returns the names.
func (q *Queue) GiveUp(cause error) (held []string) {
	q.mu.Lock()
	var grants []*Grant
	for _, l := range q.lines {
		if l.holder != nil {
			grants = append(grants, l.holder)
			q.pool.GiveUp(l.holder.session, cause) // under mu: the pool is not closed as long as there is a grant
		}
	}
	q.mu.Unlock()
	for _, g := range grants {
		g.lose(cause)
		if g.use == ForGate {
			continue // of a call that only waits
		}
		held = append(held, strings.TrimPrefix(g.name, q.Namespace))
	}
	slices.Sort(held)
	return held
}
