package namedlock

import (
	"context"
	"time"
)

// Hooks see the calls for locks, and may add to their contexts: a span, say. nil ones are left out. They run where
// it happens, in the goroutine of the call, so one that blocks holds up its call, and no other. None runs between GET_LOCK and the
// deferred release, so that none can keep a lock; a panic in one goes to the log ([WithLogger]) and no further.
//
// Each says which fields of Event are set, beside Method, Name, Names and Timeout. A context that a hook returns takes the
// place of the one that it got, from which it must derive; nil changes nothing.
type Hooks struct {
	// AcquireStarted: a call for a lock has begun. Its context is that of the call from now on.
	AcquireStarted func(ctx context.Context, e Event) context.Context

	// Acquired: the lock is held, and is released whatever becomes of the hook. ctx is that of the code under the lock. Waited.
	Acquired func(ctx context.Context, e Event) context.Context

	// Failed: the lock was not acquired. Waited, Err.
	Failed func(ctx context.Context, e Event)

	// Released: the lock is not held any more. ctx is what Acquired has made of it, and has ended. Waited, HeldFor, Err
	// (nil, or it matches [ErrLost]), Returned, Panicked.
	Released func(ctx context.Context, e Event)

	// Opened: New or Open has made the Locker, unless Opened returns an error; then they return that.
	Opened func(l *Locker) error

	// Closed: the Locker is closed, its locks are released, and all other hooks have returned.
	Closed func(l *Locker)
}

// An Event is a call for a lock, as far as it has come.
type Event struct {
	Method   string        // "WithLock", "WithLockTx", "WithTerm", "WithSlot", "WithLocks", "Acquire" or "Lead", which makes a call for each term, and for each attempt in an outage
	Name     string        // the lock's name as the caller wrote it; of WithLocks the first
	Names    []string      // of WithLocks all of them, as the caller wrote them; not to be changed
	Slot     int           // of WithSlot, in Acquired and Released: the number of the slot
	Timeout  time.Duration // as the caller gave it
	Waited   time.Duration // from the call to the lock, or to the error
	HeldFor  time.Duration // from the lock to its release
	Err      error
	Returned error // what the code under the lock returned, or what became of its transaction; of Acquire nil
	Panicked bool  // it panicked, or called runtime.Goexit
}
