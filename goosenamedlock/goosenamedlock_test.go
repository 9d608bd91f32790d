package goosenamedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"log"
	"os"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/goosenamedlock"
)

var ctx = context.Background()

// Migrations that run in one process at a time. For tests on real servers see
// e2e/adapters.
func Example() {
	db, err := sql.Open("mysql", "app:secret@tcp(db.internal:3306)/app?parseTime=true")
	if err != nil {
		log.Fatal(err)
	}
	locker, err := goosenamedlock.NewSessionLocker(goosenamedlock.WithTimeout(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, db, os.DirFS("migrations"), goose.WithSessionLocker(locker))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := provider.Up(ctx); err != nil {
		log.Fatal(err)
	}
}

func mocked(t *testing.T) (*sql.Conn, sqlmock.Sqlmock) {
	t.Helper()
	db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	require.NoError(t, err)
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, mock.ExpectationsWereMet())
		conn.Close()
	})
	return conn, mock
}

func one(value any) *sqlmock.Rows { return sqlmock.NewRows([]string{""}).AddRow(value) }

// bare are options for the two statements of a lock alone.
var bare = goosenamedlock.WithOptions(namedlock.WithoutServerCheck(), namedlock.WithLease(0))

func TestOneNameForEachDatabase(t *testing.T) {
	conn, mock := mocked(t)
	name := namedlock.SafeName("goose", "app")
	mock.ExpectQuery("SELECT DATABASE()").WillReturnRows(one("app"))
	mock.ExpectQuery("SELECT GET_LOCK(?, ?)").WithArgs(name, 0).WillReturnRows(one(1))
	mock.ExpectQuery("SELECT RELEASE_LOCK(?)").WithArgs(name).WillReturnRows(one(1))
	l, err := goosenamedlock.NewSessionLocker(bare)
	require.NoError(t, err)
	require.NoError(t, l.SessionLock(ctx, conn))
	require.NoError(t, l.SessionUnlock(ctx, conn))
	require.Error(t, l.SessionUnlock(ctx, conn), "twice")
}

// A server's error is shown on one line.
func TestTheDatabaseIsNotKnown(t *testing.T) {
	conn, mock := mocked(t)
	mock.ExpectQuery("SELECT DATABASE()").WillReturnError(errors.New("a\nb"))
	l, err := goosenamedlock.NewSessionLocker()
	require.NoError(t, err)
	require.EqualError(t, l.SessionLock(ctx, conn), `namedlock: acquire "": goosenamedlock: a\nb`)
}

func TestOthersMigrate(t *testing.T) {
	conn, mock := mocked(t)
	mock.ExpectQuery("SELECT GET_LOCK(?, ?)").WithArgs("migrations", 0).WillReturnRows(one(0))
	l, err := goosenamedlock.NewSessionLocker(goosenamedlock.WithName("migrations"), goosenamedlock.WithTimeout(0), bare)
	require.NoError(t, err)
	require.ErrorIs(t, l.SessionLock(ctx, conn), namedlock.ErrTimeout)
	require.Error(t, l.SessionUnlock(ctx, conn))
}

func TestBadOptions(t *testing.T) {
	for _, opt := range []goosenamedlock.Option{nil, goosenamedlock.WithName(""), goosenamedlock.WithTimeout(-1)} {
		_, err := goosenamedlock.NewSessionLocker(opt)
		require.ErrorContains(t, err, "goosenamedlock: ")
	}
	conn, _ := mocked(t)
	l, err := goosenamedlock.NewSessionLocker(goosenamedlock.WithName("x"), goosenamedlock.WithOptions(namedlock.WithMaxSessions(-1)))
	require.NoError(t, err)
	require.Error(t, l.SessionLock(ctx, conn))
}
