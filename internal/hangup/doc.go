// Package hangup reports when the other side closes a connection. The kernel
// reports it at once, and the wait costs nothing. This works on Linux only. On
// other systems, Add returns an error.
//
// # States
//
//	           first Add               last Remove
//	no epoller ---------> an epoller -------------> no epoller
//
// A Listener without connections has no descriptor, and need not be closed.
// Wait without an epoller continues until its time is up. An Add in that time
// makes it start over.
//
// # Mutexes
//
// Listener.mu comes last: nothing else is locked under it, and nothing that can
// hang is called under it. Wait blocks without it.
//
// # Goroutines
//
// There are none. Wait runs in the goroutine of its caller. Only one Wait runs
// at a time.
//
// # Races that were lost once
//
//   - A descriptor is closed, and its number is reused for another connection
//     before Remove. An event would then be for the other connection. So events
//     carry an id, which is never reused.
//   - Add begins while Wait has found no epoller and is about to sleep. Wait
//     would not notice the new connection, so Add wakes it (field without).
package hangup
