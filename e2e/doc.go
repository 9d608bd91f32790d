// Package e2e tests the library's promises over its public API alone, on real
// servers. A test that is for one promise has its number in its name:
// TestPromise11_KillIsNoticedAtOnce is for promise 11.
//
// # Before you write a test here
//
// What every user of a lock can see without a server, and on every server,
// belongs into the conformance kit: locktest's promises_*.go, which
// TestConformance runs on each server, with New and with Open. What depends on
// the order of two moments, or on an hour, belongs into a bubble of
// testing/synctest over internal/memserver. A failing statement belongs into
// the fault table (table_rows_test.go, of which docs/FAULTS.md is made). This
// package is for the rest: SQL that is sent or not sent, what a server does,
// and what another session sees.
//
// # The words of the tests
//
// Where a test runs:
//
//   - A server is a *servers.Server with an admin pool, and with a proxy in
//     front of it if the target has one. Lockers use the proxy; the admin's
//     sessions go to the server itself. The shared servers start when the first
//     test needs them and end with the process, so every test takes lock names
//     of its own, from newName, and changes no global variable. A test that has
//     to stop a server or to set one of its options starts its own, with
//     startFor.
//   - asTarget makes a server from a *servers.Server: it starts the target's
//     proxy. A target is what one run of the tests is on, see internal/targets:
//     NAMEDLOCK_TARGET or NAMEDLOCK_DSN choose it.
//   - onEachServer runs a test on MySQL and on MariaDB, at the same time.
//   - A setup (at, in the tests) is a server and a way: byOpen or byNew, as
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
//     (internal/spy). The spy has the statements that were sent, and counts
//     connections: l.spy.Count("GET_LOCK("), l.spy.Closed(). It can also make a
//     statement fail, for example l.spy.Once("RELEASE_LOCK(",
//     spy.FailAfter(err)).
//   - A foreign (f, from at.foreign) is a session that has nothing to do with
//     the library. It holds locks for the Locker to wait for (lock, unlock),
//     kills sessions (kill, killQuery), and shows what the server does: holder
//     returns the session that has a lock, free fails the test unless a name is
//     free now, and lockSoon takes a name that is about to become free. One
//     goroutine may use it at a time.
//   - at.waiters and at.awaitWaiter show the sessions that wait for a lock in
//     the server's queue.
//   - at.network returns a proxy whose connections can be cut, slowed down or
//     silenced (internal/netfault).
//
// A call in its own goroutine (calls_test.go):
//
//   - begin starts a WithLock, which holds its lock until it is told to return.
//     hold does the same for a lock that is free, and returns when it is held,
//     with the context of the code under it.
//   - Of a call, queued returns when it waits; holds returns when its code
//     runs; waits fails the test if it does not wait any more; release lets its
//     code return, and err returns the error of the call.
//   - unexpected(t) is the code of a call that must fail, nothing is code that
//     does nothing.
//   - requireError checks the error of a call: its type, its name, and that it
//     matches no other type. requireLost checks the end of a lock that was
//     lost. requireUsable takes another lock.
//
// Time:
//
//   - A test does not sleep until something has happened, it looks until it
//     has: eventually, receive, awaitWaiter. patience, one minute, bounds that,
//     and decides nothing.
//   - prompt is for a promise about time. It measures by how much this machine
//     was late in the meantime, and adds that to the limit.
//
// # An example
//
//	// A lock that is killed is free for others at once.
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
// Before you trust a test, break the library where the promise is kept, and see
// the test fail.
package e2e
