package namedlock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

func seven(context.Context) (int, error) { return 7, nil }

func TestDoReturnsTheValue(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")

	got, err := namedlock.Do(ctx, locker, "report", 0, seven)

	require.NoError(t, err)
	assert.Equal(t, 7, got)
}

func TestDoReturnsNothingWithoutTheLock(t *testing.T) {
	locker, mock, _ := mocked(t)
	mock.ExpectQuery(getLock).WithArgs("report", 0).WillReturnRows(answer(0))

	got, err := namedlock.Do(ctx, locker, "report", 0, seven)

	require.ErrorIs(t, err, namedlock.ErrTimeout)
	assert.Zero(t, got)
}

func TestDoReturnsTheValueBesideFnsError(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	half := errors.New("half of it")

	got, err := namedlock.Do(ctx, locker, "report", 0, func(context.Context) (int, error) { return 3, half })

	assert.Same(t, half, err)
	assert.Equal(t, 3, got)
}

func TestDoReturnsTheValueThoughTheLockWasLost(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectQuery(releaseLock).WithArgs("report").WillReturnRows(answer(nil))

	got, err := namedlock.Do(ctx, locker, "report", 0, seven)

	require.ErrorIs(t, err, namedlock.ErrLost)
	assert.Equal(t, 7, got)
	assertDiscarded(t, db)
}

func TestDoWithoutAFunction(t *testing.T) {
	locker, _, _ := mocked(t)

	_, err := namedlock.Do[int](ctx, locker, "report", time.Second, nil)

	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "report", e.Name)
}

func TestDoLetsAPanicThrough(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")

	assert.PanicsWithValue(t, "stop", func() {
		_, _ = namedlock.Do(ctx, locker, "report", 0, func(context.Context) (int, error) { panic("stop") })
	})
}
