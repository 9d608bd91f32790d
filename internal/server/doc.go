// Package server uses one connection of a MySQL or MariaDB server for named
// locks (Conn): it sends the statements and judges the answers. It contains no
// pool and no mutex. Package pool decides which caller has the turn on a
// connection, and only that caller uses the Conn.
//
// # Where to look
//
//	server.go     configuration, and facts that one connection finds out for all
//	conn.go       a connection; how often it proves its locks, how long it may be silent
//	lock.go       GET_LOCK and RELEASE_LOCK
//	prove.go      does the session still hold its locks
//	end.go        how a connection goes back to its db, or is closed
//
//	statement.go  one statement on its way: bound, context, text or prepared
//	wire.go       the driver's connection beneath a statement
//	receive.go    the rows of an answer
//	answers.go    the meaning of a server's errors
//
//	dialect.go    the greeting; a wait in milliseconds on MySQL and MariaDB
//	check.go      do the server's locks exclude: read-only, clusters, TiDB, Vitess
//	lease.go      wait_timeout as the lease
//	spell.go      a name is the same lock in every character set
//	holders.go    which sessions hold locks
//
//	tx.go         the transaction on a lock's connection
//	status.go     is the transaction still open: status flags, savepoint
//	settings.go   what code under a lock may have changed on the session
//
//	probe.go      is the connection closed, without traffic: see package peek
//	memory.go     what a server in memory has to show
//
// # Life of a connection
//
// Server.Use makes a Conn of a *sql.Conn. Conn.Greet asks what the server is,
// refuses it if its locks do not exclude, and sets the lease. A connection
// given to New is greeted at its first use (Conn.Ready). With neither a check
// of the server nor a lease, it is greeted when a statement needs it. At the
// end, Conn.GiveBack restores the connection, and returns a borrowed one to its
// db. Conn.Discard closes a connection for good.
//
// # Invariants
//
//   - No statement runs under a caller's context. The driver answers the end of
//     a context by closing the socket, and every lock of the session would be
//     lost: see Conn.queryOn.
//   - Each statement has a bound of its own. If no answer comes within it, the
//     session is broken. A session that holds locks fails in this way before
//     its server gives the locks away: see Conn.Interval, patience and endTime.
//   - A session whose state is unknown is broken. Its connection is closed,
//     never pooled, and the server frees its locks with that. ReleaseLock
//     breaks the session unless RELEASE_LOCK returned 1.
//   - The socket is closed before the driver's connection, so that no COM_QUIT
//     is sent: see closeConn.
//   - A lock is proved by IS_USED_LOCK(name) = CONNECTION_ID(), in one
//     statement: see Conn.Prove.
//   - RELEASE_ALL_LOCKS is sent only if no lock of ours is on the session, or
//     in the statement that releases the last one.
//   - COMMIT and ROLLBACK come before the RELEASE_LOCK of the transaction's
//     lock.
//   - After code of the user's has run on the session, its settings are read
//     again with the last release: see settings.go.
//   - No statement that proves or releases a lock depends on a prepared
//     statement: see send.
//
// # Mutexes and goroutines
//
// Raw locks the mutex of the driver's connection, so it waits for a statement
// that code of the user's runs on it. A timer calls BreakOff when no answer
// came in time. Two functions start a goroutine: bounded, for a statement of
// database/sql's on a connection without a known socket, and peek.Find, for
// methods of a wrapper.
//
// # Races that were lost once
//
//   - Close of a connection given to New waits indefinitely for rows of its
//     owner. The driver's connection is closed inside Raw, which does not wait
//     for rows: see closeConn.
//   - The owner closes the *sql.Conn given to New before the Locker, and the
//     connection goes back to its db with the locks on it. Its socket is
//     closed: see CloseSocket.
//   - A goroutine that the code under the lock left behind is in tx.Rollback
//     when that code returns. Its ROLLBACK comes late, and ends the transaction
//     of the next caller on the session: see afterCodesEnd.
//   - A proof is sent between two rows that the code under the lock reads, and
//     takes one of them as its answer. The driver does not show rows under a
//     context that cannot end: see peek.RowsOpen.
package server
