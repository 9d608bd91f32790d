package namedlock_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

func TestWithLocksTakesAllInOrderAndReleasesInReverse(t *testing.T) {
	locker, mock, db := mocked(t, namedlock.WithNamespace("app/"))
	expectLocks(mock, "app/a", "app/B", "app/c")

	given := []string{"c", "B", "a", "b", "c", "C"}
	ran := false
	err := locker.WithLocks(ctx, given, 0, func(ctx context.Context) error {
		ran = true
		for _, name := range []string{"a", "b", "c"} {
			assert.ErrorIs(t, locker.WithLock(ctx, name, 0, nothing), namedlock.ErrReentrant)
		}
		return ctx.Err()
	})

	require.NoError(t, err)
	assert.True(t, ran)
	assert.Equal(t, []string{"c", "B", "a", "b", "c", "C"}, given, "the caller's list was changed")
	assertPooled(t, db)
}

func TestWithLocksGivesBackWhatItGotAndNamesWhatItDidNot(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "a")
	mock.ExpectPrepare(getLock).ExpectQuery().WithArgs("b", 0).WillReturnRows(answer(0))
	expectUnlock(mock, "a")

	err := locker.WithLocks(ctx, []string{"c", "b", "a"}, 0, mustNotRun(t))

	requireName(t, err, namedlock.ErrTimeout, "b")
	assertPooled(t, db)
}

func TestWithLocksBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	ended, end := context.WithCancel(ctx)
	end()

	requireName(t, locker.WithLocks(ctx, nil, 0, mustNotRun(t)), namedlock.ErrInvalidName, "")
	requireName(t, locker.WithLocks(ctx, []string{"a", ""}, 0, mustNotRun(t)), namedlock.ErrInvalidName, "")
	requireName(t, locker.WithLocks(ctx, []string{"a", "\x00"}, 0, mustNotRun(t)), namedlock.ErrInvalidName, "\x00")
	requireName(t, locker.WithLocks(ctx, []string{"b", "a"}, -1, mustNotRun(t)), namedlock.ErrInvalidTimeout, "b")
	requireName(t, locker.WithLocks(ended, []string{"b", "a"}, 0, mustNotRun(t)), context.Canceled, "a")
	var e *namedlock.Error
	require.ErrorAs(t, locker.WithLocks(ctx, []string{"a"}, 0, nil), &e)
	//lint:ignore SA1012 a nil context is what this asks about
	require.ErrorAs(t, locker.WithLocks(nil, []string{"a"}, 0, mustNotRun(t)), &e)
}

func TestWithLocksOfAHeldNameTakesNothing(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "b")
	expectUnlock(mock, "b")

	err := locker.WithLock(ctx, "b", 0, func(ctx context.Context) error {
		return locker.WithLocks(ctx, []string{"a", "B"}, time.Minute, mustNotRun(t))
	})

	requireName(t, err, namedlock.ErrReentrant, "B")
}

func TestWithLocksReturnsFnsErrorAsItIs(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLocks(mock, "a", "b")
	failed := errors.New("failed")

	assert.Same(t, failed, locker.WithLocks(ctx, []string{"a", "b"}, 0, func(context.Context) error { return failed }))
}

func TestWithLocksReportsALossBesideFnsError(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "a")
	mock.ExpectPrepare(getLock).ExpectQuery().WithArgs("b", 0).WillReturnRows(answer(1))
	mock.ExpectQuery(releaseLock).WithArgs("b").WillReturnRows(answer(nil))
	failed := errors.New("failed")

	err := locker.WithLocks(ctx, []string{"a", "b"}, 0, func(context.Context) error { return failed })

	require.ErrorIs(t, err, failed)
	requireName(t, err, namedlock.ErrLost, "b")
	assertDiscarded(t, db)
}

func TestWithLocksReleasesAllInAPanicAndAnExit(t *testing.T) {
	for what, fn := range map[string]func(context.Context) error{
		"panic": func(context.Context) error { panic("stop") },
		"exit":  func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLocks(mock, "a", "b")

			panicked := make(chan any)
			go func() {
				defer func() { panicked <- recover() }()
				_ = locker.WithLocks(ctx, []string{"a", "b"}, 0, fn)
			}()
			if got := <-panicked; what == "panic" {
				assert.Equal(t, "stop", got)
			}
			assertPooled(t, db)
		})
	}
}

// The timeout is for both locks: the second wait has the rest of it.
func TestWithLocksHasOneDeadlineForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t, namedlock.WithKeepAlive(time.Hour))
		defer db.Close()
		expectLock(mock, "a")
		get := mock.ExpectPrepare(getLock)
		get.ExpectQuery().WithArgs("b", 0).WillReturnRows(answer(1))
		expectUnlock(mock, "a")
		get.ExpectQuery().WithArgs("a", 0).WillReturnRows(answer(1))
		release := mock.ExpectPrepare(releaseLock)
		release.ExpectQuery().WithArgs("a").WillReturnRows(answer(1))
		release.ExpectQuery().WithArgs("b").WillReturnRows(answer(1))
		a, err := locker.Acquire(ctx, "a", 0)
		require.NoError(t, err)
		b, err := locker.Acquire(ctx, "b", 0)
		require.NoError(t, err)
		time.AfterFunc(3*time.Second, func() { _ = a.Release() })

		start := time.Now()
		err = locker.WithLocks(ctx, []string{"b", "a"}, 5*time.Second, mustNotRun(t))

		requireName(t, err, namedlock.ErrTimeout, "b")
		assert.ErrorContains(t, err, "within 5s")
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.NoError(t, b.Release())
	})
}

// expectLocks expects the names to be acquired in this order, and released in
// the reverse order.
func expectLocks(mock sqlmock.Sqlmock, first string, others ...string) {
	expectLock(mock, first)
	get := mock.ExpectPrepare(getLock)
	for _, name := range others {
		get.ExpectQuery().WithArgs(name, 0).WillReturnRows(answer(1))
	}
	all := append([]string{first}, others...)
	expectUnlock(mock, all[len(all)-1])
	release := mock.ExpectPrepare(releaseLock)
	for _, name := range slices.Backward(all[:len(all)-1]) {
		release.ExpectQuery().WithArgs(name).WillReturnRows(answer(1))
	}
}

func mustNotRun(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("fn has run")
		return nil
	}
}

func requireName(t *testing.T, err, sentinel error, name string) {
	t.Helper()
	require.ErrorIs(t, err, sentinel)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, name, e.Name)
}

// several is an error that == cannot compare.
type several []error

func (several) Error() string { return "several" }

func TestWithLocksReturnsAnErrorThatDoesNotCompare(t *testing.T) {
	var released atomic.Int64
	locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) {
		assert.NoError(t, e.Err)
		released.Add(1)
	}}))
	err := locks.WithLocks(t.Context(), []string{"a", "b"}, 0, func(context.Context) error { return several{errOwn} })
	assert.Equal(t, several{errOwn}, err)
	assert.EqualValues(t, 1, released.Load())
	require.NoError(t, locks.Close())
}

// WithLocks with Forever waits for each lock, without a limit.
func TestWithLocksForever(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for _, name := range []string{"a", "b"} {
			b.server.Lock(name)
			time.AfterFunc(2*time.Hour, func() { b.server.Unlock(name) })
		}
		require.NoError(b, b.locker.WithLocks(b.Context(), []string{"a", "b"}, namedlock.Forever, nothing))
	}, namedlock.WithProbe(0))
}
