package namedlock

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	lockname "github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithLocks acquires several locks, runs fn, and releases them in the reverse
// order. fn runs if and only if all of them were acquired. Otherwise the locks
// that were acquired are released, and Error.Name is the name that was not
// acquired.
//
// The locks are acquired in one order, whatever the order of names. So calls of
// WithLocks whose names overlap never deadlock, on any machine. (They may, if
// fn acquires further locks.)
//
// # Parameters
//
// timeout limits the wait for all locks together. If names is empty, the error
// matches [ErrInvalidName]. If the call chain already holds one of the names,
// the error matches [ErrReentrant], and no lock is acquired.
//
// Names that differ only in letter case are acquired once, in the spelling of
// the first of them, because MySQL treats them as one lock. On MariaDB the
// other spellings stay free for other processes: see the package documentation,
// Names.
//
// # Nesting
//
// Each lock is nested in the locks before it. The rules of [Locker.WithLock]
// for nested calls hold for errors, panics and sessions. fn's ctx ends as in
// WithLock, and when any of the locks is lost.
//
// The first lock is waited for as in WithLock. The others are waited for as
// nested locks are: in slices of at most 1 s, between which a waiter of another
// process can acquire the lock.
func (l *Locker) WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error {
	if l.isZero() {
		return acquireError(strings.Join(names, ", "), errZeroLocker)
	}
	if len(names) == 0 {
		return acquireError("", fault.Because(fault.ErrInvalidName, "the list of lock names is empty", nil))
	}
	if fn == nil {
		return acquireError(names[0], errNoFunction)
	}
	var call call
	ctx = call.begin(l, ctx, Event{Method: "WithLocks", Name: names[0], Names: names, Timeout: timeout})
	fnCtx, began, ended := ctx, false, false
	var returned, lost error
	defer func() {
		if began {
			call.over(fnCtx, lost, returned, !ended)
			return
		}
		if returned == nil { // a method of the context, which is code of the user, has panicked
			call.end()
			return
		}
		call.waited()
		call.failed(both(returned, lost))
	}()
	if names, returned = l.checkAll(ctx, names, timeout); returned != nil {
		return returned
	}
	returned = l.withAll(ctx, names, timeout, countdown(timeout), &lost, func(ctx context.Context) error {
		began = true
		call.waited()
		fnCtx = call.got(ctx)
		err := fn(fnCtx)
		ended = true
		return err
	})
	return both(returned, lost)
}

// checkAll returns the names in the order in which they are acquired, or an
// error for arguments that are wrong whatever the server.
func (l *Locker) checkAll(ctx context.Context, names []string, timeout time.Duration) ([]string, error) {
	for _, name := range names {
		if err := l.check(ctx, name, timeout); err != nil {
			return nil, acquireError(name, err)
		}
	}
	names = l.inOrder(names)
	for _, name := range names {
		if err := l.queue.Held(ctx, l.namespace+name); err != nil {
			return nil, acquireError(name, err)
		}
	}
	return names, nil
}

// withAll runs fn under all names, from the first to the last. It returns fn's
// error, or the error of a lock that was not acquired. lost collects the losses
// that the releases have found, even if fn panics.
func (l *Locker) withAll(ctx context.Context, names []string, timeout time.Duration, left func() time.Duration, lost *error, fn func(ctx context.Context) error) error {
	if len(names) == 0 {
		return fn(ctx)
	}
	lock, err := l.getLock(ctx, Event{Name: names[0], Timeout: timeout}, queue.Terms{Timeout: timeout, Left: left()})
	if err != nil {
		return err
	}
	defer func() { *lost = both(*lost, lock.loss) }()
	returned, _ := lock.hold(func(ctx context.Context) error {
		return l.withAll(ctx, names[1:], timeout, left, lost, fn)
	})
	return returned
}

// inOrder returns the names in the order in which every Locker acquires them,
// without those that some server treats as equal to another one. The order must
// not change between versions of this package: processes with different orders
// would deadlock.
func (l *Locker) inOrder(written []string) []string {
	key := func(name string) string { return lockname.Fold(l.namespace + name) }
	ordered := slices.Clone(written)
	slices.SortStableFunc(ordered, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	return slices.CompactFunc(ordered, func(a, b string) bool { return key(a) == key(b) })
}

// countdown returns a function that returns how much of timeout is left. It
// returns 0 at the end, because a lock that is free can still be acquired.
func countdown(timeout time.Duration) func() time.Duration {
	if timeout == Forever {
		return func() time.Duration { return Forever }
	}
	start := time.Now()
	return func() time.Duration {
		return max(0, timeout-time.Since(start))
	}
}
