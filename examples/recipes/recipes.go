// Package recipes shows what services do with locks. Most of it runs without a
// server: a cache that is filled once (cache_test.go), a long job that stops
// when its lock is lost (longjob_test.go), and metrics (hooks_test.go). A
// fencing token (fencing.go) comes from a table. A readiness probe, and the
// question whether this process leads, are in readiness.go.
package recipes
