package queue

import "time"

// Hand-off is lock cohorting, with processes for nodes (Dice, Marathe, Shavit:
// "Lock Cohorting: A General Technique for Designing NUMA Locks", PPoPP 2012).
// A caller that is done passes the lock to the next caller of its own process.
// After a while the lock goes back to the server, where other processes wait.
// It stays on its session all the time, so no other session can have it.
//
// Callers of this process overtake those of others, for as long as
// Queue.handOff since the server granted the lock. A caller in the middle of
// the sequence is proved to hold the lock by a probe of the socket alone,
// before it begins and when it ends. RELEASE_LOCK proves the sequence. So there
// is no hand-off if the socket cannot be probed, and none on a session that has
// another lock. There is none of a lock that was acquired under another one:
// code of a transaction may have changed the session.

// successorLocked returns the caller that can be handed the lock of g. It
// returns nil if there is none, or if hand-off is not allowed. The queue's mu
// must be held.
func (g *Grant) successorLocked() *waiter {
	handOff := g.line.queue.handOff
	if handOff == 0 || g.use != ForLock || g.chain.inner != nil || time.Since(g.since) >= handOff {
		return nil
	}
	return g.nextLocked()
}

// nextLocked returns the first waiter behind g, if a lock of that name on any
// session will do for it. The queue's mu must be held.
func (g *Grant) nextLocked() *waiter {
	next := g.line.front
	if next == nil || !next.anySessionLocked(g.name) {
		return nil
	}
	return next
}

// handTo passes the lock of g to its successor, if that still wants it and the
// probe finds the socket open. The caller has the turn on the session of g. If
// handTo returns true, the turn is over.
func (g *Grant) handTo(successor *waiter) bool {
	q := g.line.queue
	if !g.session.SocketOpen() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.line.front != successor || successor.overLocked(time.Now()) != nil {
		return false
	}
	next := &successor.Grant
	next.session, next.since = g.session, g.since
	// Before its caller gets it: a loss in between must reach it.
	if !q.pool.Replace(g.session, g, next) {
		return false
	}
	g.line.holder = next
	q.handed++
	q.serveLocked(successor, nil) // it counts as active in the place of g
	return true
}
