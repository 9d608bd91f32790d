//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package history

import "golang.org/x/sys/unix"

// Now returns the time of the machine's monotonic clock, in nanoseconds. Go's
// own monotonic clock has another zero in each process.
func Now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // these systems all have this clock
	}
	return t.Nano()
}
