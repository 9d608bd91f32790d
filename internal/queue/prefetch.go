package queue

// A lock that several callers of this process want costs each of them two round
// trips if the next caller asks after the release before it has been answered.
// So the next caller asks while that release is on its way, on another session,
// if one is idle. It needs no try: this process holds the lock until the server
// has carried the release out. It asks by a wait, which the server ends at that
// moment. Foreign sessions that are in the server's queue already still go
// first.

// prefetchLocked begins to ask for the next caller behind g, whose release is
// about to be sent. If there is no session for that, another asker begins when
// the release has been answered. The queue's mu must be held.
func (q *Queue) prefetchLocked(g *Grant) {
	l := g.line
	next := g.nextLocked()
	if g.OwnSession() || next == nil || l.asker != nil {
		return
	}
	spare := q.pool.TakeSpare(g.session)
	if spare == nil {
		return
	}
	l.asker = &asker{line: l}
	l.asker.busyLocked(next)
	q.active++
	go l.asker.run(spare)
}
