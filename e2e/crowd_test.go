package e2e

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// More names are contended than there are sessions, far from the server: all
// sessions but one wait, and that one polls for the other names. A free name
// comes before the polls, and timeouts are exact.
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
		plain, err := l.db.Conn(t.Context())
		require.NoError(t, err)
		defer plain.Close()
		for range 5 {
			promptBeside(t, plain, 100*time.Millisecond, "a try of a free name", func() time.Duration {
				start := time.Now()
				require.NoError(t, l.WithLock(t.Context(), newName("free"), 0, nothing))
				return time.Since(start)
			})
			const timeout = 200 * time.Millisecond
			promptBeside(t, plain, timeout+100*time.Millisecond, "the end of a wait", func() time.Duration {
				start := time.Now()
				requireError(t, l.WithLock(t.Context(), taken, timeout, unexpected(t)), namedlock.ErrTimeout, taken)
				return time.Since(start)
			})
		}
	})
}

// promptBeside is prompt over a network with a pace, where a statement takes
// more hops than lateness counts. Plain statements on a connection of their
// own, asked meanwhile, show how long one takes; a call is a few.
func promptBeside(t *testing.T, plain *sql.Conn, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	const few = 4 // a poll that the call finds on its session, and what it asks itself
	enough, trips := make(chan struct{}), make(chan time.Duration)
	go func() {
		worst := time.Duration(0)
		for {
			start := time.Now()
			var n int
			assert.NoError(t, plain.QueryRowContext(background, "SELECT 1").Scan(&n))
			worst = max(worst, time.Since(start))
			select {
			case <-enough:
				trips <- worst
				return
			default:
			}
		}
	}()
	var took, trip time.Duration
	func() {
		defer func() {
			close(enough)
			trip = <-trips
		}()
		took = f()
	}()
	require.LessOrEqual(t, took, limit+few*trip, "too late: "+what)
}
