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

// HoldElsewhere takes the lock as another process would, and holds it until
// release, which may be called again. It panics if the name is invalid, or if
// somebody holds the lock and does not let go of it within a second.
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

// Lose takes the lock away from l, which holds it, by closing its session, as
// KILL or a restart of the server does. The next in line has it at once. The
// code under it is told within 25 ms (see namedlock.WithProbe), by the end of
// its context, or by the release if that comes first. Locks that are nested in
// it share its session, and go with it, as do all of one WithLocks. Lose panics
// if l does not hold the lock.
func (l *Locker) Lose(name string) {
	if !l.process.Kill(l.on(name)) {
		misuse("Lose(%q): this Locker does not hold the lock; held locks: %q", name, l.HeldNames())
	}
}

// Depose has another process get the lock that l holds, be it as a leader, and
// keep it until reinstate is called: it ends l's session, as Lose does, and
// comes before all who wait. It panics if l does not hold the lock.
func (l *Locker) Depose(name string) (reinstate func()) {
	reinstate, ok := l.process.Depose(l.on(name))
	if !ok {
		misuse("Depose(%q): this Locker does not hold the lock; held locks: %q", name, l.HeldNames())
	}
	return reinstate
}

// Fail has the server be away, for l alone, until Fail(nil): its sessions end,
// with the locks on them, and connections are refused with err, as in an outage
// that lasts. Calls then return namedlock.ErrUnavailable, and match err; one
// that waits goes on trying, as namedlock.ErrUnavailable says.
func (l *Locker) Fail(err error) { l.process.Fail(err) }

// Silence has the network between l and the server fall silent until heal is
// called: nothing is answered, and no connection ends. Locks that are held are
// lost within two keep-alive intervals (see namedlock.WithKeepAlive), when l
// closes their connections; a real server would notice that only at the end of
// the lease.
func (l *Locker) Silence() (heal func()) { return l.process.Silence() }

// FailNextAcquire has the next call of WithLock, WithLockTx, WithTerm,
// WithSlot, WithLocks, Acquire or Lead fail with err, before it does anything.
// Called again before that, it is for the call after the next.
//
// The call returns what a Locker would: an *Error that matches err, with the
// name; of several, the one that is taken first. If err is none of namedlock's
// errors, nor a context's, it is taken for what the driver said, and matches
// namedlock.ErrUnavailable as well. Calls has the call; Stats and hooks do not:
// it comes to none of the Locker's.
func (l *Locker) FailNextAcquire(err error) {
	if err == nil {
		misuse("FailNextAcquire(nil): the error must not be nil")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, err)
}

// FailNextRelease has the next RELEASE_LOCK fail with err, as a broken
// connection makes it. Called again before that, it is for the one after the
// next.
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
