// Package hangup tells when the other side of a connection closes it: at once,
// and for nothing until then, since the kernel says so. It does on Linux;
// elsewhere nobody can be listened to.
//
// # States
//
//	           first Add               last Remove
//	no epoller ---------> an epoller -------------> no epoller
//
// A Listener that listens to nobody has no descriptor, and needs no closing.
// Wait goes on, without one, until its time is up; an Add meanwhile has it
// begin anew.
//
// # Mutexes
//
// Listener.mu comes last: nothing else is locked under it, and nothing that can
// hang is called under it. Wait blocks without it.
//
// # Goroutines
//
// There is none. Wait runs in the caller's, one at a time.
//
// # Races that were lost once
//
//   - A descriptor is closed and its number given to another connection before
//     Remove: an event would be for that one. So events carry an id, which is
//     never given twice.
//   - Add begins while Wait, having seen no epoller, is about to sleep. It
//     would not hear of the new connection: Add wakes it (without).
package hangup
