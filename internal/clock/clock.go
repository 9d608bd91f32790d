// Package clock has a clock that goes on while the machine is suspended.
package clock

import (
	"sync/atomic"
	"time"
)

// epoch makes times numbers that a change of the wall clock does not touch.
var epoch = time.Now()

// asleep is for how long the machine has been suspended since epoch, as far as
// NoticeSuspension has noticed. The clock of package time stands still in that
// time. The server's clock does not, so a lease can pass.
var asleep atomic.Int64

// Now is the time since the program began, the time of a suspended machine
// included.
func Now() time.Duration { return time.Since(epoch) + time.Duration(asleep.Load()) }

// NoticeSuspension brings Now up to date. The watch calls it at each tick, so
// that Now is right for the first thing that the watch does on a machine that
// has woken up.
func NoticeSuspension() {
	const noise = 100 * time.Millisecond // the clocks are not read in the same instant
	slept, ok := suspended()
	for before := asleep.Load(); ok && slept > time.Duration(before)+noise; before = asleep.Load() {
		if asleep.CompareAndSwap(before, int64(slept)) {
			return
		}
	}
}

// Suspend is for tests. Until restore is called, slept returns for how long the
// machine has been suspended.
func Suspend(slept func() time.Duration) (restore func()) {
	really := suspended
	suspended = func() (time.Duration, bool) { return slept(), true }
	return func() {
		suspended = really
		asleep.Store(0)
	}
}

// suspended returns for how long the machine has been suspended since the
// program began. It returns false if the system does not report that.
var suspended = suspendedBy(bootClockAhead)

// suspendedBy returns suspended, by how far one clock is ahead of the other. On
// a starved machine, time passes between two readings, so the difference is
// only known between two bounds. The machine has slept for the difference that
// the first and the last reading show at least.
func suspendedBy(ahead func() (least, most time.Duration, ok bool)) func() (time.Duration, bool) {
	_, begun, ok := ahead()
	return func() (time.Duration, bool) {
		least, _, stillOK := ahead()
		return least - begun, ok && stillOK
	}
}
