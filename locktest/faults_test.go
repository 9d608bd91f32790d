package locktest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

var errRefused = errors.New("connection refused")

// An outage lasts until Fail(nil). It ends the locks of its Locker, and does
// not affect other Lockers.
func TestFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := locktest.New()
		defer l.Close()
		p := peer(t, l)
		err := l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			l.Fail(errRefused)
			<-ctx.Done()
			return context.Cause(ctx)
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		for range 3 {
			err := l.WithLock(t.Context(), "a", 0, nothing)
			require.ErrorIs(t, err, namedlock.ErrUnavailable)
			require.ErrorIs(t, err, errRefused)
			time.Sleep(time.Minute)
		}
		require.NoError(t, p.WithLock(t.Context(), "a", 0, nothing))
		l.Fail(nil)
		require.NoError(t, l.WithLock(t.Context(), "a", 0, nothing))
	})
}

// A wait, and a leader, outlast it.
func TestFail_IsOutlasted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := locktest.New()
		defer l.Close()
		release := l.HoldElsewhere("a")
		time.AfterFunc(5*time.Second, func() { l.Fail(errRefused) })
		time.AfterFunc(10*time.Second, func() { l.Fail(nil) })
		time.AfterFunc(15*time.Second, release)
		require.NoError(t, l.WithLock(t.Context(), "a", time.Minute, nothing))

		terms := 0
		require.NoError(t, l.Lead(t.Context(), "a", func(ctx context.Context, _ *namedlock.Term) error {
			if terms++; terms == 2 {
				return nil
			}
			l.Fail(errRefused)
			time.AfterFunc(time.Minute, func() { l.Fail(nil) })
			<-ctx.Done()
			return nil
		}))
	})
}

func TestSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := locktest.New(namedlock.WithKeepAlive(time.Second))
		defer l.Close()
		began := time.Now()
		var heal func()
		err := l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			heal = l.Silence()
			<-ctx.Done()
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		assert.LessOrEqual(t, time.Since(began), 2*time.Second)
		began = time.Now()
		require.ErrorIs(t, l.WithLock(t.Context(), "a", 0, nothing), namedlock.ErrUnavailable)
		assert.LessOrEqual(t, time.Since(began), 6*time.Second)
		heal()
		heal()
		require.NoError(t, l.WithLock(t.Context(), "a", 0, nothing))
	})
}

// A silence shorter than the keep-alive's bound is not a loss.
func TestSilence_Short(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := locktest.New(namedlock.WithKeepAlive(time.Second))
		defer l.Close()
		require.NoError(t, l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			heal := l.Silence()
			time.AfterFunc(500*time.Millisecond, heal)
			return l.WithLock(ctx, "b", 0, nothing)
		}))
	})
}

func TestDepose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := locktest.New()
		defer l.Close()
		p := peer(t, l)
		terms := 0
		require.NoError(t, l.Lead(t.Context(), "a", func(ctx context.Context, _ *namedlock.Term) error {
			if terms++; terms == 2 {
				return nil
			}
			reinstate := l.Depose("a")
			<-ctx.Done()
			require.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			require.ErrorIs(t, p.WithLock(t.Context(), "a", 0, nothing), namedlock.ErrTimeout)
			time.AfterFunc(time.Hour, reinstate)
			return nil
		}))
		assert.Panics(t, func() { l.Depose("a") }, "it does not hold it")
	})
}

// The methods that cause faults are safe for concurrent use. (Run with -race.)
func TestTxFrom_Concurrent(t *testing.T) {
	l := locktest.New()
	defer l.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			l.TxFrom(nil)
			_ = locktest.ProcessOf(l)
			assert.NoError(t, l.Peer().Close())
		})
	}
	all.Wait()
}
