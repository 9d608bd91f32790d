package lateness

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestOf(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			assert.Zero(t, Of(func() { <-time.After(time.Second) }))
		})
	})
	// There is one processor, and Go lets f run on it for up to 10 ms.
	t.Run("busy", func(t *testing.T) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		late := Of(func() {
			for begun := time.Now(); time.Since(begun) < 100*time.Millisecond; {
			}
		})
		assert.GreaterOrEqual(t, late, hops*2*time.Millisecond)
	})
	t.Run("ticks begin late", func(t *testing.T) { // here after f has ended
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		late := Of(func() {
			for begun := time.Now(); time.Since(begun) < 6*time.Millisecond; {
			}
		})
		assert.GreaterOrEqual(t, late, hops*2*time.Millisecond)
	})
	t.Run("f ends the goroutine", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { // which fails if the ticks go on
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				Of(runtime.Goexit)
			}()
			<-ended
		})
	})
}
