package namedlock_test

import (
	"context"
	"database/sql/driver"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

const (
	askHolder    = "SELECT CAST(CONVERT(l.ID USING utf8mb4) AS BINARY), CAST(CONVERT(p.USER USING utf8mb4) AS BINARY), CAST(CONVERT(p.HOST USING utf8mb4) AS BINARY), CAST(CONVERT(p.COMMAND USING utf8mb4) AS BINARY), CAST(CONVERT(p.TIME USING utf8mb4) AS BINARY), CAST(CONVERT(p.INFO USING utf8mb4) AS BINARY), CAST(CONVERT(a.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(i.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(h.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(l.NAME USING utf8mb4) AS BINARY) FROM (SELECT IS_USED_LOCK(?) AS ID, NULL AS NAME) AS l" + aboutSession
	aboutSession = " LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = l.ID LEFT JOIN performance_schema.session_connect_attrs AS a ON a.PROCESSLIST_ID = l.ID AND a.ATTR_NAME = 'program_name' LEFT JOIN performance_schema.session_connect_attrs AS i ON i.PROCESSLIST_ID = l.ID AND i.ATTR_NAME = '_pid' LEFT JOIN performance_schema.session_connect_attrs AS h ON h.PROCESSLIST_ID = l.ID AND h.ATTR_NAME = 'client_host'"
	askUsed      = "SELECT IS_USED_LOCK(?)"
	isComplete   = "SELECT @@performance_schema, (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'), (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost')"
)

var askHolderOfOwn = strings.Replace(askHolder, "session_connect_attrs", "session_account_connect_attrs", -1)

var denied = &mysql.MySQLError{Number: 1142, Message: "SELECT command denied"}

func expectGreeting(mock sqlmock.Sqlmock, version string) {
	mock.ExpectQuery(greeting + results).WillReturnRows(answer(version, "", "utf8mb4", "utf8mb4", 28800, "utf8mb4"))
}

func TestHolderTellsWhatTheServerShows(t *testing.T) {
	locker, mock, db := mocked(t, namedlock.WithNamespace("app/"))
	expectGreeting(mock, "9.7.4")
	mock.ExpectQuery(askHolder).WithArgs("app/report").WillReturnRows(answer(42, "app", "fe80::7:5123", "Sleep", 31, nil, "billing", "812", "web-1", nil))

	got, held, err := locker.Holder(ctx, "report")

	require.NoError(t, err)
	assert.True(t, held)
	assert.Equal(t, namedlock.Holder{Name: "report", ConnectionID: 42, User: "app", Host: "fe80::7", Port: 5123,
		Program: "billing", PID: 812, ClientHost: "web-1", Command: "Sleep", CommandTime: 31 * time.Second}, got)
	assertPooled(t, db)
}

func TestHolderOfAFreeLock(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectGreeting(mock, "9.7.4")
	mock.ExpectQuery(askHolder).WithArgs("report").WillReturnRows(answer(make([]driver.Value, 10)...))

	got, held, err := locker.Holder(ctx, "report")

	require.NoError(t, err)
	assert.False(t, held)
	assert.Zero(t, got)
}

func TestHolderAsksForLessWhereItIsRefused(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectGreeting(mock, "9.7.4")
	mock.ExpectQuery(askHolder).WithArgs("report").WillReturnError(denied)
	mock.ExpectQuery(askHolderOfOwn).WithArgs("report").WillReturnError(denied)
	mock.ExpectQuery(askUsed).WithArgs("report").WillReturnRows(answer(42))

	got, held, err := locker.Holder(ctx, "report")

	require.NoError(t, err)
	assert.True(t, held)
	assert.Equal(t, namedlock.Holder{Name: "report", ConnectionID: 42}, got)
}

func TestHolderOfASessionThatIsNotShown(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectGreeting(mock, "9.7.4")
	mock.ExpectQuery(askHolder).WithArgs("report").WillReturnError(denied)
	mock.ExpectQuery(askHolderOfOwn).WithArgs("report").WillReturnRows(answer(42, nil, nil, nil, nil, nil, nil, nil, nil, nil))

	got, _, err := locker.Holder(ctx, "report")

	require.NoError(t, err)
	assert.Equal(t, namedlock.Holder{Name: "report", ConnectionID: 42}, got)
}

// A client may send any text as its pid.
func TestHolderBelievesNoPIDThatCannotBe(t *testing.T) {
	for _, pid := range []string{"", "-5", "0x10", "4294967296", "1 on web-1"} {
		locker, mock, _ := mocked(t)
		expectGreeting(mock, "9.7.4")
		mock.ExpectQuery(askHolder).WillReturnRows(answer(42, "app", "localhost", "Sleep", 0, nil, nil, pid, nil, nil))

		got, _, err := locker.Holder(ctx, "report")

		require.NoError(t, err)
		assert.Zero(t, got.PID, "%q", pid)
	}
}

// After SET TIMESTAMP a session can have any TIME in the process list.
func TestHolderBelievesNoTimeThatCannotBe(t *testing.T) {
	for _, seconds := range []int64{-5, 4294967290, 1 << 60} {
		locker, mock, _ := mocked(t)
		expectGreeting(mock, "9.7.4")
		mock.ExpectQuery(askHolder).WillReturnRows(answer(42, "app", "localhost", "Query", seconds, "SELECT 1", nil, nil, nil, nil))

		got, _, err := locker.Holder(ctx, "report")

		require.NoError(t, err)
		assert.Equal(t, namedlock.Holder{Name: "report", ConnectionID: 42, User: "app", Host: "localhost", Command: "Query", Statement: "SELECT 1"}, got)
	}
}

func TestHolderErrors(t *testing.T) {
	for what, c := range map[string]struct {
		expect func(mock sqlmock.Sqlmock)
		is     error
	}{
		"no such function": {func(mock sqlmock.Sqlmock) {
			expectGreeting(mock, "8.0.1-other")
			for _, text := range []string{askHolder, askHolderOfOwn, askUsed} {
				mock.ExpectQuery(text).WillReturnError(&mysql.MySQLError{Number: 1305, Message: "FUNCTION IS_USED_LOCK does not exist"})
			}
		}, namedlock.ErrUnsupported},
		"TiDB": {func(mock sqlmock.Sqlmock) {
			expectGreeting(mock, "8.0.11-TiDB-v8.5.0")
		}, namedlock.ErrUnsupported},
		"killed": {func(mock sqlmock.Sqlmock) {
			expectGreeting(mock, "9.7.4")
			mock.ExpectQuery(askHolder).WillReturnError(&mysql.MySQLError{Number: 1317, Message: "Query execution was interrupted"})
		}, namedlock.ErrInterrupted},
		"broken": {func(mock sqlmock.Sqlmock) {
			expectGreeting(mock, "9.7.4")
			mock.ExpectQuery(askHolder).WillReturnError(io.ErrUnexpectedEOF)
		}, namedlock.ErrUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			locker, mock, _ := mocked(t)
			c.expect(mock)

			_, held, err := locker.Holder(ctx, "report")

			requireName(t, err, c.is, "report")
			assert.False(t, held)
		})
	}
}

func TestInspectBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	ended, end := context.WithCancel(ctx)
	end()
	long := strings.Repeat("x", 65)

	_, _, err := locker.Holder(ctx, "")
	requireName(t, err, namedlock.ErrInvalidName, "")
	_, _, err = locker.Holder(ended, "report")
	requireName(t, err, context.Canceled, "report")
	_, err = locker.Holders(ctx, long)
	requireName(t, err, namedlock.ErrInvalidName, long)
	_, err = locker.Holders(ended, "re")
	requireName(t, err, context.Canceled, "re")
	require.NoError(t, locker.Close())
	_, _, err = locker.Holder(ctx, "report")
	requireName(t, err, namedlock.ErrClosed, "report")
	_, err = locker.Holders(ctx, "")
	requireName(t, err, namedlock.ErrClosed, "")
}

func TestHeldNeedsACompleteList(t *testing.T) {
	for says, rows := range map[string]*sqlmock.Rows{
		"performance_schema=ON": answer(0, "NO", "0"),
		"instrument":            answer(1, "NO", "0"),
		"incomplete":            answer(1, "YES", "7"),
	} {
		locker, mock, _ := mocked(t)
		expectGreeting(mock, "9.7.4")
		mock.ExpectQuery(isComplete).WillReturnRows(rows)

		held, err := locker.Holders(ctx, "")

		requireName(t, err, namedlock.ErrUnsupported, "")
		assert.ErrorContains(t, err, says)
		assert.Nil(t, held)
	}
}

func TestHeldSaysWhatToDo(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectGreeting(mock, "9.7.4")
	mock.ExpectQuery(isComplete).WillReturnError(denied)

	_, err := locker.Holders(ctx, "re")

	requireName(t, err, namedlock.ErrUnsupported, "re")
	assert.ErrorContains(t, err, "GRANT SELECT ON performance_schema.*")
}

// With New there is one session, so only this process can name the holder.
func TestATimeoutNamesTheHolderInThisProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locker, mock, db := mocked(t, namedlock.WithNamespace("app/"), namedlock.WithKeepAlive(time.Hour))
		defer db.Close()
		expectLock(mock, "app/report")
		expectUnlock(mock, "app/report")

		err := locker.WithLock(ctx, "report", 0, func(context.Context) error {
			time.Sleep(31 * time.Second)
			return locker.WithLock(ctx, "REPORT", 5*time.Second, mustNotRun(t))
		})

		requireName(t, err, namedlock.ErrTimeout, "REPORT")
		assert.EqualError(t, err, `namedlock: acquire "REPORT": not acquired within 5s: held by this process for 36s (if the caller itself holds it, pass on the ctx that fn received)`)
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, &namedlock.Holder{Name: "report", Local: true, HeldFor: 36 * time.Second}, e.Holder)
	})
}

func TestHolderString(t *testing.T) {
	for want, h := range map[string]namedlock.Holder{
		"connection 42": {ConnectionID: 42},
		"connection 42, app@10.0.0.7 (billing), last statement 31s ago": {ConnectionID: 42, User: "app", Host: "10.0.0.7", Port: 5123, Program: "billing", Command: "Sleep", CommandTime: 31 * time.Second},
		"connection 42, app@localhost, in a statement for 1m0s":         {ConnectionID: 42, User: "app", Host: "localhost", Command: "Query", CommandTime: time.Minute},
		"connection 42, app@10.0.0.7 (billing, pid 812 on web-1)":       {ConnectionID: 42, User: "app", Host: "10.0.0.7", Program: "billing", PID: 812, ClientHost: "web-1"},
		"connection 42 (pid 812)":                                       {ConnectionID: 42, PID: 812},
		"connection 42 (on web-1)":                                      {ConnectionID: 42, ClientHost: "web-1"},
		"connection 42, app":                                            {ConnectionID: 42, User: "app", Command: "Sleep"},
		"this process for 1.5s":                                         {Local: true, HeldFor: 1500*time.Millisecond + 7},
		"connection 42 of this process for 1s, app":                     {ConnectionID: 42, Local: true, HeldFor: time.Second, User: "app"},
	} {
		assert.Equal(t, want, h.String())
	}
}

// A test that mocks a Locker from Open sees the question on a connection of its
// own. Without an answer to it, nothing changes.
func TestATimeoutWithoutAnAnswerIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
		require.NoError(t, err)
		defer db.Close()
		locker, err := namedlock.Open(db, namedlock.WithoutServerCheck(), namedlock.WithLease(0), namedlock.WithKeepAlive(time.Hour))
		require.NoError(t, err)
		defer locker.Close()
		mock.ExpectQuery(greeting + ", RELEASE_ALL_LOCKS()" + results).WillReturnRows(answer("9.7.4", "", "utf8mb4", "utf8mb4", 28800, 0, "utf8mb4"))
		mock.ExpectQuery(getLock).WillReturnRows(answer(0))
		mock.ExpectQuery("SELECT /*+ MAX_EXECUTION_TIME(5000) */ GET_LOCK(?, ?)").WillDelayFor(5 * time.Second).WillReturnRows(answer(0))

		start := time.Now()
		err = locker.WithLock(ctx, "report", 5*time.Second, mustNotRun(t))

		assert.EqualError(t, err, `namedlock: acquire "report": not acquired within 5s`)
		assert.Equal(t, 5*time.Second, time.Since(start))
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Nil(t, e.Holder)
	})
}
