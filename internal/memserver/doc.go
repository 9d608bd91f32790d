// Package memserver is a database server in memory, to which the real driver
// connects. It knows the statements that the library sends, has named locks,
// first in, first out, that a session can take again, as MariaDB has, and reports
// transactions by its status flags. It has no tables. Any other statement is a
// syntax error (1064).
//
// [Server.Open] is for tests in a bubble of testing/synctest: the driver connects
// by pipes, so that nothing waits for anything but channels and the bubble's clock.
// A script can answer in the server's place. [Server.Serve] is for processes that
// connect by TCP, as those of examples/quickstart do.
//
// A session goes one way:
//
//	accept ──> serve ──> end
//	             │ ▲
//	    command  ▼ │  answer
//	           answer ──> run ──> waits for a lock
//
// Each session has two goroutines: serve answers, and beside it one reads, for a client can
// go while its statement runs. Both end when the connection is closed: by the client, Kill or a Reply. A bubble
// waits for all goroutines in it, so a session that outlives its test fails the test.
//
// Server.mu is the only mutex. No script is called, no answer is sent and no lock is waited for under it.
//
//   - A lock that is free is not in Server.locks. One that is in it has a holder, or a foreign one
//     (nil).
//   - A waiter is granted under mu, by whoever frees the lock: between two holders nobody else can
//     have it. A waiter whose session ends leaves the list under mu; what it was granted meanwhile is freed.
package memserver
