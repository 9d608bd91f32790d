package e2e

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/netfault"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// network returns a proxy to the server that can fail. It ends with the test.
func (s *server) network(t *testing.T) *netfault.Proxy {
	t.Helper()
	p, err := netfault.Listen(s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// lockerBehind is locker through a network.
func (at setup) lockerBehind(t *testing.T, network *netfault.Proxy, params []string, opts ...namedlock.Option) *locker {
	t.Helper()
	db, err := openDB(at.DSNAt(network.Addr(), params...))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	// A network that is silent at the end of the test must not delay Close.
	l := at.lockerOn(t, db, opts...)
	t.Cleanup(func() { network.Close() })
	return l
}

// The network becomes silent while a lock is held, and the socket never shows
// that.
func TestPromise11_SilentNetworkIsALoss(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			f := at.foreign(t)
			requireNoticed(t, twoIntervals(), func() victim {
				network, killer := at.network(t), at.foreign(t)
				l := at.lockerBehind(t, network, nil, namedlock.WithKeepAlive(often()))
				return l.victim(t, f, func(_ string, session int64) {
					network.Silence()
					// The server has not ended the session by then. Other tests cover that.
					time.AfterFunc(twoIntervals()+often(), func() { killer.kill(session) })
				})
			})
		})
	})
}

// A silence between two keep-alives that is shorter than their interval is not
// a loss.
func TestPromise11_ShortSilenceIsNoLoss(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			network, name := at.network(t), newName("hiccup")
			l := at.lockerBehind(t, network, nil, namedlock.WithKeepAlive(calm()))
			c, ctx := hold(t, t.Context(), l, name)
			for range 6 {
				network.Silence()
				<-time.After(calm() / 8)
				network.Heal()
				<-time.After(calm() / 8)
			}
			requireHeld(t, ctx)
			c.release(t)
		})
	})
}

// A loss is detected while a nested wait continues on the session of the lost
// lock.
func TestPromise11_SilentNetworkUnderANestedWait(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			f, watch := at.foreign(t), at.foreign(t)
			requireNoticed(t, twoIntervals(), func() victim {
				network := at.network(t)
				l := at.lockerBehind(t, network, nil, namedlock.WithKeepAlive(often()))
				outer, inner := newName("outer"), newName("inner")
				c, ctx := hold(t, t.Context(), l, outer)
				f.lock(inner)
				nested := begin(t, ctx, l, inner, namedlock.Forever)
				nested.queued(t)
				at.awaitWaiter(t, inner)
				session := f.holder(outer)
				return victim{ctx, network.Silence, func() {
					requireLost(t, ctx, outer)
					err := nested.err(t)
					if at.way != byNew || !errors.Is(err, namedlock.ErrUnavailable) { // its only connection has ended
						require.ErrorIs(t, err, context.Canceled)
						require.ErrorIs(t, err, namedlock.ErrLost)
					}
					watch.kill(session)
					watch.lockSoon(outer)
					c.requireLossReported(t, outer)
					watch.unlock(outer)
					f.unlock(inner)
				}}
			})
		})
	})
}

// Waits over a network that becomes silent end on time: by their timeouts, or
// by a cancel.
func TestPromise06_SilentNetworkDoesNotHoldUpAWait(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			f := at.foreign(t)
			prompt(t, 3100*time.Millisecond, "the end of a wait", func() time.Duration {
				network, name := at.network(t), newName("silent")
				l := at.lockerBehind(t, network, nil)
				f.lock(name)
				start := time.Now()
				c := begin(t, t.Context(), l, name, 3*time.Second)
				at.awaitWaiter(t, name)
				network.Silence()
				requireError(t, c.err(t), namedlock.ErrTimeout, name)
				took := time.Since(start)
				assert.GreaterOrEqual(t, took, 3*time.Second)
				return took
			})
			prompt(t, 100*time.Millisecond, "cancelling", func() time.Duration {
				network, name := at.network(t), newName("silent")
				l := at.lockerBehind(t, network, nil)
				f.lock(name)
				ctx, cancel := context.WithCancel(t.Context())
				c := begin(t, ctx, l, name, namedlock.Forever)
				at.awaitWaiter(t, name)
				network.Silence()
				start := time.Now()
				cancel()
				requireError(t, c.err(t), context.Canceled, name)
				return time.Since(start)
			})
		})
	})
}

// If nothing else ends a wait, the silence does. If the server cannot be
// reached, the call returns an error. Otherwise the call waits again on a new
// connection. This takes a slice of 30 s, 5 s for the answer, and 5 s to
// connect.
func TestPromise06_WaitOverADeadNetworkEnds(t *testing.T) {
	t.Parallel()
	if os.Getenv("NAMEDLOCK_REQUIRE_SERVERS") != "1" {
		t.Skip("takes 40 s: runs where NAMEDLOCK_REQUIRE_SERVERS is 1")
	}
	const slice, answer, connect = 30 * time.Second, 5 * time.Second, 5 * time.Second
	onEachServer(t, func(t *testing.T, srv *server) {
		if srv.Kind() != on().Kinds[0] {
			return // the test is about the client
		}
		f, others := srv.foreign(t), srv.foreign(t)
		var waits sync.WaitGroup
		for _, way := range []string{byOpen, byNew} {
			at, network, name := setup{srv, way}, srv.network(t), newName("dead")
			l := at.lockerBehind(t, network, nil)
			f.lock(name)
			c := begin(t, t.Context(), l, name, namedlock.Forever)
			at.awaitWaiter(t, name)
			network.Silence()
			start := time.Now()
			waits.Go(func() {
				late := lateness.Of(func() {
					select {
					case err := <-c.done:
						assert.ErrorIs(t, err, namedlock.ErrUnavailable)
					case <-time.After(2 * (slice + answer + connect)):
						assert.Fail(t, "a wait over a dead network does not end: "+way)
					}
				})
				assert.LessOrEqual(t, time.Since(start), slice+answer+connect+time.Second+late)
			})
		}

		// Here the server can be reached, except by the old connection.
		network, name := srv.network(t), newName("stranded")
		l := setup{srv, byOpen}.lockerBehind(t, network, nil)
		f.lock(name)
		c := begin(t, t.Context(), l, name, namedlock.Forever)
		stranded := srv.awaitWaiter(t, name)
		network.Strand()
		others.kill(stranded)
		f.unlock(name)
		prompt(t, slice+answer+connect, "the wait is begun again", func() time.Duration {
			start := time.Now()
			select {
			case ctx := <-c.held:
				requireHeld(t, ctx)
				assert.NotZero(t, others.holder(name))
				c.release(t)
			case err := <-c.done:
				assert.NoError(t, err)
			case <-time.After(2 * (slice + answer + connect)):
				assert.Fail(t, "the wait is not begun again")
			}
			return time.Since(start)
		})
		waits.Wait()
	})
}

// An idle connection has become silent. The call uses another connection.
func TestPromise07_IdleConnectionGoneSilent(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		network, f := srv.network(t), srv.foreign(t)
		l := setup{srv, byOpen}.lockerBehind(t, network, nil)
		requireUsable(t, l)
		network.Strand()
		prompt(t, 6*time.Second, "5 s of silence, and another connection", func() time.Duration {
			start := time.Now()
			requireUsable(t, l)
			return time.Since(start)
		})
		network.Strand()
		name := newName("then")
		f.lock(name)
		prompt(t, 6*time.Second, "5 s of silence, and another connection", func() time.Duration {
			start := time.Now()
			requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrTimeout, name)
			return time.Since(start)
		})
		f.unlock(name)
	})
}

// If a server cannot be reached, calls return within 6 s.
func TestPromise07_SilentServerIsUnavailable(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		network := srv.network(t)
		l := setup{srv, byOpen}.lockerBehind(t, network, nil)
		network.Silence()
		prompt(t, 6*time.Second, "5 s to connect", func() time.Duration {
			start := time.Now()
			var calls []*call
			var names []string
			for _, timeout := range []time.Duration{0, time.Millisecond, time.Minute, namedlock.Forever} {
				name := newName("unreachable")
				calls, names = append(calls, begin(t, t.Context(), l, name, timeout)), append(names, name)
			}
			for i, c := range calls {
				requireError(t, c.err(t), namedlock.ErrUnavailable, names[i])
			}
			return time.Since(start)
		})
		network.Heal()
		requireUsable(t, l)
	})
}

// A readTimeout in the DSN that is shorter than a wait breaks the statement
// that waits, not the wait.
func TestPromise06_ShortReadTimeout(t *testing.T) {
	t.Parallel()
	const most = 6 // connections: a few, until the slices are short enough
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			limit := seconds(time.Second) // the server must answer within that
			params := []string{"readTimeout=" + limit.String()}
			t.Run("timeout", func(t *testing.T) {
				f := at.foreign(t)
				prompt(t, 3*limit+100*time.Millisecond, "the end of a wait", func() time.Duration {
					network, name := at.network(t), newName("read-timeout")
					l := at.lockerBehind(t, network, params)
					f.lock(name)
					start := time.Now()
					requireError(t, l.WithLock(t.Context(), name, 3*limit, unexpected(t)), namedlock.ErrTimeout, name)
					took := time.Since(start)
					assert.GreaterOrEqual(t, took, 3*limit)
					assert.Less(t, network.Accepted(), most)
					requireUsable(t, l)
					return took
				})
			})
			t.Run("grant", func(t *testing.T) {
				f, network, name := at.foreign(t), at.network(t), newName("read-timeout")
				l := at.lockerBehind(t, network, params)
				f.lock(name)
				c := begin(t, t.Context(), l, name, patience)
				at.awaitWaiter(t, name)
				<-time.After(2 * limit)
				c.waits(t)
				f.unlock(name)
				prompt(t, 500*time.Millisecond, "the grant", func() time.Duration {
					start := time.Now()
					c.holds(t)
					return time.Since(start)
				})
				c.release(t)
				assert.Less(t, network.Accepted(), most)
				// Statements that were broken off end within the limit.
				f.lockSoon(name)
			})
			t.Run("Forever", func(t *testing.T) {
				f, network, name := at.foreign(t), at.network(t), newName("read-timeout")
				l := at.lockerBehind(t, network, params)
				f.lock(name)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				c := begin(t, ctx, l, name, namedlock.Forever)
				<-time.After(3 * limit)
				c.waits(t)
				gone := errors.New("gone")
				cancel(gone)
				require.ErrorIs(t, c.err(t), gone)
				assert.Less(t, network.Accepted(), most)
			})
			t.Run("hold", func(t *testing.T) {
				network, name := at.network(t), newName("read-timeout")
				l := at.lockerBehind(t, network, params, namedlock.WithKeepAlive(calm()))
				c, ctx := hold(t, t.Context(), l, name)
				afterKeepAlive()
				requireHeld(t, ctx)
				c.release(t)
			})
		})
	})
}
