// Package memserver is a database server in memory, to which the real driver
// connects. It supports the statements that the library sends. It has named
// locks like MariaDB's, in package locktable, and reports transactions by its
// status flags. It has no tables. Any other statement is a syntax error (1064).
//
// [Server.Open] is for tests in a bubble of testing/synctest: the driver
// connects by pipes, so that nothing waits for anything but channels and the
// bubble's clock. A script can answer in the server's place. [Server.Serve] is
// for processes that connect by TCP, as those of examples/quickstart do.
//
// Unless a test asks for a MySQL (SetMySQL) and for prepared statements
// (SetPrepares), it is a MariaDB that prepares nothing.
//
// A session goes one way:
//
//	accept ──> serve ──> end
//	             │ ▲
//	    command  ▼ │  answer
//	           answer ──> run ──> waits for a lock
//
// Each session has two goroutines. serve answers, and the other one reads,
// since a client can disconnect while its statement runs. Both end when the
// connection is closed: by the client, Kill or a Reply. A bubble waits for all
// goroutines in it, so a session that outlives its test fails the test.
//
// Server.mu and the lock table's are the only mutexes. No script is called, no
// answer is sent and no lock is waited for under one of them.
package memserver
