package lateness

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestStretch(t *testing.T) {
	for crowd, want := range map[float64]time.Duration{0: time.Second, 1: time.Second, 4: time.Second, 6: 1500 * time.Millisecond, 20: 4 * time.Second} {
		assert.Equal(t, want, stretch(time.Second, crowd), "%v", crowd)
	}
	assert.GreaterOrEqual(t, Stretch(time.Second), time.Second)
}

func TestLoad(t *testing.T) {
	assert.Equal(t, 28.49, load([]byte("28.49 14.98 6.38 7/1042 16946\n")))
	assert.Zero(t, load(nil))
	if runtime.GOOS == "linux" {
		assert.GreaterOrEqual(t, minute(), 0.0)
	}
}
