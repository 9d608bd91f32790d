package e2e

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// More names are contended than there are sessions, far from the server: all sessions but one wait, and that one
// polls for the other names. A free name comes before the polls, and timeouts are exact.
func TestPromise07_ManyNamesAtTheCap(t *testing.T) {
	t.Parallel()
	const names = 300
	onEachServer(t, func(t *testing.T, srv *server) {
		network, f := srv.network(t), srv.foreign(t)
		network.Pace(time.Millisecond) // a packet; an answer has five
		l := setup{srv, byOpen}.lockerBehind(t, network, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		defer waiting.Wait()
		defer cancel()
		for range names {
			name := newName("crowd")
			f.lock(name)
			waiting.Go(func() {
				assert.ErrorIs(t, l.WithLock(ctx, name, namedlock.Forever, unexpected(t)), context.Canceled)
			})
		}
		eventually(t, func() bool { return l.Stats().Waiting == names }, "%d calls wait", names)
		requireUsable(t, l) // the first questions, which this one stands behind, have all been asked
		taken := newName("taken")
		f.lock(taken)
		for range 5 {
			prompt(t, 100*time.Millisecond, "a try of a free name", func() time.Duration {
				start := time.Now()
				require.NoError(t, l.WithLock(t.Context(), newName("free"), 0, nothing))
				return time.Since(start)
			})
			const timeout = 200 * time.Millisecond
			prompt(t, timeout+100*time.Millisecond, "the end of a wait", func() time.Duration {
				start := time.Now()
				requireError(t, l.WithLock(t.Context(), taken, timeout, unexpected(t)), namedlock.ErrTimeout, taken)
				return time.Since(start)
			})
		}
	})
}
