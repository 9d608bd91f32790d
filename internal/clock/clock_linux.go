package clock

import (
	"syscall"
	"time"
	"unsafe"
)

// bootClockAhead returns how far the clock that goes on while the machine is
// suspended is ahead of the one that stands still, at least and at most.
func bootClockAhead() (least, most time.Duration, ok bool) {
	const monotonic, boottime = 1, 7 // clock_gettime(2)
	before, ok1 := readClock(monotonic)
	b, ok2 := readClock(boottime)
	after, ok3 := readClock(monotonic)
	return b - after, b - before, ok1 && ok2 && ok3
}

func readClock(id uintptr) (time.Duration, bool) {
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano()), errno == 0
}
