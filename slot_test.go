package namedlock_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/locktest"
)

func anySlot(context.Context, int) error { return nil }

func TestWithSlotBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	unexpected := func(context.Context, int) error {
		t.Error("fn ran")
		return nil
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, locker.WithSlot(ctx, "", 1, 0, unexpected), namedlock.ErrInvalidName)
	assert.ErrorIs(t, locker.WithSlot(ctx, "x", 1, -1, unexpected), namedlock.ErrInvalidTimeout)
	assert.ErrorIs(t, locker.WithSlot(ended, "x", 1, 0, unexpected), context.Canceled)
	assert.ErrorContains(t, locker.WithSlot(none, "x", 1, 0, unexpected), "context is nil")
	assert.ErrorContains(t, locker.WithSlot(ctx, "x", 1, 0, nil), "function")
	assert.Error(t, new(namedlock.Locker).WithSlot(ctx, "x", 1, 0, unexpected))
	for _, n := range []int{-1, 0, 1001} {
		err := locker.WithSlot(ctx, "x", n, 0, unexpected)
		assert.EqualError(t, err, fmt.Sprintf(`namedlock: acquire "x": invalid number of slots %d: must be 1 to 1000`, n))
	}
	err := locker.WithSlot(ctx, strings.Repeat("é", 60), 4, 0, unexpected)
	assert.ErrorIs(t, err, namedlock.ErrInvalidName)
	assert.ErrorContains(t, err, "invalid lock name: it has 60 characters, namespace included: at most 59 are allowed, since the locks of its slots have names like \"…#gate\"")
	require.NoError(t, locker.Close())
	assert.ErrorIs(t, locker.WithSlot(ctx, "x", 1, 0, unexpected), namedlock.ErrClosed)
}

// Each caller has a slot of its own. At most n run at a time, in all processes
// together.
func TestWithSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithNamespace("app/"))
		defer locks.Close()
		peer := locks.Peer()
		defer peer.Close()
		name := strings.Repeat("n", 55)
		const n = 12
		var mu sync.Mutex
		var in [n]bool
		most, running := 0, 0
		var work sync.WaitGroup
		began := time.Now()
		for i := range 10 * n {
			l := []*locktest.Locker{locks, peer}[i%2]
			work.Go(func() {
				assert.NoError(t, l.WithSlot(ctx, name, n, time.Minute, func(_ context.Context, slot int) error {
					mu.Lock()
					assert.False(t, in[slot], "two in slot %d", slot)
					in[slot] = true
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					in[slot] = false
					running--
					mu.Unlock()
					return nil
				}))
			})
		}
		work.Wait()
		assert.Equal(t, n, most)
		assert.LessOrEqual(t, time.Since(began), 11*time.Second)
		stats := locks.Stats()
		assert.EqualValues(t, 5*n, stats.Acquired, "a slot is one lock, and the gate is none")
		assert.Zero(t, stats.Held)
		assert.Zero(t, stats.Waiting)
		assert.Empty(t, locks.HeldNames())
	})
}

// The slot is released however fn ends, and fn's error is returned unchanged.
func TestWithSlotReleases(t *testing.T) {
	for what, end := range map[string]func() error{
		"nil":    func() error { return nil },
		"error":  func() error { return errOwn },
		"panic":  func() error { panic(errOwn) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				locks := locktest.New()
				defer locks.Close()
				var err error
				var value any
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { value = recover() }()
					err = locks.WithSlot(ctx, "x", 2, 0, func(ctx context.Context, slot int) error {
						assert.Equal(t, []string{"x#0"}, locks.HeldNames())
						assert.Equal(t, 1, locks.Stats().Held)
						return end()
					})
				}()
				<-done
				switch what {
				case "error":
					assert.Equal(t, errOwn, err)
				case "panic":
					assert.Equal(t, errOwn, value)
				default:
					assert.NoError(t, err)
				}
				assert.Empty(t, locks.HeldNames())
			})
		})
	}
}

// The loss of a slot is that of a lock: fn is told, and the next caller has the
// slot.
func TestWithSlotLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		peer := locks.Peer()
		defer peer.Close()
		err := locks.WithSlot(ctx, "x", 1, 0, func(ctx context.Context, slot int) error {
			locks.Lose("x#0")
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			assert.Equal(t, "x", errorOf(t, context.Cause(ctx)).Name)
			assert.NoError(t, peer.WithSlot(context.Background(), "x", 1, 0, anySlot))
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		assert.Equal(t, "x", errorOf(t, err).Name)
		assert.EqualValues(t, 1, locks.Stats().Lost)
	})
}

// The error of a timeout has the number of slots, and the holder of one of
// them.
func TestWithSlotTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithNamespace("app/"))
		defer locks.Close()
		peer := locks.Peer()
		defer peer.Close()
		require.NoError(t, peer.WithSlot(ctx, "x", 2, 0, func(context.Context, int) error {
			return locks.WithSlot(ctx, "x", 2, 0, func(context.Context, int) error {
				time.Sleep(time.Second)
				waiting := make(chan error)
				go func() { waiting <- locks.WithSlot(ctx, "x", 2, 10*time.Second, anySlot) }()
				time.Sleep(time.Second)
				assert.Equal(t, 1, locks.Stats().Waiting)
				assert.EqualError(t, locks.WithSlot(ctx, "x", 2, 0, anySlot), `namedlock: acquire "x": no free slot (of 2): held by this process for 2s (if the caller itself holds it, pass on the ctx that fn received)`)
				err := <-waiting
				require.ErrorIs(t, err, namedlock.ErrTimeout)
				assert.ErrorContains(t, err, `namedlock: acquire "x": no free slot (of 2) within 10s: held by this process for 11s`)
				assert.Equal(t, "x#1", errorOf(t, err).Holder.Name)
				err = peer.WithSlot(ctx, "y", 2, time.Second, func(ctx context.Context, slot int) error {
					assert.ErrorIs(t, peer.WithSlot(ctx, "y", 4, time.Hour, anySlot), namedlock.ErrReentrant)
					return peer.WithSlot(ctx, "z", 2, 0, anySlot)
				})
				assert.NoError(t, err)
				return nil
			})
		}))
		h, held, err := locks.Holder(ctx, "x#0")
		require.NoError(t, err)
		assert.False(t, held, "%v", h)
		assert.EqualValues(t, 2, locks.Stats().Timeouts)
	})
}

func errorOf(t *testing.T, err error) *namedlock.Error {
	t.Helper()
	e := (*namedlock.Error)(nil)
	require.ErrorAs(t, err, &e)
	return e
}

// With New, everything is on the one session, and no caller blocks it.
func TestWithSlotOnOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		db := server.Open()
		defer db.Close()
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		locks, err := namedlock.New(conn)
		require.NoError(t, err)
		defer locks.Close()
		server.Lock("x#0")
		server.Lock("x#1")
		var work sync.WaitGroup
		for range 2 {
			work.Go(func() {
				assert.NoError(t, locks.WithSlot(ctx, "x", 2, time.Minute, func(context.Context, int) error {
					time.Sleep(time.Second)
					return nil
				}))
			})
		}
		time.Sleep(10 * time.Second)
		assert.LessOrEqual(t, len(server.Sent("_LOCK(")), 10*20*2, "one looks, and one polls for the gate")
		assert.NoError(t, locks.WithLock(ctx, "free", 0, nothing))
		server.Unlock("x#1")
		work.Wait()
		server.Unlock("x#0")
	})
}

// Hooks see one call, and the number of the slot. A long wait is logged once.
func TestWithSlotIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, r := new(bytes.Buffer), &record{}
		locks := locktest.New(namedlock.WithHooks(r.hooks("")), namedlock.WithLogger(textLogger(log)))
		first, second := locks.HoldElsewhere("x#0"), locks.HoldElsewhere("x#1")
		go func() {
			time.Sleep(20 * time.Second)
			second()
		}()
		require.NoError(t, locks.WithSlot(ctx, "x", 2, time.Minute, func(ctx context.Context, slot int) error {
			assert.Equal(t, 1, slot)
			return nil
		}))
		assert.ErrorIs(t, locks.WithSlot(ctx, "x", 1, 0, anySlot), namedlock.ErrTimeout)
		first()
		require.NoError(t, locks.Close())
		assert.Equal(t, []string{"opened", "started", "acquired", "released", "started", "failed", "closed"}, r.kinds)
		for i, e := range r.events[1:6] {
			assert.Equal(t, "WithSlot", e.Method)
			assert.Equal(t, "x", e.Name)
			assert.Equal(t, i == 1 || i == 2, e.Slot == 1)
		}
		assert.Equal(t, 1, strings.Count(log.String(), "still waiting for a lock"))
		assert.Contains(t, log.String(), "held_by_this_process=false")
		assert.Contains(t, log.String(), "acquired a lock after a long wait")
	})
}

// A timeout that is a little less than Forever, such as the rest of one, lasts.
func TestWithSlotAlmostForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		one, two := locks.HoldElsewhere("x#0"), locks.HoldElsewhere("x#1")
		defer two()
		time.AfterFunc(time.Second, func() { one() })
		require.NoError(t, locks.WithSlot(ctx, "x", 2, namedlock.Forever-1, anySlot))
	})
}
