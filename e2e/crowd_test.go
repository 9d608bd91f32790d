package e2e

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// More names are contended than there are sessions, and the network to the
// server is slow. All sessions except one wait, and that one polls for the
// other names. A call for a free name is served before the polls, and timeouts
// are exact.
func TestPromise07_ManyNamesAtTheCap(t *testing.T) {
	t.Parallel()
	const names = 300
	onEachServer(t, func(t *testing.T, srv *server) {
		network, f := srv.network(t), srv.foreign(t)
		network.Pace(time.Millisecond) // for each packet; an answer has five
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
		// This call queues after the first polls, so they are all done.
		requireUsable(t, l)
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
			var err error
			late := promptBeside(t, plain, timeout+100*time.Millisecond, "the end of a wait", func() time.Duration {
				start := time.Now()
				err = l.WithLock(t.Context(), taken, timeout, unexpected(t))
				return time.Since(start)
			})
			if errors.Is(err, namedlock.ErrNoSession) {
				require.Greater(t, late, timeout, "a session is free in time for the first question: %v", err)
				continue
			}
			requireError(t, err, namedlock.ErrTimeout, taken)
		}
	})
}

// promptBeside is prompt for a network with a pace, where a statement takes
// more hops than lateness counts. At the same time it sends plain statements on
// a connection of their own, to measure one round trip. A call takes a few
// round trips, for which promptBeside allows, and returns how long they took.
func promptBeside(t *testing.T, plain *sql.Conn, limit time.Duration, what string, f func() time.Duration) (late time.Duration) {
	t.Helper()
	// A poll that is under way on the call's session, and the call's own
	// statements.
	const few = 4
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
	return few * trip
}
