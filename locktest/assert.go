package locktest

import (
	"context"
	"testing"

	"github.com/go-namedlock/namedlock/internal/inside"
)

// AssertHeld fails the test unless ctx is that of code under the lock: the one
// that fn got from WithLock or WithLocks, or Lock.Context, or made from these.
// So it finds code that runs without the lock, that was given another ctx, and
// that goes on after a loss. It belongs into the test's stand-ins for what the
// lock protects. It is no call: neither Calls nor Stats count it, and no hook
// is told.
func AssertHeld(tb testing.TB, ctx context.Context, l *Locker, name string) {
	tb.Helper()
	switch {
	case !l.process.Holds(l.on(name)):
		tb.Errorf("locktest: lock %q is not held; held locks: %q", name, l.HeldNames())
	case !inside.Holds(ctx, l.Locker, name):
		tb.Errorf("locktest: lock %q is held, but not under this ctx; pass on the ctx that fn received", name)
	}
}
