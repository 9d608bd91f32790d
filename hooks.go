package namedlock

import (
	"context"
	"time"
)

// Hooks are functions that are called for each call for a lock. They can add to
// the contexts of the call, for example a span. A hook that is nil is left out.
// Each field says which fields of Event are set, in addition to Method, Name,
// Names and Timeout.
//
// Hooks run in the goroutine of the call. A hook that blocks delays its own
// call, but no other call. No hook runs between GET_LOCK and the deferred
// release, so a hook cannot keep a lock. If a hook panics, the panic is logged
// ([WithLogger]) and goes no further.
//
// A context that a hook returns must derive from the one that it got, and
// replaces it. nil changes nothing.
type Hooks struct {
	// AcquireStarted: a call for a lock has begun. The context that it returns
	// is that of the call from now on.
	AcquireStarted func(ctx context.Context, e Event) context.Context

	// Acquired: the lock is held. It is released whatever the hook does. ctx is
	// that of the code under the lock. Waited is set.
	Acquired func(ctx context.Context, e Event) context.Context

	// Failed: the lock was not acquired. Waited and Err are set.
	Failed func(ctx context.Context, e Event)

	// Released: the lock is not held any more. ctx is that of the code under
	// the lock, and has ended. Waited, HeldFor, Err (nil, or it matches
	// [ErrLost]), Returned and Panicked are set.
	Released func(ctx context.Context, e Event)

	// Opened: New or Open has made the Locker. If Opened returns an error, New
	// or Open returns an error that wraps it, and no Locker. If it panics, the
	// Locker is returned.
	Opened func(l *Locker) error

	// Closed: the Locker is closed, its locks are released, and all other hooks
	// have returned.
	Closed func(l *Locker)
}

// An Event describes a call for a lock up to the time of the hook.
type Event struct {
	// Method is "WithLock", "WithLockTx", "WithTerm", "WithSlot", "WithLocks",
	// "Acquire" or "Lead". A Lead makes one call for each term, and one for
	// each attempt in an outage.
	Method string

	Name    string        // the lock's name as the caller wrote it; of WithLocks the first
	Names   []string      // of WithLocks all of them, as the caller wrote them; not to be changed
	Slot    int           // of WithSlot, in Acquired and Released: the number of the slot
	Timeout time.Duration // as the caller gave it
	Waited  time.Duration // from the call to the lock, or to the error
	HeldFor time.Duration // from the lock to its release
	Err     error

	// Returned is the error of the code under the lock, or the error that says
	// what became of its transaction. It is nil for Acquire.
	Returned error

	Panicked bool // it panicked, or called runtime.Goexit
}
