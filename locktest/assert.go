package locktest

import (
	"context"
	"testing"

	"github.com/go-namedlock/namedlock/internal/inside"
)

// AssertHeld fails the test unless ctx is the context of code under the lock:
// the ctx passed to fn by WithLock or WithLocks, Lock.Context, or one derived
// from these. It detects code that runs without the lock, with another ctx, or
// after a loss. Call it in the test doubles of the things that the lock
// protects. Neither Calls nor Stats count it, and it calls no hook.
func AssertHeld(tb testing.TB, ctx context.Context, l *Locker, name string) {
	tb.Helper()
	switch {
	case !l.process.Holds(l.on(name)):
		tb.Errorf("locktest: lock %q is not held; held locks: %q", name, l.HeldNames())
	case !inside.Holds(ctx, l.Locker, name):
		tb.Errorf("locktest: lock %q is held, but not under this ctx; pass on the ctx that fn received", name)
	}
}
