package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file check docs/OPERATIONS.md. These tests check further
// statements of the page:
//
//	TestPromise11_KillIsNoticedAtOnce, TestPromise11_OneKillTakesOneLock, TestPromise11_NestedLocksAreLostTogether,
//	TestConformance, 11_NameStaysClosedAfterALoss    what a KILL does
//	TestPromise07_KilledConnectionGoesOnWaiting    what it does to a waiter
//	TestPromise15_KilledProcessLeavesTheLock    the end of a process
//	TestPromise11_ReadOnlyServerIsALoss, TestPromise22_DemotedServerIsRefusedToBusyLockers, TestPromise11_ServerRestarts    failover
//	TestPromise11_SilentNetworkIsALoss, TestPromise14_HolderIsToldBeforeAnotherHasTheLock    the lease
//	TestConformance, 19_CloseWaitsForHolders, 19_CloseEndsWaitsAndRefuses    deploys
//	TestTimeout_NamesTheHolder    the holder in an ErrTimeout

const (
	lockOnThePage    = "nightly-report"
	sessionOnThePage = "42"
)

func operationsPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	require.NoError(t, err)
	return string(text)
}

// A runbook has the SQL of the page: the statements for one kind of server, by
// name.
type runbook struct {
	*server
	blocks map[string]string
	run    map[string]bool // blocks that were run
}

var sqlBlock = regexp.MustCompile("(?ms)^```sql(?: (both|mysql|mariadb) ([a-z-]+))?\n(.*?)^```")

func (s *server) runbook(t *testing.T) *runbook {
	t.Helper()
	book := &runbook{server: s, blocks: make(map[string]string), run: make(map[string]bool)}
	for _, match := range sqlBlock.FindAllStringSubmatch(operationsPage(t), -1) {
		kind, name, text := match[1], match[2], match[3]
		require.NotEmpty(t, name, "every block has a kind and a name: %s", text)
		if kind == "both" || kind == string(s.Kind()) {
			require.NotContains(t, book.blocks, name)
			book.blocks[name] = text
		}
	}
	return book
}

// An answer is a row of a statement's result, by column names in lower case.
type answer map[string]string

// do runs a block as an operator would, for a lock and a session, and returns
// all rows.
func (b *runbook) do(t *testing.T, db *sql.DB, name, lock string, session int64) []answer {
	t.Helper()
	rows, err := b.try(t, db, name, lock, session)
	require.NoError(t, err, name)
	return rows
}

func (b *runbook) try(t *testing.T, db *sql.DB, name, lock string, session int64) (all []answer, err error) {
	t.Helper()
	require.Contains(t, b.blocks, name)
	b.run[name] = true
	text := strings.ReplaceAll(b.blocks[name], lockOnThePage, lock)
	text = regexp.MustCompile(`\b`+sessionOnThePage+`\b`).ReplaceAllString(text, strconv.FormatInt(session, 10))
	for _, statement := range strings.SplitAfter(text, ";\n") {
		if statement == "" {
			continue
		}
		rows, err := readRows(db, strings.TrimSuffix(statement, ";\n"))
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

func readRows(db *sql.DB, statement string) (all []answer, err error) {
	rows, err := db.QueryContext(background, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		r := make(answer)
		for i, column := range columns {
			r[strings.ToLower(column)] = values[i].String
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// with returns the rows in which the column has the value.
func with(rows []answer, column, value string) []answer {
	return slices.DeleteFunc(slices.Clone(rows), func(r answer) bool { return r[column] != value })
}

// onPlainServers runs the test on servers that no other test uses at the same
// time, with default options. Such a MariaDB does not list waiters.
func onPlainServers(t *testing.T, test func(t *testing.T, srv *server)) {
	for _, kind := range on().Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if kind == servers.MySQL {
				test(t, borrow(t, kind))
			} else {
				test(t, plainMariaDB.borrow(t))
			}
		})
	}
}

// A journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A night on call: every statement of the page is run, and has the effect that
// the page describes.
func TestOperations_Night(t *testing.T) {
	t.Parallel()
	onPlainServers(t, func(t *testing.T, srv *server) {
		book, name := srv.runbook(t), newName("night")
		at := setup{srv, byOpen}
		var log journal
		holder := at.lockerOn(t, srv.open(t, "connectionAttributes=program_name:billing"),
			namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		waiter, next := at.locker(t), at.locker(t)

		assert.Equal(t, "", only(t, book.do(t, srv.admin, "used", name, 0)), "the lock is not held")
		c, ctx := hold(t, t.Context(), holder, name)
		id := book.holder(t, name)
		w := begin(t, t.Context(), waiter, name, namedlock.Forever)
		w.queued(t)

		var waiting int64
		if srv.Kind() == servers.MySQL {
			waiting = book.findOnMySQL(t, name, id)
		} else {
			waiting = book.findOnMariaDB(t, name, id)
		}
		found, held, err := next.Holder(t.Context(), name)
		require.NoError(t, err)
		require.True(t, held)
		assert.EqualValues(t, id, found.ConnectionID)

		_ = book.do(t, srv.admin, "kill-waiter", name, id) // a holder does not run a query
		_ = book.do(t, srv.admin, "kill-waiter", name, waiting)
		require.ErrorIs(t, w.err(t), namedlock.ErrInterrupted)
		assert.Equal(t, id, book.holder(t, name), "KILL QUERY frees nothing")
		requireHeld(t, ctx)

		n := begin(t, t.Context(), next, name, namedlock.Forever)
		n.queued(t)
		_ = book.do(t, srv.admin, "kill", name, id)
		requireLost(t, ctx, name)
		n.holds(t)
		assert.NotEqual(t, id, book.holder(t, name))
		c.requireLossReported(t, name)
		assert.EqualValues(t, 1, holder.Stats().Lost)
		eventually(t, func() bool {
			return strings.Contains(log.String(), "lost a session and the locks on it") && strings.Contains(log.String(), name)
		}, "the loss is logged")
		n.release(t)

		connections := book.do(t, srv.admin, "connections", name, 0)
		require.Len(t, connections, 3)
		assert.NotEmpty(t, connections[0]["@@max_connections"])
		assert.Equal(t, "Max_used_connections", connections[1]["variable_name"])
		assert.Equal(t, "Threads_connected", connections[2]["variable_name"])

		left, err := srv.open(t, "").Conn(t.Context())
		require.NoError(t, err)
		_, err = left.ExecContext(t.Context(), "START TRANSACTION WITH CONSISTENT SNAPSHOT")
		require.NoError(t, err)
		var session int64
		require.NoError(t, left.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&session))
		assert.True(t, slices.ContainsFunc(book.do(t, srv.admin, "transactions", name, 0), func(tx answer) bool {
			return tx["id"] == fmt.Sprint(session) && tx["state"] == "RUNNING"
		}), "the open transaction is listed")

		for block := range book.blocks {
			assert.True(t, book.run[block], "no test runs the block %q of the page", block)
		}
	})
}

// only returns the value of the only column of the only row.
func only(t *testing.T, rows []answer) (value string) {
	t.Helper()
	require.Len(t, rows, 1)
	require.Len(t, rows[0], 1)
	for _, value = range rows[0] {
	}
	return value
}

func (b *runbook) holder(t *testing.T, name string) int64 {
	t.Helper()
	id, err := strconv.ParseInt(only(t, b.do(t, b.admin, "used", name, 0)), 10, 64)
	require.NoError(t, err)
	return id
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}

// findOnMySQL checks the page's statements about the holder, and returns the
// session that waits.
func (b *runbook) findOnMySQL(t *testing.T, name string, id int64) (waiting int64) {
	t.Helper()
	eventually(t, func() bool {
		pending := with(b.do(t, b.admin, "who", name, 0), "status", "PENDING")
		if len(pending) == 0 {
			return false
		}
		assert.Equal(t, name, pending[0]["name"])
		waiting = number(t, pending[0]["id"])
		return true
	}, "the waiter is seen")
	granted := with(b.do(t, b.admin, "who", name, 0), "status", "GRANTED")
	require.Len(t, granted, 1)
	assert.Equal(t, name, granted[0]["name"])
	assert.Equal(t, id, number(t, granted[0]["id"]))
	assert.Equal(t, "root", granted[0]["user"])
	assert.NotEmpty(t, granted[0]["host"])
	assert.Equal(t, "billing", granted[0]["program"])
	assert.Equal(t, "Sleep", granted[0]["command"])
	return waiting
}

// findOnMariaDB is findOnMySQL for MariaDB.
func (b *runbook) findOnMariaDB(t *testing.T, name string, id int64) (waiting int64) {
	t.Helper()
	eventually(t, func() bool {
		all := b.do(t, b.admin, "waiters", name, 0)
		if len(all) == 0 {
			return false
		}
		assert.Contains(t, all[0]["info"], "GET_LOCK")
		waiting = number(t, all[0]["id"])
		return true
	}, "the waiter is seen")
	who := b.do(t, b.admin, "who", name, 0)
	require.Len(t, who, 1)
	assert.Equal(t, id, number(t, who[0]["id"]))
	assert.Equal(t, "root", who[0]["user"])
	assert.NotEmpty(t, who[0]["host"])
	assert.Equal(t, "Sleep", who[0]["command"])
	_ = b.do(t, b.admin, "plugin", name, 0)
	all := with(b.do(t, b.admin, "all", name, 0), "name", name)
	require.Len(t, all, 1)
	assert.Equal(t, id, number(t, all[0]["id"]))
	assert.Equal(t, "Sleep", all[0]["command"])
	return waiting
}

// An operator needs the privileges that the page lists, and no others.
func TestOperations_Privileges(t *testing.T) {
	t.Parallel()
	onPlainServers(t, func(t *testing.T, srv *server) {
		book, name := srv.runbook(t), newName("privileges")
		app := srv.openAs(t, newUser(), nil)
		killer, reader := "CONNECTION_ADMIN ON *.*", "SELECT ON performance_schema.*"
		if srv.Kind() == servers.MariaDB {
			killer, reader = "CONNECTION ADMIN ON *.*", "PROCESS ON *.*"
		}
		nobody := srv.openAs(t, newUser(), nil)
		oncall := srv.openAs(t, newUser(), []string{killer, reader})

		f := srv.foreignOn(t, app)
		f.lock(name)
		assert.Equal(t, fmt.Sprint(f.id), only(t, book.do(t, nobody, "used", name, 0)), "any user may ask")
		rows, err := book.try(t, nobody, "who", name, 0)
		assert.True(t, err != nil || len(rows) == 0, "not any user may ask more: %v", rows)
		_, err = book.try(t, nobody, "kill", name, f.id)
		require.Error(t, err)

		assert.Len(t, book.do(t, oncall, "who", name, 0), 1)
		_ = book.do(t, oncall, "kill", name, f.id)
		f = srv.foreignOn(t, app)
		f.lockSoon(name)
		_ = book.do(t, app, "kill", name, f.id)
		srv.foreign(t).lockSoon(name)
	})
}

// In the process list a live holder differs from a dead one: a Locker sends
// statements on its sessions.
func TestOperations_ALivingHolderSpeaks(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		interval := calm()
		most := int64(interval.Seconds()) + 2
		l, f := setup{srv, byOpen}.locker(t, namedlock.WithKeepAlive(interval)), srv.foreign(t)
		name := newName("speaks")
		_, ctx := hold(t, t.Context(), l, name)
		idle := func(id int64) (seconds int64) {
			require.NoError(t, srv.admin.QueryRowContext(background,
				"SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = ?", id).Scan(&seconds))
			return seconds
		}
		id := f.holder(name)
		silent := srv.foreign(t)
		eventually(t, func() bool {
			requireHeld(t, ctx)
			assert.LessOrEqual(t, idle(id), most, "the holder has been silent")
			time.Sleep(100 * time.Millisecond) // the column counts seconds
			return idle(silent.id) >= 2*most
		}, "a session that is silent shows it")
	})
}

// If the server has no connection left, locks share the sessions that the
// Locker has. A Locker without a session returns errors. Held locks stay held.
func TestOperations_NoConnectionLeft(t *testing.T) {
	t.Parallel()
	onPlainServers(t, func(t *testing.T, srv *server) {
		_, err := srv.admin.ExecContext(background, "SET GLOBAL max_connections = 10")
		require.NoError(t, err)
		l, name := setup{srv, byOpen}.locker(t), newName("held")
		c, ctx := hold(t, t.Context(), l, name)

		hogs := srv.open(t)
		var last error
		for last == nil {
			var conn *sql.Conn
			if conn, last = hogs.Conn(background); last == nil {
				defer conn.Close()
			}
		}
		var refused *mysql.MySQLError
		require.ErrorAs(t, last, &refused)
		require.EqualValues(t, 1040, refused.Number)

		require.NoError(t, l.WithLock(t.Context(), newName("one-more"), time.Minute, nothing))
		err = setup{srv, byOpen}.locker(t).WithLock(t.Context(), newName("one-more"), time.Minute, unexpected(t))
		require.ErrorIs(t, err, namedlock.ErrUnavailable)
		require.ErrorAs(t, err, &refused)
		assert.EqualValues(t, 1040, refused.Number)
		requireHeld(t, ctx)
		c.release(t)
	})
}

// The page lists every line that the library logs, with its level, and no other
// line.
func TestOperations_LogLines(t *testing.T) {
	t.Parallel()
	var logged []string
	call := regexp.MustCompile(`(?:ogger|\bo)\.(Error|Warn|warn|Info|Debug)(?:Context)?\((?:[\w.]+, )?"namedlock: ([^"]+)"`)
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != ".." && path != filepath.Join("..", "internal") && !strings.HasPrefix(path, filepath.Join("..", "internal")+string(filepath.Separator)):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range call.FindAllSubmatch(text, -1) {
			logged = append(logged, strings.ToUpper(string(match[1]))+" "+string(match[2]))
		}
		return err
	}))
	var told []string
	line := regexp.MustCompile("(?m)^\\| (ERROR|WARN|INFO|DEBUG) \\| `([^`]+)` \\|")
	for _, match := range line.FindAllStringSubmatch(operationsPage(t), -1) {
		told = append(told, match[1]+" "+match[2])
	}
	require.NotEmpty(t, logged)
	assert.ElementsMatch(t, logged, told)
}

// A lock that other code acquired by hand, and left on a pooled connection, is
// logged.
func TestOperations_LeakedLockIsLogged(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db, name := srv.open(t), newName("leaked")
		conn, err := db.Conn(background)
		require.NoError(t, err)
		var got int
		require.NoError(t, conn.QueryRowContext(background, "SELECT GET_LOCK(?, 0)", name).Scan(&got))
		require.Equal(t, 1, got)
		require.NoError(t, conn.Close())

		var log journal
		l := setup{srv, byOpen}.lockerOn(t, db, namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error { return nil }))
		const line = "released locks that other code left on a connection"
		eventually(t, func() bool { return strings.Contains(log.String(), line) }, "the log contains: %s", line)
	})
}

// A holder that waits for another lock runs a GET_LOCK.
func TestOperations_HolderThatWaits(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f := setup{srv, byOpen}.locker(t), srv.foreign(t)
		outer, inner := newName("outer"), newName("inner")
		f.lock(inner)
		_, ctx := hold(t, t.Context(), l, outer)
		c := begin(t, ctx, l, inner, namedlock.Forever)
		id := f.holder(outer)
		eventually(t, func() bool {
			var command, info sql.NullString
			require.NoError(t, srv.admin.QueryRowContext(background,
				"SELECT COMMAND, INFO FROM information_schema.PROCESSLIST WHERE ID = ?", id).Scan(&command, &info))
			return (command.String == "Query" || command.String == "Execute") && strings.Contains(info.String, "GET_LOCK")
		}, "the holder is seen to wait")
		f.unlock(inner)
		c.holds(t)
		c.release(t)
	})
}
