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

// WithLocks is [Locker.WithLock] for several locks: fn runs if and only if all of them were
// acquired. timeout bounds the wait for all of them together. Otherwise those that
// were acquired are released, and Error.Name tells which could not be acquired.
//
// The locks are taken in one order, whatever the order of the names, and released in
// the reverse: callers of WithLocks whose names overlap never deadlock, on any machine.
// (They may, if fn takes further locks.) An empty list is [ErrInvalidName].
//
// Names that differ in letter case alone are taken once, spelt as the first of them:
// MySQL takes them for one lock. MariaDB does not, and there the other spellings stay
// free for other processes; see Names.
//
// All but the first are waited for as nested locks are: in slices of up to a second,
// between which a waiter of another process can overtake.
//
// The ctx that fn gets ends as in [Locker.WithLock], and when any of the locks is lost. Each lock
// is taken under those before it, as by nested calls of [Locker.WithLock], whose rules for
// errors, panics and sessions hold. A name that the call chain holds already is [ErrReentrant]
// before any other is taken.
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

// checkAll returns the names in the order in which they are taken, or an error for what no server need be asked about.
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

// withAll runs fn under all names, from the first to the last. It returns what fn
// returned, or why a lock was not acquired. lost is what the releases have found, also
// where fn panics.
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

// inOrder returns the names in the order in which every Locker takes them, without
// those that some server takes for one of the others. The order must not change between
// versions of this package: processes with different ones would deadlock.
func (l *Locker) inOrder(written []string) []string {
	key := func(name string) string { return lockname.Fold(l.namespace + name) }
	ordered := slices.Clone(written)
	slices.SortStableFunc(ordered, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	return slices.CompactFunc(ordered, func(a, b string) bool { return key(a) == key(b) })
}

// countdown returns how much of timeout is left, at each call: 0 at the end, since a
// lock that is free can still be had.
func countdown(timeout time.Duration) func() time.Duration {
	if timeout == Forever {
		return func() time.Duration { return Forever }
	}
	start := time.Now()
	return func() time.Duration {
		return max(0, timeout-time.Since(start))
	}
}
