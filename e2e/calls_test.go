package e2e

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nothing is a function to run under a lock. It does nothing.
func nothing(context.Context) error { return nil }

// unexpected returns a function that must not run.
func unexpected(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("fn has run")
		return nil
	}
}

// A call is a WithLock that runs in a goroutine of its own and holds its lock
// until the test lets it return.
type call struct {
	inLine chan struct{}        // closed when the call waits, or has waited, in the process's queue
	held   chan context.Context // receives fn's context when fn starts
	finish context.CancelCauseFunc
	done   chan error // receives WithLock's error
}

// begin starts a call, which ends with the test at the latest.
func begin(t *testing.T, ctx context.Context, l namedLocker, name string, timeout time.Duration) *call {
	t.Helper()
	finished, finish := context.WithCancelCause(background)
	c := &call{
		inLine: make(chan struct{}),
		held:   make(chan context.Context, 1),
		finish: finish,
		done:   make(chan error, 1),
	}
	t.Cleanup(func() { finish(nil) })
	ctx = &noticed{Context: ctx, noticed: sync.OnceFunc(func() { close(c.inLine) })}
	go func() {
		c.done <- l.WithLock(ctx, name, timeout, func(ctx context.Context) error {
			c.held <- ctx
			<-finished.Done()
			if err := context.Cause(finished); err != context.Canceled {
				return err
			}
			return nil
		})
	}()
	return c
}

type namedLocker interface {
	WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error
}

// noticed is a context that calls noticed when code begins to wait for its end.
type noticed struct {
	context.Context
	noticed func()
}

func (c *noticed) Done() <-chan struct{} {
	c.noticed()
	return c.Context.Done()
}

// queued waits until the call is in the queue, or has left it.
func (c *call) queued(t *testing.T) {
	t.Helper()
	receive(t, c.inLine, "the call is in the queue")
}

// holds waits until the call's fn runs, and returns its context.
func (c *call) holds(t *testing.T) context.Context {
	t.Helper()
	select {
	case ctx := <-c.held:
		return ctx
	case err := <-c.done:
		require.FailNow(t, "the call ended without the lock", "%v", err)
	case <-time.After(patience):
		require.FailNow(t, "the call did not get the lock")
	}
	panic("unreachable")
}

// waits fails the test if the call has the lock or has ended.
func (c *call) waits(t *testing.T) {
	t.Helper()
	select {
	case <-c.held:
		require.FailNow(t, "the call has the lock and should wait")
	case err := <-c.done:
		require.FailNow(t, "the call has ended and should wait", "%v", err)
	default:
	}
}

// err waits until the call ends, and returns its error. The caller must have
// caused the end.
func (c *call) err(t *testing.T) error {
	t.Helper()
	return receive(t, c.done, "the call ends")
}

// release lets the call's fn return nil, and waits until the call ends.
func (c *call) release(t *testing.T) {
	t.Helper()
	c.finish(nil)
	require.NoError(t, c.err(t))
}

// hold begins a call for a lock that is free. It returns when the call holds
// the lock, with fn's context.
func hold(t *testing.T, ctx context.Context, l namedLocker, name string) (*call, context.Context) {
	t.Helper()
	c := begin(t, ctx, l, name, patience)
	return c, c.holds(t)
}

// requireUsable acquires and releases a lock, to show that the Locker still
// works.
func requireUsable(t *testing.T, l namedLocker) {
	t.Helper()
	require.NoError(t, l.WithLock(t.Context(), newName("usable"), 0, nothing))
}

// requireError fails the test unless err is an *Error about the name that
// matches sentinel and no other error type.
func requireError(t *testing.T, err, sentinel error, name string) {
	t.Helper()
	require.ErrorIs(t, err, sentinel)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, name, e.Name)
	for typ, other := range namedlock.ErrorTypes() {
		if !errors.Is(sentinel, other) {
			assert.NotErrorIs(t, err, other, typ)
		}
	}
}
