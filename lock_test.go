package namedlock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// These tests run against a mock of the driver: they show the statements that
// are sent, and the result of every answer. The e2e module tests that servers
// answer in this way.

const (
	getLock     = "SELECT GET_LOCK(?, ?)"
	releaseLock = "SELECT RELEASE_LOCK(?)"
	greeting    = "SELECT VERSION(), @@version_comment, @@character_set_client, @@character_set_connection, @@wait_timeout"
	results     = ", @@character_set_results" // ends each greeting
	checks      = ", RELEASE_ALL_LOCKS(), @@read_only, @@innodb_read_only" + results
	andCluster  = " /*M! , @@wsrep_on */ /*!80000 , (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME IN ('group_replication', 'wsrep')) */"
)

var ctx = context.Background()

func nothing(context.Context) error { return nil }

// mocked returns a Locker on a connection of a mocked db. A statement that the
// test does not expect fails. The test fails if an expected statement is not
// sent.
func mocked(t *testing.T, opts ...namedlock.Option) (*namedlock.Locker, sqlmock.Sqlmock, *sql.DB) {
	t.Helper()
	db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	require.NoError(t, err)
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	locker, err := namedlock.New(conn, append(opts, namedlock.WithoutServerCheck())...)
	require.NoError(t, err)
	t.Cleanup(func() {
		closed := make(chan error, 1)
		go func() { closed <- locker.Close() }()
		select {
		case err := <-closed:
			assert.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Error("Close still waits: a lock was not released")
		}
		assert.NoError(t, mock.ExpectationsWereMet())
	})
	return locker, mock, db
}

// answer is one row.
func answer(values ...driver.Value) *sqlmock.Rows {
	return sqlmock.NewRows(make([]string, len(values))).AddRow(values...)
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// expectLock and expectUnlock expect one half of an uncontended cycle each.
func expectLock(mock sqlmock.Sqlmock, name string) {
	mock.ExpectQuery(getLock).WithArgs(name, 0).WillReturnRows(answer(1))
}

func expectUnlock(mock sqlmock.Sqlmock, name string) {
	mock.ExpectQuery(releaseLock).WithArgs(name).WillReturnRows(answer(1))
}

// assertPooled asserts that the session's connection is alive, and so was not
// discarded.
func assertPooled(t *testing.T, db *sql.DB) {
	t.Helper()
	assert.Equal(t, 1, db.Stats().OpenConnections, "open connections: the session was discarded")
}

func assertDiscarded(t *testing.T, db *sql.DB) {
	t.Helper()
	assert.Equal(t, 0, db.Stats().OpenConnections, "open connections: a session in doubt was kept")
}

func TestWithLockSendsTwoStatements(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")

	ran := false
	err := locker.WithLock(ctx, "report", 5*time.Second, func(ctx context.Context) error {
		ran = true
		return ctx.Err()
	})

	require.NoError(t, err)
	assert.True(t, ran)
	assertPooled(t, db)
}

func TestStatementsArePreparedFromTheirSecondUse(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	get := mock.ExpectPrepare(getLock).WillBeClosed()
	get.ExpectQuery().WithArgs("report", 0).WillReturnRows(answer(1))
	release := mock.ExpectPrepare(releaseLock).WillBeClosed()
	release.ExpectQuery().WithArgs("report").WillReturnRows(answer(1))
	get.ExpectQuery().WithArgs("other", 0).WillReturnRows(answer(1))
	release.ExpectQuery().WithArgs("other").WillReturnRows(answer(1))

	for _, name := range []string{"report", "report", "other"} {
		require.NoError(t, locker.WithLock(ctx, name, 0, nothing))
	}
	require.NoError(t, locker.Close())
	assertPooled(t, db)
}

func TestAServerThatDoesNotPrepareGetsText(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	mock.ExpectPrepare(getLock).WillReturnError(&mysql.MySQLError{Number: 1461, Message: "Can't create more than max_prepared_stmt_count statements"})
	expectLock(mock, "report")
	mock.ExpectPrepare(releaseLock).WillReturnError(&mysql.MySQLError{Number: 1461, Message: "Can't create more than max_prepared_stmt_count statements"})
	expectUnlock(mock, "report")

	for range 2 {
		require.NoError(t, locker.WithLock(ctx, "report", 0, nothing))
	}
	assertPooled(t, db)
}

func TestNewGreetsItsSessionOnce(t *testing.T) {
	db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	require.NoError(t, err)
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	locker, err := namedlock.New(conn)
	require.NoError(t, err)
	require.NoError(t, mock.ExpectationsWereMet(), "New does I/O")

	mock.ExpectQuery(greeting + checks + andCluster).
		WillReturnRows(answer("9.7.4", "MySQL Community Server", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 0))
	expectLock(mock, "a")
	expectUnlock(mock, "a")
	expectPrepared(mock, getLock)
	expectPrepared(mock, releaseLock)

	require.NoError(t, locker.WithLock(ctx, "a", 0, nothing))
	require.NoError(t, locker.WithLock(ctx, "b", 0, nothing))
	require.NoError(t, locker.Close())
	require.NoError(t, conn.PingContext(ctx), "Close does not close the conn that New was given")
	require.NoError(t, mock.ExpectationsWereMet())
}

// If a server does not understand the question for a cluster in the greeting,
// the question is sent alone.
func TestAServerThatCannotTellInTheGreetingIsAsked(t *testing.T) {
	unknown := &mysql.MySQLError{Number: 1193, Message: "Unknown system variable"}
	for what, test := range map[string]struct {
		greet  func(mock sqlmock.Sqlmock)
		ask    string
		answer any
	}{
		"an error, and no cluster": {
			greet: func(mock sqlmock.Sqlmock) {
				mock.ExpectQuery(greeting + checks + andCluster).WillReturnError(unknown)
				mock.ExpectQuery(greeting + checks).WillReturnRows(answer("11.8.2-MariaDB", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4"))
			},
			ask: "SELECT @@wsrep_on",
		},
		"no InnoDB, and no cluster": { // with a number that neither MySQL nor MariaDB uses
			greet: func(mock sqlmock.Sqlmock) {
				noInnoDB := &mysql.MySQLError{Number: 1105, Message: "Unknown system variable '@@innodb_read_only'"}
				mock.ExpectQuery(greeting + checks + andCluster).WillReturnError(noInnoDB)
				mock.ExpectQuery(greeting + checks).WillReturnError(noInnoDB)
				mock.ExpectQuery(greeting + strings.Replace(checks, ", @@innodb_read_only", "", 1)).
					WillReturnRows(answer("11.8.2-MariaDB", "", "utf8mb4", "utf8mb4", 28800, 0, 0, "utf8mb4"))
			},
			ask: "SELECT @@wsrep_on",
		},
		"no such column, and no cluster": {
			greet: func(mock sqlmock.Sqlmock) {
				mock.ExpectQuery(greeting + checks + andCluster).WillReturnRows(answer("5.7.44", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4"))
			},
			ask: "SELECT @@group_replication_single_primary_mode",
		},
		"a plugin, but one primary": {
			greet: func(mock sqlmock.Sqlmock) {
				mock.ExpectQuery(greeting + checks + andCluster).WillReturnRows(answer("8.4.0", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 1))
			},
			ask:    "SELECT @@group_replication_single_primary_mode",
			answer: "ON",
		},
	} {
		t.Run(what, func(t *testing.T) {
			db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
			require.NoError(t, err)
			conn, err := db.Conn(ctx)
			require.NoError(t, err)
			locker, err := namedlock.New(conn)
			require.NoError(t, err)
			test.greet(mock)
			if test.answer == nil {
				mock.ExpectQuery(test.ask).WillReturnError(unknown)
			} else {
				mock.ExpectQuery(test.ask).WillReturnRows(answer(test.answer))
			}
			expectLock(mock, "a")
			expectUnlock(mock, "a")
			require.NoError(t, locker.WithLock(ctx, "a", 0, nothing))
			require.NoError(t, locker.Close())
			require.NoError(t, mock.ExpectationsWereMet())
		})
	}
}

func expectPrepared(mock sqlmock.Sqlmock, statement string) {
	mock.ExpectPrepare(statement).ExpectQuery().WillReturnRows(answer(1))
}

func TestTheLockIsReleasedHoweverFnEnds(t *testing.T) {
	failure := errors.New("fn failed")

	t.Run("error", func(t *testing.T) {
		locker, mock, db := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		err := locker.WithLock(ctx, "report", 0, func(context.Context) error { return failure })
		assert.True(t, err == failure, "fn's error comes back as it is, not as %#v", err)
		assertPooled(t, db)
	})

	t.Run("panic", func(t *testing.T) {
		locker, mock, db := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		value := &struct{ int }{42}
		func() {
			defer func() { assert.True(t, recover() == value, "the panic goes on with its own value") }()
			_ = locker.WithLock(ctx, "report", 0, func(context.Context) error { panic(value) })
			t.Error("WithLock returned from a panic")
		}()
		assertPooled(t, db)
	})

	t.Run("Goexit", func(t *testing.T) {
		locker, mock, db := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		exited := make(chan bool)
		go func() {
			returned := false
			defer func() { exited <- !returned }()
			_ = locker.WithLock(ctx, "report", 0, func(context.Context) error { runtime.Goexit(); return nil })
			returned = true
		}()
		assert.True(t, <-exited, "WithLock returned from a Goexit")
		assertPooled(t, db)
	})

	t.Run("cancelled context", func(t *testing.T) {
		locker, mock, db := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		ctx, cancel := context.WithCancel(ctx)
		err := locker.WithLock(ctx, "report", 0, func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		assert.True(t, err == context.Canceled, "got %v", err)
		assertPooled(t, db)
	})

	t.Run("expired context", func(t *testing.T) {
		locker, mock, db := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		err := locker.WithLock(ctx, "report", 0, func(inner context.Context) error {
			want, _ := ctx.Deadline()
			got, ok := inner.Deadline()
			assert.True(t, ok && got.Equal(want), "fn's context has the caller's deadline")
			return context.DeadlineExceeded
		})
		assert.True(t, err == context.DeadlineExceeded, "got %v", err)
		assertPooled(t, db)
	})
}

// The answers to RELEASE_LOCK other than 1. In each case it is not proved that
// the lock was held to the end, and the session is in doubt.
var badReleases = map[string]struct {
	expect func(*sqlmock.ExpectedQuery)
	is     error
}{
	"0":              {func(q *sqlmock.ExpectedQuery) { q.WillReturnRows(answer(0)) }, namedlock.ErrLost},
	"NULL":           {func(q *sqlmock.ExpectedQuery) { q.WillReturnRows(answer(nil)) }, namedlock.ErrLost},
	"no row":         {func(q *sqlmock.ExpectedQuery) { q.WillReturnRows(sqlmock.NewRows([]string{"answer"})) }, sql.ErrNoRows},
	"server error":   {func(q *sqlmock.ExpectedQuery) { q.WillReturnError(&mysql.MySQLError{Number: 1317}) }, &mysql.MySQLError{Number: 1317}},
	"broken":         {func(q *sqlmock.ExpectedQuery) { q.WillReturnError(io.ErrUnexpectedEOF) }, io.ErrUnexpectedEOF},
	"bad connection": {func(q *sqlmock.ExpectedQuery) { q.WillReturnError(driver.ErrBadConn) }, driver.ErrBadConn},
}

func TestABadReleaseIsErrLostAndDiscardsTheConnection(t *testing.T) {
	failure := errors.New("fn failed")
	for answer, c := range badReleases {
		t.Run(answer, func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			c.expect(mock.ExpectQuery(releaseLock).WithArgs("report"))

			err := locker.WithLock(ctx, "report", 0, nothing)

			assert.ErrorIs(t, err, namedlock.ErrLost)
			assert.ErrorIs(t, err, c.is)
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "release", e.Op)
			assert.Equal(t, "report", e.Name)
			assertDiscarded(t, db)
		})

		t.Run(answer+", fn failed", func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			c.expect(mock.ExpectQuery(releaseLock).WithArgs("report"))

			err := locker.WithLock(ctx, "report", 0, func(context.Context) error { return failure })

			assert.ErrorIs(t, err, failure)
			assert.ErrorIs(t, err, namedlock.ErrLost)
			assertDiscarded(t, db)
		})

		t.Run(answer+", fn panicked", func(t *testing.T) {
			var log strings.Builder
			locker, mock, db := mocked(t, namedlock.WithLogger(textLogger(&log)))
			expectLock(mock, "report")
			c.expect(mock.ExpectQuery(releaseLock).WithArgs("report"))

			assert.PanicsWithValue(t, "fn's own", func() {
				_ = locker.WithLock(ctx, "report", 0, func(context.Context) error { panic("fn's own") })
			})

			require.NoError(t, locker.Close())
			assert.Contains(t, log.String(), "report", "nobody else can be told")
			assertDiscarded(t, db)
		})
	}
}

// The code under a lock must not continue while the lock is being released: its
// context has ended when RELEASE_LOCK is sent.
func TestTheContextEndsBeforeRELEASE_LOCK(t *testing.T) {
	for what, hold := range map[string]func(l *namedlock.Locker, under func(context.Context)){
		"WithLock": func(l *namedlock.Locker, under func(context.Context)) {
			_ = l.WithLock(ctx, "report", 0, func(ctx context.Context) error { under(ctx); return nil })
		},
		"a panic": func(l *namedlock.Locker, under func(context.Context)) {
			defer func() { _ = recover() }()
			_ = l.WithLock(ctx, "report", 0, func(ctx context.Context) error { under(ctx); panic("fn") })
		},
		"Acquire": func(l *namedlock.Locker, under func(context.Context)) {
			lock, err := l.Acquire(ctx, "report", 0)
			require.NoError(t, err)
			under(lock.Context())
			assert.NoError(t, lock.Release())
		},
	} {
		t.Run(what, func(t *testing.T) {
			var under context.Context
			released := false
			db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherFunc(func(expected, actual string) error {
				if actual == releaseLock {
					released = true
					assert.Error(t, under.Err(), "RELEASE_LOCK is sent, and the context goes on")
				}
				return sqlmock.QueryMatcherEqual.Match(expected, actual)
			})))
			require.NoError(t, err)
			conn, err := db.Conn(ctx)
			require.NoError(t, err)
			locker, err := namedlock.New(conn, namedlock.WithoutServerCheck())
			require.NoError(t, err)
			expectLock(mock, "report")
			expectUnlock(mock, "report")
			hold(locker, func(ctx context.Context) {
				require.NoError(t, ctx.Err())
				under = ctx
			})
			assert.True(t, released)
			require.NoError(t, locker.Close())
			require.NoError(t, mock.ExpectationsWereMet())
		})
	}
}

func TestALockerWhoseConnIsGoneIsUnavailable(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectQuery(releaseLock).WillReturnError(io.ErrUnexpectedEOF)
	require.ErrorIs(t, locker.WithLock(ctx, "report", 0, nothing), namedlock.ErrLost)
	assertDiscarded(t, db)

	for range 2 {
		err := locker.WithLock(ctx, "report", time.Minute, nothing)
		assert.ErrorIs(t, err, namedlock.ErrUnavailable)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "it says what the connection died of")
		assert.NotErrorIs(t, err, namedlock.ErrLost, "this lock was never held")
	}
}

// The answers to GET_LOCK other than 1, with a timeout of 0. If the answer is
// neither 1 nor 0, a RELEASE_LOCK makes sure that nothing is held.
func TestWhatGetLockAnswers(t *testing.T) {
	broken := errors.New("connection reset")
	for answered, c := range map[string]struct {
		rows     *sqlmock.Rows
		err      error
		is       error
		insured  bool
		discards bool
	}{
		"0":                         {rows: answer(0), is: namedlock.ErrTimeout},
		"NULL":                      {rows: answer(nil), is: namedlock.ErrInterrupted, insured: true},
		"1317 query interrupted":    {err: &mysql.MySQLError{Number: 1317}, is: namedlock.ErrInterrupted, insured: true},
		"3058 deadlock, MySQL":      {err: &mysql.MySQLError{Number: 3058}, is: namedlock.ErrDeadlock, insured: true},
		"1213 deadlock, MariaDB":    {err: &mysql.MySQLError{Number: 1213}, is: namedlock.ErrDeadlock, insured: true},
		"3057 wrong name, MySQL":    {err: &mysql.MySQLError{Number: 3057}, is: namedlock.ErrInvalidName, insured: true},
		"4163 long name, MySQL":     {err: &mysql.MySQLError{Number: 4163}, is: namedlock.ErrInvalidName, insured: true},
		"1059 long name, MariaDB":   {err: &mysql.MySQLError{Number: 1059}, is: namedlock.ErrInvalidName, insured: true},
		"1305 no such function":     {err: &mysql.MySQLError{Number: 1305}, is: namedlock.ErrUnsupported, insured: true},
		"1105 refused by a cluster": {err: &mysql.MySQLError{Number: 1105}, is: namedlock.ErrUnsupported, insured: true},
		"1235 refused by a cluster": {err: &mysql.MySQLError{Number: 1235}, is: namedlock.ErrUnsupported, insured: true},
		"1836 read-only mode":       {err: &mysql.MySQLError{Number: 1836}, is: namedlock.ErrUnsupported, insured: true},
		"a broken connection":       {err: broken, is: namedlock.ErrUnavailable, discards: true},
		"no row at all":             {rows: sqlmock.NewRows([]string{"answer"}), is: namedlock.ErrUnavailable, discards: true},
	} {
		t.Run(answered, func(t *testing.T) {
			locker, mock, db := mocked(t)
			query := mock.ExpectQuery(getLock).WithArgs("report", 0)
			if c.err != nil {
				query.WillReturnError(c.err)
			} else {
				query.WillReturnRows(c.rows)
			}
			if c.insured {
				mock.ExpectQuery(releaseLock).WithArgs("report").WillReturnRows(answer(nil))
			}

			err := locker.WithLock(ctx, "report", 0, func(context.Context) error {
				t.Error("fn ran without the lock")
				return nil
			})

			assert.ErrorIs(t, err, c.is)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err, "the driver's error is inside")
			}
			for _, other := range []error{namedlock.ErrTimeout, namedlock.ErrInterrupted, namedlock.ErrDeadlock, namedlock.ErrInvalidName,
				namedlock.ErrUnavailable, namedlock.ErrUnsupported, namedlock.ErrLost} {
				if other != c.is {
					assert.NotErrorIs(t, err, other)
				}
			}
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "acquire", e.Op)
			assert.Equal(t, "report", e.Name)
			if c.discards {
				assertDiscarded(t, db)
			} else {
				assertPooled(t, db)
			}
		})
	}
}

func TestAStatementLimitThatCutsOffTheTryIsOverridden(t *testing.T) {
	locker, mock, _ := mocked(t)
	mock.ExpectQuery(getLock).WithArgs("report", 0).WillReturnError(&mysql.MySQLError{Number: 3024})
	mock.ExpectQuery(releaseLock).WithArgs("report").WillReturnRows(answer(nil))
	mock.ExpectQuery(greeting + results).
		WillReturnRows(answer("9.7.4", "MySQL Community Server", "utf8mb4", "utf8mb4", 28800, "utf8mb4"))
	mock.ExpectQuery("SELECT /*+ MAX_EXECUTION_TIME(1) */ GET_LOCK(?, ?)").WithArgs("report", 1).WillReturnRows(answer(1))
	mock.ExpectPrepare(releaseLock).ExpectQuery().WithArgs("report").WillReturnRows(answer(1))

	assert.NoError(t, locker.WithLock(ctx, "report", 0, nothing))
}

// The wait of each dialect, as a mock sees it.
func TestTheStatementsOfAWait(t *testing.T) {
	for version, expect := range map[string]func(mock sqlmock.Sqlmock){
		"9.7.4": func(mock sqlmock.Sqlmock) {
			mock.ExpectQuery("SELECT /*+ MAX_EXECUTION_TIME(50) */ GET_LOCK(?, ?)").WithArgs("report", 1).WillReturnRows(answer(1))
		},
		"10.11.19-MariaDB": func(mock sqlmock.Sqlmock) {
			mock.ExpectQuery("SELECT @@max_statement_time").WillReturnRows(answer(0.0))
			mock.ExpectQuery(getLock).WithArgs("report", 0.05).WillReturnRows(answer(1))
		},
		"11.8.1-MariaDB-log": func(mock sqlmock.Sqlmock) {
			mock.ExpectQuery("SELECT @@max_statement_time").WillReturnRows(answer(2.5))
			mock.ExpectQuery("SET STATEMENT max_statement_time=0 FOR SELECT GET_LOCK(?, ?)").WithArgs("report", 0.05).WillReturnRows(answer(1))
		},
	} {
		t.Run(version, func(t *testing.T) {
			locker, mock, _ := mocked(t)
			mock.ExpectQuery(getLock).WithArgs("report", 0).WillReturnRows(answer(0))
			mock.ExpectQuery(greeting + results).WillReturnRows(answer(version, "", "utf8mb4", "utf8mb4", 28800, "utf8mb4"))
			expect(mock)
			expectUnlock(mock, "report")

			assert.NoError(t, locker.WithLock(ctx, "report", time.Hour, nothing))
		})
	}
}

// If a character set could turn a name into another name, the name is sent as a
// literal with a character set of its own. Before the first name outside ASCII,
// the server is asked for its character sets.
func TestHowANameIsSpelt(t *testing.T) {
	const cafe = "_utf8mb4 0x636166C3A9"
	for charsets, literal := range map[[3]any]bool{
		{"utf8mb4", "utf8mb4", "utf8mb4"}: false,
		{"utf8mb3", "utf8", nil}:          false,
		{"latin1", "utf8mb4", "utf8mb4"}:  true,
		{"utf8mb4", "ucs2", "utf8mb4"}:    true,
		{"utf8mb4", "utf8mb4", "utf16"}:   true,
	} {
		locker, mock, db := mocked(t)
		mock.ExpectQuery(greeting + results).
			WillReturnRows(answer("9.7.4", "MySQL Community Server", charsets[0], charsets[1], 28800, charsets[2]))
		if literal {
			mock.ExpectQuery("SELECT GET_LOCK(" + cafe + ", 0)").WillReturnRows(answer(1))
			mock.ExpectQuery("SELECT RELEASE_LOCK(" + cafe + ")").WillReturnRows(answer(1))
		} else {
			expectLock(mock, "café")
			expectUnlock(mock, "café")
		}
		assert.NoError(t, locker.WithLock(ctx, "café", 0, nothing), "%v", charsets)
		assertPooled(t, db)
	}
}

func TestBadArgumentsSendNothing(t *testing.T) {
	gone, cancel := context.WithCancelCause(ctx)
	reason := errors.New("the request was dropped")
	cancel(reason)
	late, cancelLate := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancelLate()
	ran := func(context.Context) error {
		t.Error("fn ran")
		return nil
	}
	for what, c := range map[string]struct {
		ctx     context.Context
		name    string
		timeout time.Duration
		fn      func(context.Context) error
		is      []error
		says    string
	}{
		"empty name":        {ctx, "", 0, ran, []error{namedlock.ErrInvalidName}, "1 to 64"},
		"65 characters":     {ctx, strings.Repeat("é", 65), 0, ran, []error{namedlock.ErrInvalidName}, "65 characters"},
		"NUL":               {ctx, "a\x00", 0, ran, []error{namedlock.ErrInvalidName}, "NUL"},
		"emoji":             {ctx, "🔒", 0, ran, []error{namedlock.ErrInvalidName}, "Multilingual"},
		"invalid UTF-8":     {ctx, "\xff", 0, ran, []error{namedlock.ErrInvalidName}, "UTF-8"},
		"negative timeout":  {ctx, "a", -1, ran, []error{namedlock.ErrInvalidTimeout}, "-1ns"},
		"least timeout":     {ctx, "a", math.MinInt64, ran, []error{namedlock.ErrInvalidTimeout}, "negative"},
		"cancelled context": {gone, "a", 0, ran, []error{context.Canceled, reason}, "dropped"},
		"expired context":   {late, "a", 0, ran, []error{context.DeadlineExceeded}, "deadline"},
		"no context":        {nil, "a", 0, ran, nil, "context is nil"},
		"no function":       {ctx, "a", 0, nil, nil, "function"},
	} {
		t.Run(what, func(t *testing.T) {
			locker, _, db := mocked(t)
			err := locker.WithLock(c.ctx, c.name, c.timeout, c.fn)
			require.ErrorContains(t, err, c.says)
			for _, is := range c.is {
				assert.ErrorIs(t, err, is)
			}
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.name, e.Name)
			if c.fn != nil {
				_, err = locker.Acquire(c.ctx, c.name, c.timeout)
				assert.ErrorContains(t, err, c.says)
			}
			assertPooled(t, db)
		})
	}
}

func TestNamespaceIsForTheServerOnly(t *testing.T) {
	locker, mock, _ := mocked(t, namedlock.WithNamespace("billing:"))
	expectLock(mock, "billing:report")
	expectUnlock(mock, "billing:report")

	lock, err := locker.Acquire(ctx, "report", 0)
	require.NoError(t, err)
	assert.Equal(t, "report", lock.Name())
	require.NoError(t, lock.Release())

	_, err = locker.Acquire(ctx, strings.Repeat("x", 57), 0)
	assert.ErrorIs(t, err, namedlock.ErrInvalidName, "the namespace counts")
}

func TestReleaseIsIdempotent(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	lock, err := locker.Acquire(ctx, "report", 0)
	require.NoError(t, err)
	assert.NoError(t, lock.Context().Err())
	assert.NoError(t, lock.Release())
	assert.NoError(t, lock.Release())
	assert.ErrorIs(t, lock.Context().Err(), context.Canceled)
	assert.Equal(t, context.Canceled, context.Cause(lock.Context()), "a release is no loss")

	locker, mock, _ = mocked(t)
	expectLock(mock, "report")
	mock.ExpectQuery(releaseLock).WillReturnRows(answer(0))
	lock, err = locker.Acquire(ctx, "report", 0)
	require.NoError(t, err)
	first := lock.Release()
	assert.ErrorIs(t, first, namedlock.ErrLost)
	assert.Equal(t, first, lock.Release(), "every call reports what the first found")
}

func TestALockOutlivesTheContextOfItsAcquire(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	type key struct{}
	acquiring, cancel := context.WithCancel(context.WithValue(ctx, key{}, "value"))
	lock, err := locker.Acquire(acquiring, "report", 0)
	require.NoError(t, err)
	cancel()
	assert.NoError(t, lock.Context().Err())
	assert.Equal(t, "value", lock.Context().Value(key{}))
	assert.NoError(t, lock.Release())
}

func TestACallChainIsToldThatItHoldsTheLock(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	var kept context.Context
	err := locker.WithLock(ctx, "report", 0, func(ctx context.Context) error {
		kept = context.WithoutCancel(ctx)
		err := locker.WithLock(ctx, "REPORT", namedlock.Forever, nothing)
		assert.ErrorIs(t, err, namedlock.ErrReentrant)
		assert.ErrorContains(t, err, "report")
		_, err = locker.Acquire(kept, "report", 0)
		assert.ErrorIs(t, err, namedlock.ErrReentrant)
		return nil
	})
	require.NoError(t, err)

	expectPrepared(mock, getLock)
	expectPrepared(mock, releaseLock)
	assert.NoError(t, locker.WithLock(kept, "report", 0, nothing), "the chain's lock has been released")
}

func TestAnotherCallerOfTheProcessQueuesWithoutSQL(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	lock, err := locker.Acquire(ctx, "report", 0)
	require.NoError(t, err)

	_, err = locker.Acquire(ctx, "Report", 0)
	assert.ErrorIs(t, err, namedlock.ErrTimeout)
	assert.ErrorContains(t, err, `namedlock: acquire "Report": not acquired (timeout 0): held by this process for `)
	assert.ErrorContains(t, err, "pass on the ctx that fn received")
	_, err = locker.Acquire(ctx, "Report", time.Millisecond)
	assert.ErrorIs(t, err, namedlock.ErrTimeout)
	assert.ErrorContains(t, err, `namedlock: acquire "Report": not acquired within 1ms: held by this process for `)
	waiting, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = locker.Acquire(waiting, "Report", time.Hour)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, namedlock.ErrTimeout)

	require.NoError(t, lock.Release())
}

func TestCloseEndsCallersAndWaitsForHolders(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	lock, err := locker.Acquire(ctx, "report", 0)
	require.NoError(t, err)
	waiter := make(chan error)
	go func() {
		_, err := locker.Acquire(ctx, "report", namedlock.Forever)
		waiter <- err
	}()
	closed := make(chan error)
	go func() { closed <- locker.Close() }()

	assert.ErrorIs(t, <-waiter, namedlock.ErrClosed)
	select {
	case <-closed:
		t.Error("Close did not wait for the holder")
	default:
	}
	assert.NoError(t, lock.Context().Err(), "Close leaves the holder alone")
	assert.NoError(t, lock.Release())
	assert.NoError(t, <-closed)
	assert.NoError(t, locker.Close())
	assert.ErrorIs(t, locker.WithLock(ctx, "report", 0, nothing), namedlock.ErrClosed)
}

func TestAGrantThatComesAfterTheCancelIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t)
		defer db.Close()
		mock.ExpectQuery(getLock).WillDelayFor(2 * time.Second).WillReturnRows(answer(1))
		expectUnlock(mock, "report")
		waiting, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)

		begun := time.Now()
		err := locker.WithLock(waiting, "report", namedlock.Forever, func(context.Context) error {
			t.Error("fn ran under a cancelled context")
			return nil
		})

		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, time.Second, time.Since(begun), "a cancel does not wait for the statement")
		require.NoError(t, locker.Close())
		assertPooled(t, db)
		require.NoError(t, mock.ExpectationsWereMet(), "the grant was kept")
	})
}

func TestAProofNeedsAnAnswer(t *testing.T) {
	const proof = "SELECT IS_USED_LOCK(?) = CONNECTION_ID(), 0"
	for what, c := range map[string]struct {
		rows *sqlmock.Rows
		lost bool
	}{
		"owned":             {answer(1, 0), false},
		"not owned":         {answer(0, 0), true},
		"nobody's":          {answer(nil, 0), true},
		"read-only":         {answer(1, 1), true},
		"no row":            {sqlmock.NewRows([]string{"owned", "read-only"}), true},
		"a column too many": {answer(1, 1, 0), true},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				locker, mock, db := mocked(t, namedlock.WithKeepAlive(time.Second))
				defer db.Close()
				expectLock(mock, "report")
				mock.ExpectQuery(greeting + results).WillReturnRows(answer("9.7.4", "", "utf8mb4", "utf8mb4", 28800, "utf8mb4"))
				mock.ExpectQuery(proof).WithArgs("report").WillReturnRows(c.rows)
				if !c.lost {
					expectUnlock(mock, "report")
				}
				lock, err := locker.Acquire(ctx, "report", 0)
				require.NoError(t, err)
				time.Sleep(1500 * time.Millisecond) // of the bubble's time
				if c.lost {
					assert.ErrorIs(t, context.Cause(lock.Context()), namedlock.ErrLost)
					assert.ErrorIs(t, lock.Release(), namedlock.ErrLost)
				} else {
					assert.NoError(t, lock.Context().Err())
					assert.NoError(t, lock.Release())
				}
			})
		})
	}
}

// endedUnseen is a context that ends without closing its channel first. Every
// context may look like that for a moment to another goroutine.
type endedUnseen struct {
	context.Context
	ended atomic.Bool
}

func (c *endedUnseen) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

func TestAGrantThatMeetsTheCancelIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t)
		defer db.Close()
		mock.ExpectQuery(getLock).WillDelayFor(time.Second).WillReturnRows(answer(1))
		expectUnlock(mock, "report")
		waiting := &endedUnseen{Context: ctx}
		go func() {
			synctest.Wait() // until GET_LOCK is under way
			waiting.ended.Store(true)
		}()

		_, err := locker.Acquire(waiting, "report", namedlock.Forever)

		assert.ErrorIs(t, err, context.Canceled)
		assert.NoError(t, mock.ExpectationsWereMet(), "the grant was kept")
	})
}

func TestCallersAreServedFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t)
		defer db.Close()
		mock.MatchExpectationsInOrder(false)
		mock.ExpectQuery(getLock).WillReturnRows(answer(1))
		mock.ExpectQuery(releaseLock).WillReturnRows(answer(1))
		get, release := mock.ExpectPrepare(getLock), mock.ExpectPrepare(releaseLock)
		first, err := locker.Acquire(ctx, "report", 0)
		require.NoError(t, err)

		var served []int
		const callers = 10
		for i := range callers {
			get.ExpectQuery().WillReturnRows(answer(1))
			release.ExpectQuery().WillReturnRows(answer(1))
			go func() {
				err := locker.WithLock(ctx, []string{"report", "REPORT"}[i%2], time.Minute, func(context.Context) error {
					served = append(served, i)
					time.Sleep(time.Second)
					return nil
				})
				assert.NoError(t, err)
			}()
			synctest.Wait() // until it is in the queue
		}
		require.NoError(t, first.Release())
		time.Sleep(callers * time.Second)
		synctest.Wait()
		assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, served)
		require.NoError(t, locker.Close())
	})
}

func TestWaitingForAConnectionThatOthersHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
		require.NoError(t, err)
		defer db.Close()
		mock.MatchExpectationsInOrder(false)
		mock.ExpectClose()
		db.SetMaxOpenConns(2)
		var others []*sql.Conn
		for range 2 {
			conn, err := db.Conn(ctx)
			require.NoError(t, err)
			others = append(others, conn)
		}
		locker, err := namedlock.Open(db, namedlock.WithoutServerCheck(), namedlock.WithLease(0))
		require.NoError(t, err)
		defer locker.Close()

		// Waiting for a connection is waiting for other callers: the timeout
		// limits it, to the millisecond.
		for _, timeout := range []time.Duration{0, 700 * time.Millisecond, 20 * time.Second} {
			begun := time.Now()
			err := locker.WithLock(ctx, "report", timeout, nothing)
			assert.ErrorIs(t, err, namedlock.ErrTimeout)
			assert.Equal(t, timeout, time.Since(begun))
		}

		// When there is a connection, the lock is granted.
		mock.ExpectQuery(greeting + ", RELEASE_ALL_LOCKS()" + results).WillReturnRows(answer("9.7.4", "MySQL Community Server", "utf8mb4", "utf8mb4", 28800, 0, "utf8mb4"))
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		go func() {
			time.Sleep(time.Minute) // of the bubble's time
			others[0].Close()
		}()
		begun := time.Now()
		assert.NoError(t, locker.WithLock(ctx, "report", namedlock.Forever, nothing))
		assert.Equal(t, time.Minute, time.Since(begun))
		others[1].Close()
	})
}

func TestBadOptionsAreErrors(t *testing.T) {
	db, _, err := sqlmock.New()
	require.NoError(t, err)
	conn, err := db.Conn(ctx)
	require.NoError(t, err)
	for says, opt := range map[string]namedlock.Option{
		"WithReleaseTimeout(0s)": namedlock.WithReleaseTimeout(0),
		"WithReleaseTimeout(5ns): must be at least 10ms; a number without a unit counts nanoseconds": namedlock.WithReleaseTimeout(5),

		"WithKeepAlive(-1s)": namedlock.WithKeepAlive(-time.Second),
		"WithKeepAlive(5ns)": namedlock.WithKeepAlive(5),
		"WithKeepAlive(9ms)": namedlock.WithKeepAlive(9 * time.Millisecond),
		"WithProbe(25ns)":    namedlock.WithProbe(25),
		"WithHandOff(10ns)":  namedlock.WithHandOff(10),
		"WithLease(60ns)":    namedlock.WithLease(60),
		"WithProbe(-1s)":     namedlock.WithProbe(-time.Second),
		"WithLease(-1s)":     namedlock.WithLease(-time.Second),
		"WithLease(999ms)":   namedlock.WithLease(999 * time.Millisecond),
		"WithMaxSessions(0)": namedlock.WithMaxSessions(0),
		"65 characters":      namedlock.WithNamespace(strings.Repeat("n", 64)),
		"UTF-8":              namedlock.WithNamespace("\xff"),
		"NUL":                namedlock.WithNamespace("\x00"),
		"WithLogger(nil)":    namedlock.WithLogger(nil),
		"WithUnwrap(nil)":    namedlock.WithUnwrap(nil),
		"option 0 is nil":    nil,
	} {
		_, err := namedlock.New(conn, opt)
		assert.ErrorContains(t, err, says)
		_, err = namedlock.Open(db, opt)
		assert.ErrorContains(t, err, says)
	}

	_, err = namedlock.New(nil)
	assert.ErrorContains(t, err, "*sql.Conn")
	_, err = namedlock.Open(nil)
	assert.ErrorContains(t, err, "*sql.DB")
}

// A Locker and a Lock that were declared, not made, return errors that say so.
func TestZeroLockers(t *testing.T) {
	for what, l := range map[string]*namedlock.Locker{"zero": new(namedlock.Locker), "nil": nil} {
		_, acquired := l.Acquire(ctx, "report", 0)
		_, _, holder := l.Holder(ctx, "report")
		_, holders := l.Holders(ctx, "report")
		for call, err := range map[string]error{
			"WithLock":  l.WithLock(ctx, "report", 0, nothing),
			"WithLocks": l.WithLocks(ctx, []string{"report"}, 0, nothing),
			"Acquire":   acquired, "Holder": holder, "Holders": holders,
		} {
			assert.ErrorContains(t, err, "not made by New or Open", "%s: %s", what, call)
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "report", e.Name)
		}
		assert.NoError(t, l.Close())
		assert.Zero(t, l.Stats())
	}
	assert.ErrorContains(t, new(namedlock.Lock).Release(), "not returned by Acquire")
}

func TestOpenRefusesADBOfOneConnection(t *testing.T) {
	db, _, err := sqlmock.New()
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	_, err = namedlock.Open(db)
	assert.ErrorIs(t, err, namedlock.ErrUnsupported)
	assert.ErrorContains(t, err, "namedlock.New")
	assert.ErrorContains(t, err, "db of its own")

	db.SetMaxOpenConns(2)
	locker, err := namedlock.Open(db)
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	assert.ErrorIs(t, locker.WithLock(ctx, "report", 0, nothing), namedlock.ErrUnsupported, "the limit is read again")
}

// Once the connection that was given to New is gone, every call returns an
// error at once. That includes calls that wait for it, and calls for the name
// of a lost lock whose code is still running.
func TestNobodyWaitsForAConnectionThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t, namedlock.WithKeepAlive(time.Second))
		defer db.Close()
		expectLock(mock, "report")
		mock.ExpectQuery(greeting + results).WillReturnError(driver.ErrBadConn) // the keep-alive's

		lock, err := locker.Acquire(ctx, "report", 0)
		require.NoError(t, err)
		waited := make(chan error)
		go func() { waited <- locker.WithLock(ctx, "report", namedlock.Forever, nothing) }()
		<-lock.Context().Done()
		assert.ErrorIs(t, <-waited, namedlock.ErrUnavailable)
		assert.ErrorIs(t, locker.WithLock(ctx, "report", namedlock.Forever, nothing), namedlock.ErrUnavailable)
		assert.ErrorIs(t, lock.Release(), namedlock.ErrLost)
	})
}

// A call of Release while another one runs waits for its result, in a way that
// is visible to a bubble.
func TestReleaseDuringRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t, namedlock.WithReleaseTimeout(time.Minute))
		defer db.Close()
		expectLock(mock, "report")
		mock.ExpectQuery(releaseLock).WithArgs("report").WillDelayFor(time.Second).WillReturnRows(answer(0))

		lock, err := locker.Acquire(ctx, "report", 0)
		require.NoError(t, err)
		found := make(chan error)
		for range 3 {
			go func() { found <- lock.Release() }()
		}
		first := <-found
		assert.ErrorIs(t, first, namedlock.ErrLost)
		for range 2 {
			assert.Equal(t, first, <-found)
		}
	})
}

// stuck is a connector whose dialer ignores its context.
type stuck struct{ until chan struct{} }

func (c stuck) Connect(context.Context) (driver.Conn, error) {
	<-c.until
	return nil, errors.New("too late")
}

func (stuck) Driver() driver.Driver { return nil }

// Opening a session is limited in time, whatever the dialer does, and so is
// Close.
func TestADialerThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		db := sql.OpenDB(stuck{until})
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		begun := time.Now()
		err = locker.WithLock(ctx, "report", time.Hour, nothing)
		assert.ErrorIs(t, err, namedlock.ErrUnavailable)
		assert.ErrorContains(t, err, "no connection to the server: no answer within 5s")
		assert.Equal(t, 5*time.Second, time.Since(begun))

		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		begun = time.Now()
		assert.ErrorIs(t, locker.WithLock(short, "report", time.Hour, nothing), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begun))
		begun = time.Now()
		_, _, err = locker.Holder(ctx, "report")
		assert.ErrorIs(t, err, namedlock.ErrUnavailable)
		assert.Equal(t, 5*time.Second, time.Since(begun))
		begun = time.Now()
		require.NoError(t, locker.Close())
		assert.Equal(t, 5*time.Second, time.Since(begun))
		close(until)
		synctest.Wait()
		require.NoError(t, db.Close())
	})
}

// When Close returns, the db has all its connections back, also that of a
// dialer that takes long to end.
func TestCloseWaitsForADialer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := make(chan struct{})
		db := sql.OpenDB(stuck{until})
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, locker.WithLock(short, "report", time.Hour, nothing), context.DeadlineExceeded)
		require.Equal(t, 1, db.Stats().InUse)
		time.AfterFunc(time.Second, func() { close(until) })
		require.NoError(t, locker.Close())
		assert.Zero(t, db.Stats().InUse)
		require.NoError(t, db.Close())
	})
}

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

// Servers whose locks do not last are refused. The error says why, and which
// server to use.
func TestServersThatDropLocksAreRefused(t *testing.T) {
	for what, c := range map[string]struct {
		answer func(*sqlmock.ExpectedQuery)
		says   []string
	}{
		"TiDB": {func(q *sqlmock.ExpectedQuery) {
			q.WillReturnRows(answer("8.0.11-TiDB-v8.4.0", "TiDB Server (Apache License 2.0)", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 0))
		}, []string{"TiDB", "max-txn-ttl", "WithoutServerCheck"}},
		"Vitess": {func(q *sqlmock.ExpectedQuery) {
			q.WillReturnError(&mysql.MySQLError{Number: 1105, Message: "VT03028: release_all_locks() allowed only with dual"})
		}, []string{"Vitess", "idle"}},
		"Vitess that would answer": {func(q *sqlmock.ExpectedQuery) {
			q.WillReturnRows(answer("8.0.40-Vitess", "Version: 24.0.0", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 0))
		}, []string{"Vitess", "idle"}},
	} {
		t.Run(what, func(t *testing.T) {
			db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherFunc(func(string, string) error { return nil })))
			require.NoError(t, err)
			defer db.Close()
			for range 3 { // the question is asked for less where it is not understood
				c.answer(mock.ExpectQuery(greeting))
			}
			locker, err := namedlock.Open(db)
			require.NoError(t, err)

			err = locker.WithLock(ctx, "report", 0, func(context.Context) error { panic("held") })

			require.ErrorIs(t, err, namedlock.ErrUnsupported)
			for _, text := range c.says {
				assert.ErrorContains(t, err, text)
			}
			require.NoError(t, locker.Close())
		})
	}
}

// Zero values work, or return errors that name them.
func TestZeroValues(t *testing.T) {
	var lock namedlock.Lock
	assert.Empty(t, lock.Name())
	assert.Error(t, lock.Context().Err())
	assert.ErrorContains(t, context.Cause(lock.Context()), "not returned by Acquire")
	assert.ErrorContains(t, lock.Release(), "not returned by Acquire")
	var term namedlock.Term
	assert.ErrorContains(t, term.WithTx(ctx, nil, unexpectedTx(t)), "not made by WithTerm or Lead")
	var l namedlock.Locker
	assert.ErrorContains(t, l.WithLock(ctx, "report", 0, nothing), "not made by New or Open")
	assert.NoError(t, l.Close())
	assert.Zero(t, l.Stats())
	assert.EqualError(t, new(namedlock.Error), "namedlock: an Error without a cause")
	assert.Nil(t, new(namedlock.Error).Unwrap())
	assert.Equal(t, "connection 0", namedlock.Holder{}.String())
}
