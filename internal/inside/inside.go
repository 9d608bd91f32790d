// Package inside shows package locktest what a Locker keeps to itself.
package inside

// Namespace returns what a *namedlock.Locker puts in front of names. Package
// namedlock sets it.
var Namespace func(locker any) string
