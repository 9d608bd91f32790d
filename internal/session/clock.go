package session

import (
	"sync/atomic"
	"time"
)

// epoch makes times numbers that a change of the clock does not touch.
var epoch = time.Now()

// asleep is for how long the machine has been suspended since epoch, as far as is known.
// The clock of package time stands still meanwhile; the server's does not, so a lease can
// pass.
var asleep atomic.Int64

// now is the time since epoch, that of a suspended machine included.
func now() time.Duration { return time.Since(epoch) + time.Duration(asleep.Load()) }

// noticeSuspension brings now up to date. The watch calls it at each tick: so it is in time
// for the first thing that the watch does on a machine that has woken up.
func noticeSuspension() {
	const noise = 100 * time.Millisecond // the clocks are not read in the same instant
	slept, ok := suspended()
	for before := asleep.Load(); ok && slept > time.Duration(before)+noise; before = asleep.Load() {
		if asleep.CompareAndSwap(before, int64(slept)) {
			return
		}
	}
}

// suspended returns for how long the machine has been suspended since the program began;
// false where the system does not tell. Tests replace it.
var suspended = suspendedBy(bootClockAhead)

// suspendedBy returns suspended, by how far one clock is ahead of the other. On
// a machine that is starved, time passes between two readings: so it is known
// only between two bounds, and what the first and the last readings say at
// least has been slept.
func suspendedBy(ahead func() (least, most time.Duration, ok bool)) func() (time.Duration, bool) {
	_, begun, ok := ahead()
	return func() (time.Duration, bool) {
		least, _, stillOK := ahead()
		return least - begun, ok && stillOK
	}
}
