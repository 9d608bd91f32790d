// Package inside gives package locktest and the tests access to the internals
// of a Locker. Package namedlock sets its variables.
package inside

import (
	"context"
	"time"
)

// Namespace returns the prefix that a *namedlock.Locker adds to names.
var Namespace func(locker any) string

// HeldNames returns the names of the locks whose code has not ended, including
// lost locks.
var HeldNames func(locker any) []string

// Holds reports whether the call chain of ctx holds the lock of that Locker.
var Holds func(ctx context.Context, locker any, name string) bool

// OnSessionOpened sets a function that is called after each attempt to take a
// connection, with the time that it took. Set it before the first call.
var OnSessionOpened func(locker any, told func(took time.Duration))
