package locktest

import (
	"context"
	"errors"
	"testing"

	"github.com/go-namedlock/namedlock"
)

// AssertHeld fails the test unless ctx is that of code under the lock: the one that
// fn got from WithLock, or Lock.Context, or made from these. So it finds code that
// runs without the lock, that was given another ctx, and that goes on after a loss.
// It belongs into the test's stand-ins for what the lock protects.
func AssertHeld(tb testing.TB, ctx context.Context, l *Locker, name string) {
	tb.Helper()
	if !l.process.Holds(l.on(name)) {
		tb.Errorf("locktest: the lock %q is not held; held are %q", name, l.HeldNames())
		return
	}
	// A call chain that holds the lock cannot have it again. Others have to wait.
	lock, err := l.Locker.Acquire(context.WithoutCancel(ctx), name, 0)
	switch {
	case err == nil:
		_ = lock.Release()
	case errors.Is(err, namedlock.ErrHeld), errors.Is(err, namedlock.ErrClosed):
		return // a Locker that is being closed does not tell whose the lock is
	}
	tb.Errorf("locktest: the lock %q is held, but not by the code that has this ctx: hand on the ctx that comes with the lock", name)
}
