// Package queue lets the callers of one process take turns at a name: one line per folded
// name, first in, first out, and at most one of them at a time asks the server. The wait on
// the server belongs to the name, not to the caller: who leaves the line hands the wait, and
// its place in the server's queue, to the next. A caller who comes later, and stays for longer than the
// wait goes on, has the next one begin at its end, 30 s later at most.
//
// # The way of one call
//
//	Acquire -> enter: into the line of the name
//	        -> await: until served, or the time is up
//	              ^
//	              | serveLocked(grant or error)
//	              |
//	   run: session (a turn from the pool)
//	          -> try: GET_LOCK(name, 0) --- granted ------------------> grant
//	          -> waitOn: GET_LOCK(name, d), where the pool allows it -> grant
//	          -> pause, else, and try again
//
//	Release -> TakeUrgent (a turn on the grant's session)
//	        -> RELEASE_LOCK, or hand-off to the next in line
//	        -> the line goes on: advanceLocked
//
// A lock with a transaction, or of a leader, goes the same way on a session of its own, without hand-off and
// prefetch: see Use and tx.go.
//
// A slot (AcquireSlot) is one of n locks, any of which will do. Its calls go this way twice, for a
// lock that they look for a free slot under, and for the slot: see slot.go.
//
// # Invariants
//
//   - A line exists while somebody waits in it, holds its lock, or a run asks for it.
//   - A line has one run at most, and so one wait on the server.
//   - A line has a holder and a run at the same time only while the holder's release is on its way, and the
//     run waits on another session for the next grant, which is prefetched.
//   - A waiter is served once, by a grant or by an error, and leaves the line with that.
//   - A grant that nobody wants any more is released before anybody else has a turn on its
//     session (see run.grant and run.settle).
//   - A run that is detached serves nobody: its line may have another already.
//
// # Mutexes
//
// Queue.mu guards lines, waiters and runs. It comes before Grant.mu and before the pool's
// mu; none of the pool's callbacks (Caller, Hold) is called under the pool's mu. No
// statement is sent under any of them, and no code of the user's runs: no method of a context (its Done
// is called before, and the channel is kept), no Close of a connection, no method of an error.
// Observer.Waits, which is called under Queue.mu, is the Locker's own.
//
// # Goroutines
//
// A run has one, until the line is served. The questions who holds a lock share one (askLookups), and Inspect has one
// for each call. Queue.active counts them, and the grants; Close waits until there is none.
//
// # Races that were lost once
//
//   - A timeout passes while the caller's first question is on its way. The question is not a
//     wait for others, so its timer has not begun: waitsLocked. One that has begun, behind another
//     caller or for a session, always counts: what is done for the caller when it rings may
//     last as long as an outage.
//   - The first in line leaves while its try is on its way, and the try is granted. The next
//     in line must not find its own name taken by it: wantedByLocked keeps the run, and grant gives
//     the lock to the next.
//   - A context ends in the same moment as its call is granted. Acquire gives the lock back.
//   - Another becomes first in line while the run pauses between polls. Its deadline may pass
//     before the pause does: stepUpLocked ends the pause.
package queue
