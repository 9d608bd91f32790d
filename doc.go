// Package namedlock takes MySQL and MariaDB named locks: mutual exclusion between
// all processes that use one database server, for the time that a function runs.
//
//	locker, err := namedlock.Open(db)
//	...
//	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, func(ctx context.Context) error {
//		return report.Run(ctx) // never runs twice at once, on any machine; ctx ends if the lock is lost
//	})
//
// A named lock (GET_LOCK) belongs to a session of the server, not to a table or a
// transaction, and is freed when the session ends. So every lock has a connection
// of its own for as long as it is held, and a connection of which anything is in
// doubt is closed, never pooled. (Nested locks share the connection of the outermost,
// and beyond a cap others share too; see [WithMaxSessions].) A call that gets no
// connection within its timeout is [ErrNoSession].
//
// # Names
//
// A name has 1 to 64 characters of valid UTF-8 from the Basic Multilingual Plane,
// without NUL: that is what every supported server stores without change. Names
// are one per server, not per schema ([WithNamespace] helps). Write a name the same
// way everywhere: MySQL takes foo and FOO for one lock, MariaDB for two. Within
// one process they exclude each other on both.
//
// # Waiting
//
// Callers of one Locker queue for a name, first come first served, before the
// server is asked. One of them waits there, for as long as the longest wants, and at most
// 30 s; then the next wait begins, at the end of the server's line. A deadline ends a wait
// without harm to its connection. A deadlock is reported at once, as [ErrDeadlock], if this
// Locker or the server can see it: not if a call chain had to share its
// session (beyond [WithMaxSessions], or with New), nor where one part of the circle
// is a caller still in this process's queue and another is on the server. Then
// the timeout ends it.
//
// # Losing a lock
//
// A session can die under a lock: by KILL, a restart of the server, a broken
// network. Then the server gives the lock to the next, and the context of the code
// under it ends with a cause that matches [ErrLost]:
//
//   - within 50 ms where the server closes the connection ([WithProbe]), as after KILL,
//     a shutdown or wait_timeout; on Linux, where the kernel tells, as a rule within one;
//   - within two keep-alive intervals otherwise ([WithKeepAlive]): a network that has
//     fallen silent, a lock that has gone from a living session, a server that has
//     become read-only. The keep-alive also lets an idle lock outlive the session's
//     wait_timeout.
//
// [Locker.WithLock] and Release then report [ErrLost], and the name stays closed to this
// process until the code has returned. The Locker never reconnects under a lock.
// If a client vanishes without a word, the server frees its locks after the lease
// ([WithLease]), and a holder that is cut off has learnt of it before.
//
// # The lock and the transaction
//
// For what is written to the same server [Locker.WithLockTx] is better than any notice: lock
// and transaction are on one session, and the server rolls back before it gives the lock to
// the next. A holder that has lost its lock cannot commit. Error.Tx says what became of the
// transaction. One that had ended before its COMMIT, as the victim of a deadlock of row locks,
// is [ErrTxEnded], and not nil.
//
// [Locker.WithTerm] keeps the lock, and its session, over several such transactions.
//
// # Several holders
//
// [Locker.WithSlot] lets up to n callers of all processes run at a time. Each has a
// number from 0 to n-1 that no other caller has.
//
// # A leader
//
// [Locker.Lead] runs a function in one process of many, for as long as they live: it waits for the lock, and waits again
// after a loss. [Term.WithTx] is its transaction, fenced in the same way.
//
// # Who is in the way
//
// [Locker.Holder] asks the server who holds a lock, [Locker.Holders] who holds all whose names
// begin alike. The error of a call that waited until its timeout, or its context's deadline, has the
// holder in Error.Holder and in its text: from this process's own knowledge where it is one of the Locker's callers,
// and otherwise from a question that runs beside the end of the wait. The question
// changes nothing about the wait: an answer that is not there in time is left out. None
// of these acquires anything.
//
// # Statements
//
// What is sent is part of the contract, for those who mock it. An uncontended
// cycle is
//
//	SELECT GET_LOCK(?, ?)    arguments: the name, 0
//	SELECT RELEASE_LOCK(?)   argument:  the name
//
// after one greeting when the connection is borrowed. With New and WithoutServerCheck it
// is exactly the two. All the others stand in docs/STATEMENTS.md.
//
// Unless RELEASE_LOCK returns 1, the connection is closed: by driver.ErrBadConn through
// Conn.Raw, or with New, in Conn.Raw, by the driver.Conn's own Close.
package namedlock
