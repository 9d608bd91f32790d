// Package pool decides which session a lock goes to (Pool), and notices a loss
// (the watch). Package server speaks to the sessions' connections.
//
// # Where to look
//
//	pool.go    a pool, its sessions and locks; state.go: what a session does, and for whom
//	choose.go  which session a caller gets; turn.go: who is next on one
//	cap.go     how many sessions there may be; share.go: of all pools of a db
//	open.go    how a session is opened; end.go: how one ends; room.go: which callers look again
//	spare.go   a session on which the next caller of a line can wait already
//	waits.go   which sessions may block in a wait; hold.go: locks on a session
//	beside.go  questions beside the locks
//	watch.go   how a loss is noticed, and why the holder is told first
//
// # States
//
// A session is in the pool's list from the moment when there is room for it
// until its connection is gone: opening, idle, busy, waiting, closing. See
// state.go. So the numbers for the cap and for the callers are counted in that
// list. Only the connections of all pools of a db have a counter: see share.go.
// A turn is the right to run statements on a session. A caller that takes a
// turn ends it, by Put, Drop or Replace, on every path.
//
// # Invariants
//
//   - Statements run on a session one at a time: by the caller that has the
//     turn.
//   - A session that is broken is closing before any other caller has a turn on
//     it, and its connection is closed, never pooled.
//   - A session that is claimed, for a transaction, a term or a leader, has
//     locks of one call chain only, and no other chain has a turn on it.
//   - One session of a cap never waits, so that a free name can be asked for at
//     any time.
//   - If the network falls silent, a holder is told of the loss before its
//     server gives the lock away: see watch.go.
//
// # Mutexes
//
// Pool.mu guards the pool and its sessions. Functions whose names end in Locked
// are called with it held. It is locked after the queue's mutex, and before
// those of a share and of package hangup. Neither statements, nor the db, nor a
// Caller, nor Hold.Lost are called under it. (db.Stats is called: it takes the
// db's mutex for a moment.) The Conn of a session belongs to the caller that
// has the turn.
//
// # Goroutines
//
// Pool.work counts them: the watch, a proof or a probe that is under way, a
// session that is being opened or given back, the timer of lookAgain. Close
// waits for all. Pool.calls counts dials and discards, which call a dialer or a
// driver that may ignore its context. Close waits for them for AnswerTime at
// most. A statement of database/sql's, on a driver whose socket is not known,
// also has a goroutine. The goroutine that discards the session waits for it.
//
// # Races that were lost once
//
//   - A caller that tries once waits for the end of another chain's
//     transaction, because the session of that chain was counted as free soon.
//     chanceLocked counts only sessions that can become the caller's own.
//   - Two connections under WithMaxSessions(1), while one of them is being
//     given back: a session that is closing counts until its connection is
//     gone.
//   - The cap is lowered while all sessions wait, and a free name has to wait
//     for the end of a slice: see endWaitsLocked.
//   - The last release passes the turn to a proof, and Close gives the session
//     back at the same time. Close gives back idle sessions only, and
//     passLocked the others.
package pool
