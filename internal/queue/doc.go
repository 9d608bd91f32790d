// Package queue lets the callers of one process take turns at a name: one line per folded
// name, first in, first out, and at most one of them at a time asks the server. The wait on
// the server belongs to the name, not to the caller: who leaves the line hands the wait, and
// its place in the server's queue, to the next. Who comes later and stays noticeably longer than the wait
// goes on has a second one, where there is room (second.go).
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
// # Invariants
//
//   - A line exists while somebody waits in it, holds its lock, or a run asks for it.
//   - A line has one run at most that serves it, and a second one only while that waits on the server: the
//     second waits there too, and serves nobody before it takes the first's place, unless it is granted first.
//   - A line has a holder and a run at the same time only while the run waits on another session: it was the
//     second wait, or the holder's release is on its way and the next grant is prefetched. No grant comes of it
//     before the holder's release has begun.
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
// A run has one, until the line is served or, for a second one, has no use for it. The questions who holds a lock share one (askLookups), and Inspect has one for
// each call. Queue.active counts them, and the grants; Close waits until there is none.
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
