package session

import (
	"syscall"
	"time"
	"unsafe"
)

// bootClockAhead returns how far the clock that goes on while the machine is suspended is
// ahead of the one that does not.
func bootClockAhead() (time.Duration, bool) {
	const monotonic, boottime = 1, 7 // clock_gettime(2)
	m, ok := readClock(monotonic)
	b, okToo := readClock(boottime)
	return b - m, ok && okToo
}

func readClock(id uintptr) (time.Duration, bool) {
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano()), errno == 0
}
