// Package recipes shows what services do with locks, as examples that run without a server:
// a cache that is filled once (cache_test.go), a long job that stops when its lock is lost
// (longjob_test.go), and metrics (hooks_test.go).
package recipes
