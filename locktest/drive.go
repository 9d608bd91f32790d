package locktest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
)

// HoldElsewhere acquires the lock like another process, and holds it until
// release is called. Further calls of release do nothing. It panics if the name
// is invalid, or if the lock is held and is not released within 1 s.
func (l *Locker) HoldElsewhere(name string) (release func()) {
	if err := names.Check(l.on(name)); err != nil {
		misuse("HoldElsewhere(%q): %v", name, err)
	}
	release, ok := l.server.Process("HoldElsewhere").Hold(l.on(name), time.Second)
	if !ok {
		misuse("HoldElsewhere(%q): the lock is already held, and was not released within 1s", name)
	}
	return release
}

// Lose takes the lock away from l by closing its session, as KILL or a restart
// of the server does. The next waiter gets the lock at once. The context of the
// code under the lock ends within 25 ms (see namedlock.WithProbe), unless the
// release finds the loss first. Locks nested in it share its session and are
// lost with it, as are all locks of one WithLocks. Lose panics if l does not
// hold the lock.
func (l *Locker) Lose(name string) {
	if !l.process.Kill(l.on(name)) {
		misuse("Lose(%q): this Locker does not hold the lock; held locks: %q", name, l.HeldNames())
	}
}

// Depose takes the lock away from l, as Lose does, and gives it to another
// process, before all waiters. That process holds it until reinstate is called.
// The lock may also be that of a leader. It panics if l
// does not hold the lock.
func (l *Locker) Depose(name string) (reinstate func()) {
	reinstate, ok := l.process.Depose(l.on(name))
	if !ok {
		misuse("Depose(%q): this Locker does not hold the lock; held locks: %q", name, l.HeldNames())
	}
	return reinstate
}

// Fail makes the server unavailable for l only, as in an outage, until
// Fail(nil). The sessions of l end, with the locks on them, and new connections
// are refused with err. Calls then return errors that match
// namedlock.ErrUnavailable and err. A waiting call keeps trying, as described
// for namedlock.ErrUnavailable.
func (l *Locker) Fail(err error) { l.process.Fail(err) }

// Silence makes the network between l and the server silent until heal is
// called. Nothing is answered, and no connection ends. Held locks are lost
// within two keep-alive intervals (see namedlock.WithKeepAlive), when l closes
// their connections. A real server would notice that only at the end of the
// lease. The statements of a transaction, COMMIT included, go to the db of
// TxFrom, which Silence does not affect.
func (l *Locker) Silence() (heal func()) { return l.process.Silence() }

// FailNextAcquire makes the next call of WithLock, WithLockTx, WithTerm,
// WithSlot, WithLocks, Acquire or Lead fail with err, before it does anything.
// A second FailNextAcquire before that call applies to the call after it.
//
// The call returns an *Error that matches err, with the name of the lock; of
// several, the one that is acquired first. If err is not an error of namedlock
// or of a context, it is treated as an error of the driver, and the *Error also
// matches namedlock.ErrUnavailable. Calls records the call. Stats and hooks do
// not, because it does not reach the underlying Locker.
func (l *Locker) FailNextAcquire(err error) {
	if err == nil {
		misuse("FailNextAcquire(nil): the error must not be nil")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, err)
}

// FailNextRelease makes the next RELEASE_LOCK fail with err, like a broken
// connection. A second FailNextRelease before that applies to the RELEASE_LOCK
// after it.
//
// The release then reports an *Error that matches err and namedlock.ErrLost,
// and the lock is not held any more.
func (l *Locker) FailNextRelease(err error) {
	if err == nil {
		misuse("FailNextRelease(nil): the error must not be nil")
	}
	l.process.FailRelease(err)
}

// failure returns the error that a call for these names is to fail with, if it
// is.
func (l *Locker) failure(written ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) == 0 {
		return nil
	}
	err := l.failures[0]
	l.failures = l.failures[1:]
	if !isOurs(err) {
		err = fault.Because(namedlock.ErrUnavailable, "", err)
	}
	return &namedlock.Error{Op: namedlock.OpAcquire, Name: firstOf(written), Err: err}
}

// firstOf returns the name that WithLocks takes before all others.
func firstOf(written []string) string {
	if len(written) == 0 {
		return ""
	}
	return slices.MinFunc(written, func(a, b string) int { return strings.Compare(names.Fold(a), names.Fold(b)) })
}

// isOurs reports whether err matches an error of namedlock's, or of a context.
func isOurs(err error) bool {
	for _, ours := range namedlock.ErrorTypes() {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}
