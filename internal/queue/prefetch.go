package queue

// A lock that several callers of this process want costs each of them two round trips
// if the next asks when the release before it has been answered. So the next asks while
// that is on its way, on another session, where one is idle: by a wait, which the server
// ends when it carries the release out. Nothing else changes: the server has the lock
// in between, and gives it to foreign sessions that stand there already.

// missesBeforeOpening is how often there has to be no session to prefetch with before one is
// opened for that.
const missesBeforeOpening = 8

// prefetchLocked begins to ask for the next in line after g, whose release is about to be sent.
// The queue's mu must be held.
func (q *Queue) prefetchLocked(g *Grant) {
	l := g.line
	if g.use.own() || g.nextLocked() == nil || l.run != nil {
		return
	}
	if q.pool.IdleToWait() {
		r := &run{queue: q, line: l}
		l.run = r
		q.active++
		go r.prefetch(g)
		return
	}
	l.misses++
	if l.misses >= missesBeforeOpening && q.pool.OpenAnother(g.session) {
		l.misses = 0
	}
}

// prefetch is the run's goroutine. If it has nobody to ask for, or no session to wait
// with, it ends, and another run begins when the release has been answered.
func (r *run) prefetch(g *Grant) {
	defer r.end()
	s, err := r.queue.pool.TakeIdle()
	if s == nil || err != nil {
		return
	}
	if !r.expectBusy(g) {
		r.queue.pool.Put(s)
		return
	}
	if r.waitOn(s) {
		r.askAll()
	}
}

// expectBusy takes the answer to a first question for granted: others have the lock, g
// of this process as long as the server has not carried out its release.
func (r *run) expectBusy(g *Grant) bool {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	next := g.nextLocked()
	if r.detached || next == nil {
		return false
	}
	next.asked, r.waited = true, true
	return true
}
