package lateness

import (
	"context"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWithTimeout(t *testing.T) {
	for crowd, takes := range map[float64]time.Duration{
		1:   time.Minute,
		1.5: 90 * time.Second,
		4:   4 * time.Minute,
		50:  10 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			ctx, cancel := withTimeout(t.Context(), time.Minute, func() float64 { return crowd })
			defer cancel()
			<-ctx.Done()
			assert.InDelta(t, takes, time.Since(begun), float64(sample))
			var late *TimeoutError
			require.ErrorAs(t, context.Cause(ctx), &late)
			assert.Equal(t, crowd >= 2, late.Busy(), "%v", late)
			if late.Busy() {
				assert.ErrorContains(t, late, "busy")
			} else {
				assert.EqualError(t, late, "not within 1m0s")
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // which fails if its goroutine goes on
			ctx, cancel := WithTimeout(t.Context(), time.Minute)
			cancel()
			assert.Equal(t, context.Canceled, context.Cause(ctx))
		})
	})
}

func TestRunning(t *testing.T) {
	assert.Equal(t, 43.0, running([]byte("cpu  1 2\nprocesses 7\nprocs_running 43\nprocs_blocked 0\n")))
	assert.Zero(t, running([]byte("cpu  1 2\n")))
	assert.GreaterOrEqual(t, crowd(), 1.0)
	if runtime.GOOS == "linux" {
		stat, err := os.ReadFile("/proc/stat")
		require.NoError(t, err)
		assert.GreaterOrEqual(t, running(stat), 1.0, "this thread runs")
	}
}
