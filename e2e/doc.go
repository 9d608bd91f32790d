// Package e2e tests the library's promises on real servers, through the public
// API only. The name of a test for a promise contains its number:
// TestPromise11_KillIsNoticedAtOnce is for promise 11.
//
// # Before you write a test here
//
// Choose the place for a test by its subject:
//
//   - An effect that every user of a lock can observe without a server, and on
//     every server, belongs into the conformance kit: locktest's promises_*.go.
//     TestConformance runs it on each server, with New and with Open.
//   - An effect that depends on the order of two moments, or takes an hour,
//     belongs into a bubble of testing/synctest over internal/memserver.
//   - A failing statement belongs into the fault table (table_rows_test.go,
//     from which docs/FAULTS.md is made).
//   - The rest belongs into this package: SQL that is sent or not sent, the
//     behaviour of a server, and effects on other sessions.
//
// # The words of the tests
//
// Where a test runs:
//
//   - A server is a *servers.Server with an admin pool. If the target has a
//     proxy, it is in front of the server. Lockers use the proxy; the admin's
//     sessions use the server itself. The shared servers start when the first
//     test needs them, and end with the process. Therefore every test uses lock
//     names of its own, from newName, and changes no global variable. A test
//     that stops a server, or sets a variable, borrows one. Only a test that
//     needs another option at the start of a server starts its own, with
//     startFor.
//   - asTarget makes a server from a *servers.Server: it starts the target's
//     proxy. A target is the server, or the proxy, of one run of the tests, see
//     internal/targets. NAMEDLOCK_TARGET or NAMEDLOCK_DSN selects it.
//   - onEachServer runs a test on MySQL and on MariaDB, at the same time.
//   - A setup (at, in the tests) is a server and a way, byOpen or byNew.
//     Lockers are made by namedlock.Open, which has a pool, or by
//     namedlock.New, which has one connection. everyWay runs a test in all four
//     setups.
//
// What a test uses:
//
//   - at.locker returns a Locker on a pool of its own, and closes both when the
//     test ends. A *locker also has the pool (db), and with New the connection
//     (conn).
//   - at.spied returns a Locker whose driver is watched by a spy
//     (internal/spy). The spy records the statements, and counts connections:
//     l.spy.Count("GET_LOCK("), l.spy.Closed(). It can also make a statement
//     fail, for example l.spy.Once("RELEASE_LOCK(", spy.FailAfter(err)).
//   - A foreign (f, from at.foreign) is a session outside the library. It holds
//     locks for the Locker to wait for (lock, unlock), and kills sessions
//     (kill, killQuery). holder returns the session that holds a lock. free
//     fails the test unless a name is free now. lockSoon acquires a lock that
//     is about to become free. Only one goroutine may use a foreign at a time.
//   - at.waiters and at.awaitWaiter show the sessions that wait for a lock in
//     the server's queue.
//   - at.network returns a proxy whose connections can be cut, slowed down or
//     silenced (internal/netfault).
//   - internal/locksql has the texts of statements that tests of several
//     packages need.
//
// A call in its own goroutine (calls_test.go):
//
//   - begin starts a WithLock, which holds its lock until the test lets it
//     return. hold does the same for a lock that is free. It returns when the
//     lock is held, with the context of the code under it.
//   - queued returns when the call waits. holds returns when its code runs.
//     waits fails the test if the call does not wait any more. release lets its
//     code return. err returns the error of the call.
//   - unexpected(t) is the code of a call that must fail. nothing is code that
//     does nothing.
//   - requireError checks the error of a call: its type, its name, and that it
//     matches no other type. requireLost checks the context of a lock that was
//     lost. requireUsable acquires another lock.
//
// Time:
//
//   - A test does not sleep for a fixed time. It polls until the event has
//     happened: eventually, receive, awaitWaiter. patience, one minute, bounds
//     that, and decides nothing.
//   - prompt is for a promise about time. It measures how late this machine was
//     in the meantime, and adds that to the limit. at.prompt also measures how
//     late the server was, for a time that depends on its answers.
//   - A test in which nothing is lost has calm as its keep-alive, and
//     afterKeepAlive waits for one. A test of how soon a loss is noticed has
//     often: there the server may be late.
//
// # An example
//
//	// A lock that is killed is free at once for other sessions.
//	func TestPromise11_Example(t *testing.T) {
//		t.Parallel()
//		everyWay(t, func(t *testing.T, at setup) {
//			l, f, name := at.locker(t), at.foreign(t), newName("example")
//			c, ctx := hold(t, t.Context(), l, name)
//			f.kill(f.holder(name))
//			requireLost(t, ctx, name)
//			f.lockSoon(name)
//			c.requireLossReported(t, name)
//		})
//	}
//
// Run it on the servers that the machine has:
//
//	go test -C e2e -race -run TestPromise11_Example -count=3 .
//
// Before you trust a test, break the code that keeps the promise, and see the
// test fail.
package e2e
