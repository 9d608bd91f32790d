package clock

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// On a starved machine two clocks are read far apart. That is not a sleep.
func TestSuspended_StarvedMachine(t *testing.T) {
	const ahead = time.Hour // since the machine began
	var apart time.Duration // the readings
	suspended := suspendedBy(func() (least, most time.Duration, ok bool) { return ahead - apart, ahead + apart, true })
	for _, apart = range []time.Duration{0, time.Second, time.Minute} {
		slept, ok := suspended()
		assert.True(t, ok)
		assert.LessOrEqual(t, slept, time.Duration(0))
	}
}

// The clocks of a machine that runs do not show a suspension.
func TestNow(t *testing.T) {
	before, slept := Now(), asleep.Load()
	NoticeSuspension()
	assert.Equal(t, slept, asleep.Load())
	assert.GreaterOrEqual(t, Now(), before)
	if _, ok := suspended(); runtime.GOOS == "linux" {
		assert.True(t, ok, "the system reports it")
	}
}
