// Package inside shows package locktest what a Locker keeps to itself. Package namedlock
// sets its variables.
package inside

import "context"

// Namespace returns what a *namedlock.Locker puts in front of names.
var Namespace func(locker any) string

// HeldNames returns the names of the locks whose code has not ended, lost or not.
var HeldNames func(locker any) []string

// Holds reports whether the call chain of ctx holds the lock, by that Locker.
var Holds func(ctx context.Context, locker any, name string) bool
