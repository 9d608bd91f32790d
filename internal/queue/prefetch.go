package queue

// A lock that several callers of this process want costs each of them two round
// trips if the next caller asks after the release before it has been answered.
// So the next caller asks while that release is on its way, on another session,
// if one is idle. It asks by a wait, which the server ends when it carries the
// release out. Foreign sessions that are in the server's queue already still go
// first.

// missesBeforeOpening is how many prefetches fail for want of a session before
// one is opened for that.
const missesBeforeOpening = 8

// prefetchLocked begins to ask for the next caller behind g, whose release is
// about to be sent. The queue's mu must be held.
func (q *Queue) prefetchLocked(g *Grant) {
	l := g.line
	if g.OwnSession() || g.nextLocked() == nil || l.asker != nil {
		return
	}
	if q.pool.IdleToWait() {
		l.asker = &asker{line: l}
		q.active++
		go l.asker.run(g)
		return
	}
	l.misses++
	if l.misses >= missesBeforeOpening && q.pool.OpenAnother(g.session) {
		l.misses = 0
	}
}

// prefetch waits for the lock behind g, on an idle session. It needs no try:
// this process holds the lock until the server has carried out the release of
// g. It returns false if there is no caller to wait for, or no session. Then
// the asker ends, and another begins when the release has been answered.
func (a *asker) prefetch(g *Grant) bool {
	l := a.line
	q := l.queue
	s, err := q.pool.TakeIdle()
	if s == nil || err != nil {
		return false
	}
	q.mu.Lock()
	next := g.nextLocked()
	wanted := l.asker == a && next != nil
	if wanted {
		a.busyLocked(next)
	}
	q.mu.Unlock()
	if !wanted {
		q.pool.Put(s)
		return false
	}
	return a.waitOn(s)
}
