// Package queue lets the callers of one process take turns at a name. There is
// one line per folded name, first in, first out, and at most one of its callers
// at a time asks the server. The wait on the server belongs to the name, not to
// the caller. A caller that leaves hands the wait, and its place in the
// server's queue, to the next caller. A wait lasts at most 30 s, and no longer
// than the last deadline in the line when it began. The next wait begins at the
// end of the server's queue.
//
// # The way of one call
//
//	Acquire -> enter: into the line of the name
//	        -> await: until served, or the time is up
//	              ^
//	              | serveLocked(lock or error)
//	              |
//	   asker.run: take a session (a turn from the pool)
//	           -> try: GET_LOCK(name, 0) --- granted ------------------> grant
//	           -> waitOn: GET_LOCK(name, d), if the pool allows it ----> grant
//	           -> failed, after each failure: try again, or serve an error
//	           -> pause, after a poll or in an outage, and try again
//
//	Release -> unlock: TakeUrgent (a turn on the session of the grant)
//	        -> RELEASE_LOCK, or hand-off to the next in line
//	        -> the line goes on: advanceLocked
//
// A lock with a transaction, of a term, or of a leader goes the same way on a
// session of its own, without hand-off and prefetch: see Use and tx.go.
//
// # Invariants
//
//   - A line exists while it has a waiter, a holder or an asker.
//   - A line has one asker at most, and so one wait on the server. An asker
//     that line.asker no longer refers to serves no caller and asks for no lock
//     any more. If its last statement is granted the lock, the asker releases
//     it.
//   - A line has a holder and an asker at the same time only while the holder's
//     release is on its way. Then the asker waits on another session for the
//     next grant, which is prefetched.
//   - A waiter is served once, with a lock or with an error, and is not in the
//     line after that.
//   - A timer that has begun always counts, and ends the wait of its caller
//     itself. The asker may be busy for that caller as long as an outage lasts.
//   - A lock that is granted to no caller is released before another caller has
//     a turn on its session: see asker.grant.
//
// # Mutexes
//
// Queue.mu guards lines, waiters, askers and grants. It comes before the pool's
// mu. The pool calls none of its callbacks (Caller, Hold) with its mu held,
// except Hold.OwnSession and Hold.Name, which lock nothing. No statement is
// sent under a mutex. No code of the user's runs there: no method of a context,
// no Close of a connection, no method of an error. Done of a context is called
// outside, and the channel is kept. Observer.Waits and the function onLoss of a
// Grant are called under Queue.mu. They are the Locker's own.
//
// # Goroutines
//
// An asker has one. When the line has let go of the asker, it ends with the
// statement that is on its way. The questions for holders share one
// (askLookups). A statement that its caller may leave has one: see Aside.
// Queue.active counts askers, questions and grants. Close waits until it is 0.
//
// # Races that were lost once
//
//   - A timeout passes while the caller's first question is on its way. The
//     question is not a wait for other callers, so its timer has not begun: see
//     noteWaitLocked.
//   - The last caller leaves while its try is on its way, and the try is
//     granted. Or it leaves while the server is asked whether it still
//     excludes, after a wait was granted. The next caller must not find the
//     lock held by that grant: wantedByLocked keeps the asker, and grant gives
//     the lock to the next caller.
//   - A context ends in the same moment as its call is granted. Acquire gives
//     the lock back.
//   - Another caller becomes the first waiter while the asker pauses between
//     polls. Its deadline may pass before the pause does: stepUpLocked ends the
//     pause.
package queue
