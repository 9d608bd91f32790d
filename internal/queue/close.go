package queue

import (
	"slices"
	"strings"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// Close refuses new callers, ends the waits of those in line with
// fault.ErrClosed, waits until every lock is released, and closes the pool.
// Every call of it returns when that is done.
func (q *Queue) Close() {
	q.Refuse()
	q.mu.Lock()
	for q.active > 0 {
		q.ended.Wait()
	}
	q.mu.Unlock()
	q.endPool.Do(q.pool.Close)
}

// Refuse begins Close. When it has returned, no caller is granted a lock any
// more.
func (q *Queue) Refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing.Err() != nil {
		return
	}
	for _, l := range q.lines {
		q.dismissLocked(l, fault.ErrClosed)
		if l.asker != nil {
			l.asker.abandonLocked()
		}
		q.advanceLocked(l)
	}
	q.beginClosing()
}

// Closing is closed when Close begins.
func (q *Queue) Closing() <-chan struct{} { return q.closing.Done() }

// GiveUp tells the code under every lock that the lock is lost, by cause, and
// ends the sessions. It returns the names.
func (q *Queue) GiveUp(cause error) (names []string) {
	q.mu.Lock()
	var grants []*Grant
	for _, l := range q.lines {
		if l.holder != nil {
			grants = append(grants, l.holder)
			// Under mu: the pool is not closed while there is a grant.
			q.pool.GiveUp(l.holder.session, cause)
		}
	}
	q.mu.Unlock()
	for _, g := range grants {
		g.lose(cause)
		if g.use != ForOrder {
			names = append(names, strings.TrimPrefix(g.name, q.Namespace))
		}
	}
	slices.Sort(names)
	return names
}
