// Package session keeps the database sessions that locks live on: what is said to the server
// and what its answers mean (Session), which session a lock goes to (Pool), and how a loss is
// noticed (the watch).
//
// # Where to look
//
//	session.go    GET_LOCK and RELEASE_LOCK, and when nothing is known of a session any more
//	statement.go  one statement on its way; wire.go: the driver beneath it; receive.go: rows
//	answers.go    what a server's errors mean
//	dialect.go    what servers are: the greeting, the wait, the lease
//	check.go      does the server exclude: read-only, clusters
//	spell.go      names in every character set
//
//	choose.go     which session a caller gets; turn.go: who is next on one; state.go
//	pooled.go     sessions of a db, up to a cap; open.go: how one is opened
//	lent.go       the one connection that New was given
//	own.go        sessions that one call chain has alone; tx.go: its transaction there
//	waits.go      which sessions may block in a wait; hold.go: locks on a session; idle.go
//
//	watch.go      how a loss is noticed, and why the holder knows first; probe.go: sockets
//	peek.go       what is read of go-sql-driver and database/sql; unwrap.go: beneath wrappers
//	clock.go      a clock that goes on while the machine is suspended
//
// # States
//
// A session is idle, busy, waiting or dead: see state.go. A turn is the right to run
// statements on it. Who takes a turn ends it, by Put, Drop or Replace, on every path.
//
// # Invariants
//
//   - Statements run on a session one at a time: by who has the turn.
//   - A session that is broken becomes dead before anybody else has a turn on it, and its
//     connection is closed, never pooled. Its server frees its locks with that.
//   - No statement runs under a caller's context: the end of a context closes the socket, and
//     every lock of the session would go with it.
//   - A session with a transaction has locks of one call chain only, and no other has a turn
//     on it. COMMIT and ROLLBACK come before the RELEASE_LOCK of the transaction's lock.
//   - One session of a cap never waits, so that a free name can be asked for at any time.
//   - A holder is told of a loss before its server gives the lock away: see watch.go.
//
// # Mutexes
//
// Pool.mu guards the pool and what place says of a session. It comes before the mutex of
// package hangup, and after the queue's. Neither statements, nor the db, nor a Caller, nor
// Hold.Lost are called under it. (db.Stats is: it takes the db's mutex for a moment.) What a
// Session has beside place belongs to who has the turn.
//
// # Goroutines
//
// Pool.work counts them: the watch, a proof or a probe that is under way, a session that is
// being opened, given back or closed, the timer for idle sessions. Close waits for all. A
// dial is one, too, since a dialer may not listen to its context: Close waits for those at
// most as long as a connection may take (pooled.settle). So is a statement of database/sql's
// on a driver whose socket is not known: who discards the session waits for it (bounded).
//
// # Races that were lost once
//
//   - Close of a lent connection waits for ever behind rows of its owner. The driver's
//     connection is closed inside Raw, where no rows are waited for: closeConn.
//   - A *sql.Conn that was given to New is closed first, and goes back to its db with the
//     locks on it. Its socket is closed: cut.
//   - A proof is sent between two rows of the code under the lock, and takes one for its
//     answer. The driver does not know of rows under a context that cannot end: rowsOpen.
//   - A try waits for the end of another's transaction, since the session left to the
//     others counts as one that will be free: chooseOwnLocked.
//   - Two connections under WithMaxSessions(1), while one was being given back: parting
//     counts until the connection is gone.
//   - The cap is lowered while all sessions wait, and a free name has to wait for the end of a
//     slice: endWaits.
package session
