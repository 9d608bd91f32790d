// Package server speaks to one connection of a MySQL or MariaDB server about
// named locks: the statements it sends, and the meaning of the answers (Conn).
// It contains no pool and no mutex: the caller that has the turn on a
// connection uses it.
//
// # Where to look
//
//	server.go     configuration, and facts about the server that all connections share
//	conn.go       a connection, and how long it may be silent
//	lock.go       GET_LOCK and RELEASE_LOCK
//	prove.go      does the session still hold its locks
//	end.go        how a connection goes back, or is closed
//
//	statement.go  one statement on its way; wire.go: the driver beneath it; receive.go: rows
//	answers.go    the meaning of a server's errors
//	dialect.go    the greeting, the wait; lease.go: the lease
//	check.go      does the server exclude: read-only, clusters
//	spell.go      names in every character set
//	holders.go    who holds a lock
//
//	tx.go         the transaction on a connection with a lock; status.go: is it still open
//	settings.go   the settings that code under a lock may change
//
//	probe.go      looks at the socket
//	peek.go       everything that is read of go-sql-driver and database/sql by reflection
//	unwrap.go     the connection beneath a wrapper
//	memory.go     what a server in memory has to show
//
// # Invariants
//
//   - No statement runs under a caller's context: the end of a context closes
//     the socket, and every lock of the session would go with it.
//   - A session of which nothing is known any more is broken. Its connection is
//     closed, never pooled. Its server frees its locks with that.
//   - RELEASE_ALL_LOCKS is sent only if no lock of ours is on the session, or
//     with the release of the last one.
//   - COMMIT and ROLLBACK come before the RELEASE_LOCK of the transaction's
//     lock.
//
// # Races that were lost once
//
//   - Close of a lent connection waits indefinitely for rows of its owner. The
//     driver's connection is closed inside Raw, where no rows are waited for:
//     see closeConn.
//   - A *sql.Conn that was given to New is closed first, and goes back to its
//     db with the locks on it. Its socket is closed: see CloseSocket.
//   - A proof is sent between two rows of the code under the lock, and reads
//     one of them as its answer. The driver does not show rows under a context
//     that cannot end: see rowsOpen.
package server
