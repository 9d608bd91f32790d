package queue

import "time"

// Hand-off is lock cohorting (Dice, Marathe, Shavit: "Lock Cohorting: A General
// Technique for Designing NUMA Locks", PPoPP 2012), with processes for nodes: a
// caller that is done passes the lock to the next caller of its own process, and
// only after a while to the server, where other processes wait. The lock stays on
// its session all the time, so nobody else can have it.
//
// What is given up: callers of this process overtake those of others, for as long
// as Queue.handOff since the server granted the lock. And a section in the middle of
// a run is proved by a probe of the socket alone, before it begins and when it
// ends; RELEASE_LOCK proves the run. So there is no hand-off where the socket cannot
// be seen, and none on a session that has another lock.

// successorLocked returns who can be handed the lock of g, nil if nobody, or if hand-off is not
// allowed. The queue's mu must be held.
func (g *Grant) successorLocked() *waiter {
	if g.queue.handOff == 0 || !g.alone || g.use != ForLock || time.Since(g.since) >= g.queue.handOff {
		return nil
	}
	return g.nextLocked()
}

// nextLocked returns who is first in line behind g, if a lock of that name on any session will
// do: it wants exactly that name (on MariaDB names that differ in case are two locks),
// and its chain has no session of its own. The queue's mu must be held.
func (g *Grant) nextLocked() *waiter {
	next := g.line.front
	if next == nil || next.name != g.name || !next.chain.empty() || next.terms.Use.own() {
		return nil
	}
	return next
}

// handTo passes the lock of g to its successor, if that still wants it and the socket is
// seen to be open. The caller has the turn on g's session; if handTo returns true it
// is over.
func (g *Grant) handTo(successor *waiter) bool {
	q := g.queue
	if !g.session.SocketOpen() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.line.front != successor || successor.ended() {
		return false
	}
	next := q.newGrant(successor, g.session, g.since)
	// Before its caller knows: a loss in between must reach it.
	if !q.pool.Replace(g.session, g, next) {
		return false
	}
	g.line.holder = next
	q.handed++
	q.serveLocked(successor, next, nil) // it counts as active in the place of g
	return true
}
