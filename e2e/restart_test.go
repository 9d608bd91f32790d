package e2e

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server ends and is restarted while callers hold locks and wait. Holders are
// told of the loss. Waiters eventually get the lock or an error. The same
// Lockers continue to work.
func TestPromise11_ServerRestarts(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*servers.Server) error{
		"killed":    (*servers.Server).Kill,
		"shut down": (*servers.Server).Shutdown,
	}
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			onPrivateServers(t, func(t *testing.T, srv *server) {
				requireNoticed(t, atOnce, func() victim { return srv.restart(t, end) })
			})
		})
	}
}

// restart returns a victim among many holders and waiters.
func (s *server) restart(t *testing.T, end func(*servers.Server) error) victim {
	const many = 5
	open, single, other := setup{s, byOpen}.locker(t), setup{s, byNew}.locker(t), setup{s, byOpen}.locker(t)
	open.db.SetMaxIdleConns(2 * many)
	type holder struct {
		*call
		ctx  context.Context
		name string
	}
	var holders []holder
	var waiters []*call
	for i := range many {
		l := open
		if i == 0 {
			l = single
		}
		name := newName("restart")
		c, ctx := hold(t, t.Context(), l, name)
		holders = append(holders, holder{c, ctx, name})
		// One waits on the server, and one in the process's queue.
		for _, waiting := range []*locker{other, open} {
			w := begin(t, t.Context(), waiting, name, namedlock.Forever)
			w.finish(nil)
			waiters = append(waiters, w)
			w.queued(t)
		}
		s.awaitWaiter(t, name)
	}
	// Some connections are idle in the db, and the Locker has used some of them.
	var idle sync.WaitGroup
	for range many {
		idle.Go(func() { _, _ = open.db.ExecContext(background, "SELECT SLEEP(0.1)") })
	}
	idle.Wait()

	return victim{holders[1].ctx, func() { require.NoError(t, end(s.Server)) }, func() {
		t.Helper()
		for _, h := range holders {
			requireLost(t, h.ctx, h.name)
		}
		name := newName("down")
		requireError(t, open.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnavailable, name)
		require.NoError(t, s.Restart())
		for _, h := range holders {
			h.requireLossReported(t, h.name)
		}
		for _, w := range waiters {
			err := w.err(t)
			switch {
			case err == nil:
			// A server that shuts down may end the holder's session first, and the
			// waiter's session after the grant.
			case len(w.held) > 0:
				require.ErrorIs(t, err, namedlock.ErrLost)
			default:
				require.ErrorIs(t, err, namedlock.ErrUnavailable)
			}
		}
		// No call meets a connection that has died.
		var calls [3 * many]error
		var running sync.WaitGroup
		for i := range calls {
			l := []*locker{open, other}[i%2]
			running.Go(func() { calls[i] = l.WithLock(t.Context(), newName("up"), 0, nothing) })
		}
		running.Wait()
		require.NoError(t, errors.Join(calls[:]...))
		for _, h := range holders[1:] {
			requireError(t, single.WithLock(t.Context(), h.name, 0, unexpected(t)), namedlock.ErrUnavailable, h.name)
			require.NoError(t, open.WithLock(t.Context(), h.name, time.Second, nothing))
		}
	}}
}

// Idle connections, in the db and in the Locker, have died with the server.
func TestPromise07_IdleConnectionsGoStale(t *testing.T) {
	t.Parallel()
	const count = 6
	onPrivateServers(t, func(t *testing.T, srv *server) {
		l := setup{srv, byOpen}.locker(t)
		l.db.SetMaxIdleConns(2 * count)
		warm := func(n int) {
			t.Helper()
			var calls []*call
			for range n {
				c, _ := hold(t, t.Context(), l, newName("warm"))
				calls = append(calls, c)
			}
			for _, c := range calls {
				c.release(t)
			}
		}
		for _, end := range []func() error{srv.Kill, srv.Shutdown} {
			warm(count)
			eventually(t, func() bool { return l.db.Stats().InUse == 0 }, "the idle sessions go back")
			assert.GreaterOrEqual(t, l.db.Stats().Idle, count)
			// The Locker has half of the sessions now, and the db has the others.
			warm(count / 2)
			require.NoError(t, end())
			require.NoError(t, srv.Restart())
			requireUsable(t, l)
			// Some of these calls meet each connection that has died.
			warm(2 * count)
		}
		assert.Empty(t, srv.claims(t))
	})
}
