// Package slot acquires slots. A slot is one of n locks of a queue, any of
// which will do for a caller. Package queue has no notion of slots: this
// package uses its exported functions only.
//
// No server can wait for one of several locks, so callers take turns. A caller
// acquires another lock, the gate, and looks for a free slot while it holds the
// gate. All other callers, in every process, are in the queue for the gate. So
// they are served in the order in which they came. Of each process one session
// waits, and of all processes one session asks, however many callers wait.
//
//	gate -> look -> GET_LOCK(slot, 0) -----------------------> RELEASE_LOCK(gate) -> grant
//	        ^  |                                               ^
//	        |  +-- all used: GET_LOCK(slot, lookEvery), or pause
//	        +----------+
//
// The gate and the slot are on one session, and the slot is held before the
// gate is released. The slots exclude by themselves. The gate is for the order,
// and for the number of statements.
//
// # Where to look
//
//	slot.go    the slots of a Locker, and those of one name; a slot that is held
//	call.go    one call: the gate, and the way back if its session is lost
//	search.go  looks, waits and pauses, until a slot is free
//	errors.go  the errors of a call, and the holder in them
//
// # Invariants
//
//   - A caller looks for a slot, waits for one and acquires one only while it
//     holds the gate. Only a call that tries once may look without it: see
//     mayBeFree.
//   - The gate is released before the slot is returned. If the session of the
//     gate was lost, so was the slot, and the call starts over. It fails if it
//     loses the next session, too, before it has looked twice there.
//   - A call counts as waiting (Slots.Waiting) until it returns. The queue
//     counts neither its wait for the gate nor that for a slot: see
//     queue.Terms.Part. It does not list the gate as held: see queue.ForOrder.
//
// # Mutexes
//
// Slots.mu guards the groups and the number of calls. Neither the queue nor
// code of the user's is called under it, and it is locked under no other mutex.
// The queue calls call.Waits with Queue.mu held, so Waits locks nothing. It is
// not called any more when queue.Queue.Acquire has returned. From then on the
// call reads what Waits has set, without a mutex.
//
// # Races
//
//   - A release is noted here a moment after the line of the lock is open
//     again. The next holder of the slot may be noted before that: free
//     compares the grants.
//   - A slot of this process is released between the first look and the pause,
//     and nothing ends the pause. The next look, lookSoon later, finds the
//     slot.
package slot
