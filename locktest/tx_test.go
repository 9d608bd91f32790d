package locktest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// emptyDB has transactions, and nothing to put into them.
type emptyDB struct{}

func (emptyDB) Connect(context.Context) (driver.Conn, error) { return emptyDB{}, nil }
func (emptyDB) Driver() driver.Driver                        { return onlyTx{} }
func (emptyDB) Prepare(string) (driver.Stmt, error)          { return nil, errors.New("there is no table") }
func (emptyDB) Begin() (driver.Tx, error)                    { return emptyDB{}, nil }
func (emptyDB) Close() error                                 { return nil }
func (emptyDB) Commit() error                                { return nil }
func (emptyDB) Rollback() error                              { return nil }

type onlyTx struct{}

func (onlyTx) Open(string) (driver.Conn, error) { return emptyDB{}, nil }

func write(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO bills VALUES (?)", 42)
	return err
}

// The lock is in memory, the transaction is the mock's, and AssertHeld works
// inside.
func TestTx_FromAMock(t *testing.T) {
	db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	locks := New()
	defer locks.Close()
	locks.TxFrom(db)
	own := errors.New("own")

	mock.ExpectBegin()
	mock.ExpectExec("INSERT INTO bills VALUES (?)").WithArgs(42).WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectQuery("SELECT n").WillReturnRows(sqlmock.NewRows([]string{"n"}).AddRow(7))
	mock.ExpectCommit()
	if err := locks.WithLockTx(t.Context(), "bills", 0, nil, func(ctx context.Context, tx *sql.Tx) error {
		AssertHeld(t, ctx, locks, "bills")
		var n int
		if err := write(ctx, tx); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, "SELECT n").Scan(&n); err != nil || n != 7 {
			t.Error(n, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	mock.ExpectBegin()
	mock.ExpectRollback()
	if err := locks.WithLockTx(t.Context(), "bills", 0, nil, func(context.Context, *sql.Tx) error { return own }); err != own {
		t.Error(err)
	}

	mock.ExpectBegin()
	mock.ExpectExec("INSERT INTO bills VALUES (?)").WithArgs(42).WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectRollback()
	if err := locks.WithLockTx(t.Context(), "bills", 0, nil, func(ctx context.Context, tx *sql.Tx) error {
		err := write(ctx, tx)
		locks.Lose("bills") // as KILL does
		return err
	}); !errors.Is(err, namedlock.ErrLost) {
		t.Error(err)
	}
	if err := mock.ExpectationsWereMet(); err != nil {
		t.Error(err)
	}
}

// Without a db the error says what is missing.
func TestTx_NoDB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := New()
		defer locks.Close()
		err := locks.WithLockTx(t.Context(), "bills", 0, nil, nothingTx)
		if err == nil || !errors.Is(err, namedlock.ErrUnavailable) {
			t.Error(err)
		}
		t.Log(err)
	})
}

// A unit test of a leader without a db for its transactions is told so, and the
// term goes on.
func TestLocktestLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := New()
		lead := func(ctx context.Context, term *namedlock.Term) error {
			assert.ErrorContains(t, term.WithTx(ctx, nil, nothingInTx), "set one with TxFrom")
			return ctx.Err()
		}
		require.NoError(t, locks.Lead(t.Context(), "x", lead))
		assert.ErrorContains(t, locks.WithLockTx(t.Context(), "x", 0, nil, nothingInTx), "set one with TxFrom")

		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		mock.ExpectBegin()
		mock.ExpectCommit()
		locks.TxFrom(db)
		require.NoError(t, locks.WithLockTx(t.Context(), "x", 0, nil, nothingInTx))
		for _, failure := range []error{namedlock.ErrInTransaction, namedlock.ErrCommitUnknown, errors.New("other")} {
			locks.FailNextAcquire(failure)
			err := locks.Lead(t.Context(), "x", lead)
			require.ErrorIs(t, err, failure)
			assert.Equal(t, failure.Error() == "other", errors.Is(err, namedlock.ErrUnavailable))
		}
		var methods []string
		for _, c := range locks.Calls() {
			methods = append(methods, c.Method)
		}
		assert.Equal(t, []string{"Lead", "WithLockTx", "WithLockTx", "Lead", "Lead", "Lead"}, methods)
		assert.True(t, locks.Calls()[0].Acquired)
		require.NoError(t, locks.Close())
		mock.ExpectClose()
		require.NoError(t, db.Close())
	})
}

func nothingInTx(context.Context, *sql.Tx) error { return nil }
