package namedlock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

func write(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT")
	return err
}

func expectWrite(mock sqlmock.Sqlmock) {
	mock.ExpectExec("INSERT").WillReturnResult(sqlmock.NewResult(0, 1))
}

func withLockTx(l *namedlock.Locker, fn func(context.Context, *sql.Tx) error) error {
	return l.WithLockTx(ctx, "report", time.Second, nil, fn)
}

func unexpectedTx(t *testing.T) func(context.Context, *sql.Tx) error {
	return func(context.Context, *sql.Tx) error {
		t.Error("fn ran")
		return nil
	}
}

func TestWithLockTxSendsFiveStatements(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	expectWrite(mock)
	mock.ExpectCommit()
	expectUnlock(mock, "report")

	require.NoError(t, withLockTx(locker, write))
	assertPooled(t, db)
}

func TestWithLockTxBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("enough"))

	assert.ErrorContains(t, locker.WithLockTx(ctx, "report", 0, nil, nil), "function")
	assert.ErrorIs(t, locker.WithLockTx(ctx, "", 0, nil, unexpectedTx(t)), namedlock.ErrInvalidName)
	assert.ErrorIs(t, locker.WithLockTx(ctx, "report", -1, nil, unexpectedTx(t)), namedlock.ErrInvalidTimeout)
	assert.ErrorContains(t, locker.WithLockTx(ctx, "report", 0, &sql.TxOptions{Isolation: sql.LevelLinearizable}, unexpectedTx(t)), "isolation level Linearizable")
	assert.ErrorIs(t, locker.WithLockTx(ended, "report", 0, nil, unexpectedTx(t)), context.Canceled)
	assert.Error(t, new(namedlock.Locker).WithLockTx(ctx, "report", 0, nil, unexpectedTx(t)))
}

func TestWithLockTxBeginRefused(t *testing.T) {
	locker, mock, db := mocked(t)
	refused := &mysql.MySQLError{Number: 1290, Message: "read-only"}
	expectLock(mock, "report")
	mock.ExpectBegin().WillReturnError(refused)
	expectUnlock(mock, "report")

	err := withLockTx(locker, unexpectedTx(t))
	assert.ErrorIs(t, err, refused)
	assert.ErrorIs(t, err, namedlock.ErrUnavailable)
	assertPooled(t, db)
}

func TestWithLockTxBeginLost(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin().WillReturnError(mysql.ErrInvalidConn)

	err := withLockTx(locker, unexpectedTx(t))
	assert.ErrorIs(t, err, mysql.ErrInvalidConn)
	assert.ErrorIs(t, err, namedlock.ErrUnavailable)
	assertDiscarded(t, db)
}

func TestWithLockTxRollsBack(t *testing.T) {
	own := errors.New("fn's own")
	for how, end := range map[string]func(cancel func()) error{
		"error":  func(func()) error { return own },
		"panic":  func(func()) error { panic(own) },
		"goexit": func(func()) error { runtime.Goexit(); return nil },
		"cancel": func(cancel func()) error { cancel(); return nil },
	} {
		t.Run(how, func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			mock.ExpectBegin()
			expectWrite(mock)
			mock.ExpectRollback()
			expectUnlock(mock, "report")

			ctx, cancel := context.WithCancelCause(ctx)
			var err error
			var panicked any
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { panicked = recover() }()
				err = locker.WithLockTx(ctx, "report", time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
					if err := write(ctx, tx); err != nil {
						return err
					}
					return end(func() { cancel(own) })
				})
			}()
			<-ended
			switch how {
			case "error":
				assert.Equal(t, own, err)
			case "panic":
				assert.Equal(t, own, panicked)
			case "cancel":
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, own)
				assert.NotErrorIs(t, err, namedlock.ErrLost)
			}
			assertPooled(t, db)
		})
	}
}

// If ROLLBACK fails, the server rolls back when the session ends.
func TestWithLockTxRollbackLost(t *testing.T) {
	locker, mock, db := mocked(t)
	own := errors.New("fn's own")
	expectLock(mock, "report")
	mock.ExpectBegin()
	mock.ExpectRollback().WillReturnError(mysql.ErrInvalidConn)

	err := withLockTx(locker, func(context.Context, *sql.Tx) error { return own })
	assert.ErrorIs(t, err, own)
	assert.ErrorIs(t, err, namedlock.ErrLost)
	assertDiscarded(t, db)
}

func TestWithLockTxCommitRefused(t *testing.T) {
	locker, mock, db := mocked(t)
	refused := &mysql.MySQLError{Number: 1290, Message: "read-only"}
	expectLock(mock, "report")
	mock.ExpectBegin()
	expectWrite(mock)
	mock.ExpectCommit().WillReturnError(refused)
	mock.ExpectQuery("ROLLBACK").WillReturnRows(answer())
	expectUnlock(mock, "report")

	err := withLockTx(locker, write)
	assert.ErrorIs(t, err, refused)
	assert.NotErrorIs(t, err, namedlock.ErrCommitUnknown)
	assert.NotErrorIs(t, err, namedlock.ErrLost)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "commit", e.Op)
	assertPooled(t, db)
}

func TestWithLockTxCommitUnknown(t *testing.T) {
	for _, cause := range []error{mysql.ErrInvalidConn, driver.ErrBadConn, errors.New("no MySQL"), &mysql.MySQLError{Number: 1317}} {
		t.Run(cause.Error(), func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			mock.ExpectBegin()
			expectWrite(mock)
			mock.ExpectCommit().WillReturnError(cause)

			err := withLockTx(locker, write)
			assert.ErrorIs(t, err, namedlock.ErrCommitUnknown)
			assert.ErrorIs(t, err, cause)
			assert.NotErrorIs(t, err, namedlock.ErrLost)
			assertDiscarded(t, db)
		})
	}
}

func TestWithLockTxEndedByFn(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	mock.ExpectCommit()
	expectUnlock(mock, "report")

	err := withLockTx(locker, func(_ context.Context, tx *sql.Tx) error { return tx.Commit() })
	assert.Equal(t, sql.ErrTxDone, err)
	assertPooled(t, db)
}

// A loss that the release finds after a commit is reported, and so is the
// commit.
func TestWithLockTxLostAfterCommit(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	mock.ExpectCommit()
	mock.ExpectQuery(releaseLock).WithArgs("report").WillReturnRows(answer(nil))

	err := withLockTx(locker, func(context.Context, *sql.Tx) error { return nil })
	assert.ErrorIs(t, err, namedlock.ErrLost)
	assert.EqualError(t, err, `namedlock: release "report": the transaction was committed; lock lost before its release: RELEASE_LOCK returned NULL: no session holds the lock`)
	assertDiscarded(t, db)
}

func TestWithLockTxTwiceInAChain(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	mock.ExpectRollback()
	expectUnlock(mock, "report")

	err := withLockTx(locker, func(ctx context.Context, _ *sql.Tx) error {
		return locker.WithLockTx(ctx, "other", time.Second, nil, unexpectedTx(t))
	})
	assert.ErrorIs(t, err, namedlock.ErrInTransaction)
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "other", e.Name)
}
