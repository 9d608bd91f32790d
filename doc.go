// Package namedlock runs functions under MySQL and MariaDB named locks
// (GET_LOCK). Of all the processes that use one database server, only one at a
// time holds a given lock.
//
//	locker, err := namedlock.Open(db)
//	...
//	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, func(ctx context.Context) error {
//		return report.Run(ctx) // one process at a time; ctx is cancelled if the lock is lost
//	})
//
// These are the calls:
//
//   - [Locker.WithLock] is for work with effects outside the database.
//   - [Locker.WithLockTx] is for writes to the same server, in one transaction.
//   - [Locker.WithTerm] is for several such transactions under one lock.
//   - [Locker.Lead] is for a loop that runs in one process of many.
//   - [Locker.WithSlot] lets up to n callers of all processes run at a time.
//     Each has a number from 0 to n-1 that no other caller has.
//   - [Locker.WithLocks] acquires several locks without a deadlock.
//   - [Locker.Acquire] is for a lock that does not fit into one function.
//
// A named lock belongs to a server session, not to a table or a transaction.
// The server frees it when the session ends. Each held lock therefore has a
// connection of its own, with two exceptions. Nested locks use the connection
// of the outermost lock, and beyond the cap of [WithMaxSessions] locks share
// connections. If the state of a connection is in doubt, the Locker closes it
// and does not return it to the pool. A call that gets no connection within its
// timeout returns [ErrNoSession].
//
// # Names
//
// A name has 1 to 64 characters of valid UTF-8 from the Basic Multilingual
// Plane, without NUL. Every supported server stores such a name unchanged.
//
// Names are shared by the whole server, not by one schema. [WithNamespace]
// keeps applications apart. Spell a name the same way everywhere: MySQL treats
// foo and FOO as one lock, MariaDB as two. Callers of one Locker exclude each
// other under both names on both servers. Two Lockers do so on MySQL only, even
// in one process.
//
// # Waiting
//
// Callers of one Locker queue for a name in the process, first come, first
// served. One session waits on the server for all of them. A wait on the server
// lasts for at most 30 s. If callers stay longer, the next wait begins at the
// end of the server's queue. When a deadline ends a wait, the connection
// survives.
//
// A deadlock is reported at once, as [ErrDeadlock], if this Locker or the
// server can see the whole cycle. Neither can in these cases, where a timeout
// ends the deadlock:
//
//   - A call chain had to share its session (beyond [WithMaxSessions], or with
//     [New]).
//   - One part of the cycle is a caller queued in this process, and another
//     part is on the server.
//
// # Losing a lock
//
// A session can die while it holds a lock: by KILL, a server restart or a
// network failure. The server then grants the lock to the next waiter, and the
// context of the code under the lock ends with a cause that matches [ErrLost]:
//
//   - within 50 ms if the server closes the connection, as it does on KILL,
//     shutdown or wait_timeout (see [WithProbe]). On Linux it is usually within
//     1 ms, because the kernel reports the close;
//   - within two keep-alive intervals otherwise (see [WithKeepAlive]): the
//     network has gone silent, the session no longer holds the lock, or the
//     server has become read-only.
//
// Two keep-alive intervals are 10 s by default.
//
// Keep-alives also prevent wait_timeout from ending an idle session that holds
// a lock.
//
// [Locker.WithLock] and [Lock.Release] then return [ErrLost]. The Locker does
// not acquire that name again until the code has returned, and it never
// reconnects under a lock.
//
// If a client vanishes without closing its connection, the server frees its
// locks after the lease, which is 1 minute by default with [Open] (see
// [WithLease]). A holder that is cut off is told before that. An exception is a
// holder whose transaction is in the middle of a statement: it is told when the
// statement ends, and cannot commit.
//
// Locks do not survive a failover: they live in the memory of one server. A
// waiter can acquire the lock on the new primary before the holder is told.
//
// # Locks and transactions
//
// For writes to the same server, [Locker.WithLockTx] is stronger than any
// notification. The lock and the transaction are on one session, and the server
// rolls back before it grants the lock to the next waiter. So a holder that has
// lost its lock cannot commit. This is about one server: in a failover a holder
// can commit on the old primary until that is stopped or read-only.
//
// [Error] reports in its field Tx what became of the transaction. If the
// transaction had ended before COMMIT, for example as the victim of a deadlock
// of row locks, the call returns [ErrTxEnded], not nil.
//
// [Locker.WithTerm] keeps the lock, and its session, over several such
// transactions.
//
// # Leader election
//
// [Locker.Lead] runs a function in one process of many for as long as its ctx
// lasts. It waits for the lock, runs the function, and waits again after a
// loss. [Term.WithTx] runs the leader's transactions, with the same protection
// as WithLockTx.
//
// # The holder of a lock
//
// [Locker.Holder] asks the server which session holds a lock, and
// [Locker.Holders] which sessions hold the locks whose names begin with a
// prefix. Neither acquires anything.
//
// If a wait ends at its timeout or at its context's deadline, the error names
// the holder, in the field Holder of [Error] and in its text. If the holder is
// a caller of the same Locker, no question is needed. Otherwise the Locker asks
// the server, at most 1 s before the wait ends. It does so only with [Open], if
// the db has a connection to spare, and not for a timeout below 100 ms. The
// question never prolongs the wait: if the answer comes too late, Holder is
// nil.
//
// # Statements
//
// The SQL that is sent is part of the contract, so that tests can mock it.
// After one greeting (the statements that inspect a server) per borrowed
// connection, an uncontended lock is
//
//	SELECT GET_LOCK(?, ?)    arguments: the name, 0
//	SELECT RELEASE_LOCK(?)   argument:  the name
//
// With [New] and [WithoutServerCheck], exactly these two are sent. Each is
// prepared from its second use on a session, which a mock must then expect.
// docs/STATEMENTS.md lists all others.
//
// Unless RELEASE_LOCK returns 1, the connection is closed: the Locker returns
// driver.ErrBadConn from Conn.Raw. With [New], and while a transaction is open
// on the connection, it calls the driver.Conn's Close inside Conn.Raw instead,
// if that implements driver.Validator.
package namedlock
