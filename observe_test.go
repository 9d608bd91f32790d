package namedlock_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// A record is what hooks were told.
type record struct {
	mu     sync.Mutex
	kinds  []string
	events []namedlock.Event
}

func (r *record) hook(kind string) func(namedlock.Event) {
	return func(e namedlock.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.kinds = append(r.kinds, kind)
		r.events = append(r.events, e)
	}
}

func (r *record) hooks() namedlock.Hooks {
	return namedlock.Hooks{
		AcquireStarted:   r.hook("started"),
		Waiting:          r.hook("waiting"),
		Acquired:         r.hook("acquired"),
		Released:         r.hook("released"),
		Lost:             r.hook("lost"),
		SessionOpened:    r.hook("opened"),
		SessionDiscarded: r.hook("discarded"),
	}
}

// of returns the one event of that kind.
func (r *record) of(t *testing.T, kind string) (found namedlock.Event) {
	t.Helper()
	n := 0
	for i, k := range r.kinds {
		if k == kind {
			found = r.events[i]
			n++
		}
	}
	require.Equal(t, 1, n, "events %q among %q", kind, r.kinds)
	return found
}

type traceKey struct{}

func TestHooksSeeAQuietLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks()), namedlock.WithNamespace("app/"))
		traced := context.WithValue(ctx, traceKey{}, "42")
		require.NoError(t, locks.WithLock(traced, "report", time.Minute, func(context.Context) error {
			time.Sleep(3 * time.Second)
			return nil
		}))
		require.NoError(t, locks.Close())

		assert.Equal(t, []string{"started", "opened", "acquired", "released"}, r.kinds)
		for i, e := range r.events {
			if r.kinds[i] != "opened" {
				assert.Equal(t, "report", e.Name, "without the namespace")
				assert.Equal(t, "42", e.Context.Value(traceKey{}))
			}
			assert.NoError(t, e.Err)
			assert.False(t, e.Time.IsZero())
		}
		assert.Equal(t, 3*time.Second, r.of(t, "released").Held)
		assert.Equal(t, time.Minute, r.of(t, "acquired").Timeout)
	})
}

func TestHooksSeeAWaitAndItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks()))
		defer locks.HoldElsewhere("report")()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 2*time.Second, nothing), namedlock.ErrTimeout)
		synctest.Wait() // until the session that waited is free again
		require.ErrorIs(t, locks.WithLock(ctx, "report", 0, nothing), namedlock.ErrTimeout)
		require.NoError(t, locks.Close())

		assert.Equal(t, []string{"started", "opened", "waiting", "acquired", "started", "acquired"}, r.kinds,
			"who tries once does not wait")
		assert.ErrorIs(t, r.events[3].Err, namedlock.ErrTimeout)
		assert.GreaterOrEqual(t, r.events[3].Waited, 2*time.Second)
	})
}

func TestHooksSeeALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks()))
		err := locks.WithLock(ctx, "report", time.Minute, func(ctx context.Context) error {
			time.Sleep(time.Second)
			locks.Lose("report")
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		assert.EqualValues(t, 1, locks.Stats().Lost)
		require.NoError(t, locks.Close())

		lost := r.of(t, "lost")
		assert.ErrorIs(t, lost.Err, namedlock.ErrLost)
		assert.InDelta(t, time.Second, lost.Held, float64(100*time.Millisecond))
		assert.ErrorIs(t, r.of(t, "released").Err, namedlock.ErrLost)
		assert.Error(t, r.of(t, "discarded").Err)
	})
}

func TestHooksSeeALossThatTheReleaseFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r record
		locks := locktest.New(namedlock.WithHooks(r.hooks()))
		failure := errors.New("the cable is cut")
		locks.FailNextRelease(failure)
		require.ErrorIs(t, locks.WithLock(ctx, "report", time.Minute, nothing), failure)
		assert.EqualValues(t, 1, locks.Stats().Lost)
		require.NoError(t, locks.Close())
		assert.Equal(t, []string{"started", "opened", "acquired", "discarded", "lost", "released"}, r.kinds)
	})
}

// Whatever a hook does, locks are taken and released, and Close returns.
func TestAHookThatMisbehavesHoldsNobodyUp(t *testing.T) {
	var log bytes.Buffer
	var forever chan struct{}
	for what, hook := range map[string]func(namedlock.Event){
		"blocks": func(namedlock.Event) { <-forever },
		"panics": func(namedlock.Event) { panic("a bad hook") },
		"exits":  func(namedlock.Event) { runtime.Goexit() },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				forever = make(chan struct{})
				locks := locktest.New(namedlock.WithLogger(textLogger(&log)), namedlock.WithHooks(namedlock.Hooks{
					AcquireStarted: hook, Waiting: hook, Acquired: hook, Released: hook, Lost: hook, SessionOpened: hook, SessionDiscarded: hook,
				}))
				for range 3 {
					require.NoError(t, locks.WithLock(ctx, "report", time.Minute, nothing))
				}
				release := locks.HoldElsewhere("report")
				require.ErrorIs(t, locks.WithLock(ctx, "report", time.Second, nothing), namedlock.ErrTimeout)
				release()
				begun := time.Now()
				require.NoError(t, locks.Close())
				assert.LessOrEqual(t, time.Since(begun), 6*time.Second)
				close(forever)
			})
		})
	}
	assert.Contains(t, log.String(), "a bad hook")
}

func TestTooManyEventsAreDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{AcquireStarted: func(namedlock.Event) { <-block }}))
		const calls = 10_010
		for range calls {
			_, _ = locks.Acquire(ctx, "", 0)
		}
		assert.InDelta(t, 10, locks.Stats().DroppedEvents, 1, "one may be under way")
		close(block)
		require.NoError(t, locks.Close())
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithHandOff(time.Hour))
		assert.Equal(t, namedlock.Stats{}, locks.Stats())

		lock, err := locks.Acquire(ctx, "report", 0)
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- locks.WithLock(ctx, "report", namedlock.Forever, nothing) }()
		synctest.Wait()
		assert.Equal(t, namedlock.Stats{Held: 1, Waiting: 1, Sessions: 1, Acquired: 1}, locks.Stats())

		time.Sleep(time.Second)
		require.ErrorIs(t, locks.WithLock(ctx, "report", time.Second, nothing), namedlock.ErrTimeout)
		require.ErrorIs(t, locks.WithLock(ctx, "", time.Second, nothing), namedlock.ErrInvalidName)
		require.NoError(t, lock.Release())
		require.NoError(t, lock.Release(), "counts once")
		require.NoError(t, <-done)
		assert.Equal(t, namedlock.Stats{
			Sessions: 1, Acquired: 2, Timeouts: 1, Failed: 1, HandOffs: 1,
			WaitTime: 3 * time.Second, HoldTime: 2 * time.Second,
		}, locks.Stats())
		require.NoError(t, locks.Close())
		assert.Zero(t, locks.Stats().Sessions)
	})
}

func TestASlowWaitIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		release := locks.HoldElsewhere("report")
		time.AfterFunc(4*time.Second, release)
		require.NoError(t, locks.WithLock(ctx, "report", time.Minute, nothing))
		assert.Empty(t, log.String(), "four seconds are no long wait")

		release = locks.HoldElsewhere("report")
		time.AfterFunc(20*time.Second, release)
		require.NoError(t, locks.WithLock(ctx, "report", time.Minute, nothing))
		require.NoError(t, locks.Close())
		synctest.Wait()
		assert.Contains(t, log.String(), `level=WARN msg="namedlock: still waiting for a lock" name=report waited=5s timeout=1m0s`)
		assert.Contains(t, log.String(), `level=INFO msg="namedlock: acquired a lock after a long wait" name=report waited=20`)
	})
}

// A wait that its timeout ends about when it would be called long is told of once.
func TestAWaitOfFiveSecondsIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		defer locks.HoldElsewhere("report")()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 5*time.Second, nothing), namedlock.ErrTimeout)
		require.NoError(t, locks.Close())
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
		assert.Contains(t, log.String(), `msg="namedlock: waited long for a lock, in vain" name=report waited=5s`)
	})
}

func TestACloseThatWaitsIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)), namedlock.WithNamespace("n:"))
		first, err := locks.Acquire(ctx, "one", 0)
		require.NoError(t, err)
		second, err := locks.Acquire(ctx, "another", 0)
		require.NoError(t, err)
		time.AfterFunc(10*time.Second, func() {
			_ = first.Release()
			_ = second.Release()
		})
		require.NoError(t, locks.Close())
		synctest.Wait()
		assert.Contains(t, log.String(), `level=WARN msg="namedlock: Close waits for locks that are still held" names="[another one]"`)
	})
}

// Close returns when the hooks have been told of all that it has ended, and Stats agree.
func TestCloseWaitsUntilTheHooksKnow(t *testing.T) {
	const calls = 2000
	for range 20 {
		var told atomic.Int64
		locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{Acquired: func(namedlock.Event) { told.Add(1) }}))
		release := locks.HoldElsewhere("report")
		var began sync.WaitGroup
		for range calls {
			began.Add(1)
			go func() {
				began.Done()
				_ = locks.WithLock(ctx, "report", namedlock.Forever, nothing)
			}()
		}
		began.Wait()
		for locks.Stats().Waiting < calls {
			runtime.Gosched()
		}
		require.NoError(t, locks.Close())
		assert.EqualValues(t, calls, told.Load())
		stats := locks.Stats()
		assert.Zero(t, stats.Waiting)
		assert.EqualValues(t, calls, stats.Failed)
		release()
	}
}

// A blocking is a handler that does not return, as one that writes to a full pipe.
type blocking struct {
	slog.Handler
	until chan struct{}
}

func (h blocking) Enabled(context.Context, slog.Level) bool {
	<-h.until
	return true
}

// A log that blocks holds up no call and no release, and Close for 5 s at most.
func TestALogThatBlocksHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		defer close(until)
		locks := locktest.New(namedlock.WithLogger(slog.New(blocking{slog.DiscardHandler, until})))
		release := locks.HoldElsewhere("report")
		begun := time.Now()
		require.ErrorIs(t, locks.WithLock(ctx, "report", 10*time.Second, nothing), namedlock.ErrTimeout)
		assert.Equal(t, 10*time.Second, time.Since(begun).Truncate(100*time.Millisecond))
		release()
		begun = time.Now()
		err := locks.WithLock(ctx, "report", time.Second, func(context.Context) error {
			locks.Lose("report")
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.NoError(t, locks.WithLock(ctx, "report", time.Second, nothing))
		assert.Less(t, time.Since(begun), time.Second)
		begun = time.Now()
		require.NoError(t, locks.Close())
		assert.LessOrEqual(t, time.Since(begun), 5*time.Second)
	})
}

// A handler that panics loses its line, and nothing else.
func TestALogThatPanicsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithLogger(slog.New(panicking{slog.DiscardHandler})))
		err := locks.WithLock(ctx, "report", time.Second, func(context.Context) error {
			locks.Lose("report")
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.NoError(t, locks.Close())
	})
}

type panicking struct{ slog.Handler }

func (panicking) Enabled(context.Context, slog.Level) bool { panic("a bad log") }

// Many calls that wait for the same name are worth one line a minute.
func TestLongWaitsAreLoggedOnceANameAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(textLogger(&log)))
		release := locks.HoldElsewhere("report")
		defer locks.HoldElsewhere("other")()
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() { _ = locks.WithLock(ctx, "report", namedlock.Forever, nothing) })
		}
		calls.Go(func() { _ = locks.WithLock(ctx, "other", 10*time.Second, nothing) })
		time.Sleep(30 * time.Second)
		release()
		calls.Wait()
		require.NoError(t, locks.Close())
		assert.Equal(t, 2, strings.Count(log.String(), "still waiting"), log.String())
		assert.Contains(t, log.String(), "name=report waited=5s timeout=forever")
		assert.Contains(t, log.String(), "name=other waited=5s timeout=10s")
	})
}
