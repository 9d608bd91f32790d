// Package inside shows package locktest, and the tests, what a Locker keeps to
// itself. Package namedlock sets its variables.
package inside

import (
	"context"
	"time"
)

// Namespace returns what a *namedlock.Locker puts in front of names.
var Namespace func(locker any) string

// HeldNames returns the names of the locks whose code has not ended, lost or
// not.
var HeldNames func(locker any) []string

// Holds reports whether the call chain of ctx holds the lock, by that Locker.
var Holds func(ctx context.Context, locker any, name string) bool

// OnSessionOpened has told called whenever the Locker has taken a connection,
// or failed to, with how long that took. It is to be set before the first call.
var OnSessionOpened func(locker any, told func(took time.Duration))
