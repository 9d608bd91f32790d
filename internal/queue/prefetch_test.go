package queue

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// idleSessions makes the pool keep two idle sessions.
func (b *bubble) idleSessions() {
	b.Helper()
	one, two := b.acquire(b.Context(), "one"), b.acquire(b.Context(), "two")
	require.NoError(b, one.Release())
	require.NoError(b, two.Release())
}

// A gate delays the release of a lock, before the server has executed it.
type gate struct {
	reached, open chan struct{}
}

func (b *bubble) holdUpRelease(reply *memserver.Reply) *gate {
	g := &gate{make(chan struct{}), make(chan struct{})}
	var held atomic.Bool
	b.server.Script(func(st memserver.Statement) *memserver.Reply {
		if !strings.Contains(st.Text, "RELEASE_LOCK(") || !held.CompareAndSwap(false, true) {
			return nil
		}
		close(g.reached)
		<-g.open
		return reply
	})
	return g
}

// releasing begins to release the lock. It returns when RELEASE_LOCK has been
// sent.
func (g *gate) releasing(b *bubble, lock *Grant) <-chan error {
	released := make(chan error, 1)
	go func() { released <- lock.Release() }()
	<-g.reached
	synctest.Wait()
	return released
}

func (b *bubble) waitsFor(name string) (sessions []int) {
	for _, st := range b.server.Sent("GET_LOCK('" + name + "', ") {
		if !strings.HasSuffix(st.Text, ", 0)") {
			sessions = append(sessions, st.Session)
		}
	}
	return sessions
}

// The next caller asks for the lock while the RELEASE_LOCK before it is on its
// way. It has the lock as soon as the server has executed that, whenever the
// answer arrives.
func TestAhead_TheNextAsksDuringTheRelease(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		next := b.call(b.Context(), "l", Forever)
		last := b.call(b.Context(), "l", Forever)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		require.Len(b, b.waitsFor("l"), 1, "the next question")
		next.waits(b)
		close(gate.open)
		g := next.granted(b)
		require.NoError(b, <-released)
		last.waits(b)
		assert.NotSame(b, held.session, g.session)
		require.NoError(b, g.Release())
		require.NoError(b, last.granted(b).Release())
	})
}

// Without an idle session for the wait, nothing is prefetched. For a lock in
// demand one session is opened, once.
func TestAhead_ASecondSessionForALockInDemand(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		held := b.acquire(b.Context(), "l")
		var calls []*call
		const misses = 8 // see pool.TakeSpare
		for range 3 * misses {
			calls = append(calls, b.call(b.Context(), "l", Forever))
		}
		for i, c := range calls {
			require.NoError(b, held.Release())
			held = c.granted(b)
			synctest.Wait()
			all, _ := b.server.Sessions()
			if i+1 < misses {
				assert.Equal(b, 1, all)
			} else {
				assert.Equal(b, 2, all)
			}
		}
		require.NoError(b, held.Release())
	})
}

// Callers that take turns at a lock all the time pay one round trip each, even
// if there are two of them. Without a spare session they would pay two.
func TestAhead_OneRoundTripEach(t *testing.T) {
	const trip, work, while = time.Millisecond, time.Millisecond / 10, time.Second
	for _, callers := range []int{2, 64} {
		inBubble(t, 0, func(b *bubble) {
			b.server.Script(func(memserver.Statement) *memserver.Reply {
				time.Sleep(trip)
				return nil
			})
			end := time.Now().Add(while)
			turns := make(chan int)
			for range callers {
				go func() {
					n := 0
					for ; time.Now().Before(end); n++ {
						g, err := b.queue.Acquire(background, "l", For(Forever), nil)
						if assert.NoError(b, err) {
							time.Sleep(work) // by then the last release has been answered
							assert.NoError(b, g.Release())
						}
					}
					turns <- n
				}()
			}
			sum := 0
			for range callers {
				sum += <-turns
			}
			assert.Greater(b, sum, int(while/(trip+work))*9/10)
		})
	}
}

// The caller whose lock is prefetched may leave. The next caller inherits the
// wait; without one the wait is abandoned.
func TestAhead_TheWaitIsInherited(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		first := b.call(b.Context(), "l", Forever)
		second := b.call(b.Context(), "l", 10*time.Second)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		first.cancel(nil)
		first.fails(b, context.Canceled)
		second.waits(b)
		require.Len(b, b.waitsFor("l"), 1)
		close(gate.open)
		require.NoError(b, <-released)
		require.NoError(b, second.granted(b).Release())
	})
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		only := b.call(b.Context(), "l", time.Second)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		only.fails(b, fault.ErrTimeout)
		close(gate.open)
		require.NoError(b, <-released)
		synctest.Wait()
		assert.Equal(b, -1, b.server.Holder("l"))
	})
}

// However the release ends, the next caller has the lock when the server grants
// it, and not before.
func TestAhead_TheReleaseFails(t *testing.T) {
	for what, reply := range map[string]*memserver.Reply{
		"done, but the answer is lost": {Run: true, Drop: true},
		"not done":                     {Drop: true},
		"refused":                      {Number: 1205},
		"never answered":               {Hang: true},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.idleSessions()
				held := b.acquire(b.Context(), "l")
				next := b.call(b.Context(), "l", Forever)
				gate := b.holdUpRelease(reply)
				released := gate.releasing(b, held)
				next.waits(b)
				close(gate.open)
				require.ErrorIs(b, <-released, fault.ErrLost)
				require.NoError(b, next.granted(b).Release())
			})
		})
	}
}

// A session that dies during a prefetching wait is replaced. Its callers do not
// notice.
func TestAhead_TheWaitDies(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		next := b.call(b.Context(), "l", Forever)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		waits := b.waitsFor("l")
		require.Len(b, waits, 1)
		b.server.Kill(waits[0])
		next.waits(b)
		close(gate.open)
		require.NoError(b, <-released)
		require.NoError(b, next.granted(b).Release())
	})
}

// A foreign session that was in the server's queue before gets the lock first.
func TestAhead_ForeignersKeepTheirPlace(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		conn, err := b.db.Conn(b.Context())
		require.NoError(b, err)
		foreign := make(chan error, 1)
		go func() {
			var got int
			err := conn.QueryRowContext(b.Context(), "SELECT GET_LOCK(?, ?)", "l", 60.5).Scan(&got)
			foreign <- err
		}()
		synctest.Wait()
		next := b.call(b.Context(), "l", Forever)
		require.NoError(b, held.Release())
		require.NoError(b, <-foreign)
		next.waits(b)
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT RELEASE_LOCK(?)", "l").Scan(new(int)))
		require.NoError(b, next.granted(b).Release())
		require.NoError(b, conn.Close())
	})
}

// A chain that holds locks waits on its own session, and begins after the
// release.
func TestAhead_NotForNestedCallers(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		outer := b.acquire(b.Context(), "outer")
		next := b.call(outer.Context(b.Context(), func(err error) error { return err }), "l", Forever)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		assert.Empty(b, b.waitsFor("l"))
		close(gate.open)
		require.NoError(b, <-released)
		g := next.granted(b)
		assert.Same(b, outer.session, g.session)
		require.NoError(b, g.Release())
		require.NoError(b, outer.Release())
	})
}

// Nothing is prefetched for a transaction, which has a session of its own, or
// while a transaction holds the lock.
func TestAhead_NotForATransaction(t *testing.T) {
	plain := For(Forever)
	own := plain
	own.Use = ForTx
	for what, terms := range map[string][2]Terms{"behind a transaction": {own, plain}, "for a transaction": {plain, own}} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.idleSessions()
				held, err := b.queue.Acquire(b.Context(), "l", terms[0], nil)
				require.NoError(b, err)
				next := make(chan *Grant, 1)
				go func() {
					g, err := b.queue.Acquire(b.Context(), "l", terms[1], nil)
					assert.NoError(b, err)
					next <- g
				}()
				synctest.Wait()
				gate := b.holdUpRelease(nil)
				released := gate.releasing(b, held)
				assert.Empty(b, b.waitsFor("l"))
				close(gate.open)
				require.NoError(b, <-released)
				require.NoError(b, (<-next).Release())
			})
		})
	}
}

// Close ends a prefetching wait, and waits for the release.
func TestAhead_Close(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.idleSessions()
		held := b.acquire(b.Context(), "l")
		next := b.call(b.Context(), "l", Forever)
		gate := b.holdUpRelease(nil)
		released := gate.releasing(b, held)
		closed := b.closing()
		next.fails(b, fault.ErrClosed)
		select {
		case <-closed:
			require.FailNow(b, "Close has not waited for the release")
		default:
		}
		close(gate.open)
		require.NoError(b, <-released)
		<-closed
	})
}
