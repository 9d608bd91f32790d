package e2e

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// foreign is a session that does not use the library.
type foreign struct {
	t    testing.TB
	conn *sql.Conn
	id   int64
}

func (s *server) foreign(t testing.TB) *foreign {
	t.Helper()
	conn, err := s.admin.Conn(background)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	f := &foreign{t: t, conn: conn}
	f.id, err = f.ask("SELECT CONNECTION_ID()")
	require.NoError(t, err)
	return f
}

// ask returns a number, or 0 for NULL. Any goroutine may call it, but only one
// at a time.
func (f *foreign) ask(query string, args ...any) (int64, error) {
	var n sql.NullInt64
	err := f.conn.QueryRowContext(background, query, args...).Scan(&n)
	return n.Int64, err
}

func (f *foreign) number(query string, args ...any) int64 {
	f.t.Helper()
	n, err := f.ask(query, args...)
	require.NoError(f.t, err)
	return n
}

// get reports whether GET_LOCK granted the lock within the given number of
// seconds.
func (f *foreign) get(name string, seconds int) bool {
	f.t.Helper()
	return f.number(locksql.SelectGetLock, name, seconds) == 1
}

// lock acquires a lock that is free.
func (f *foreign) lock(name string) {
	f.t.Helper()
	require.True(f.t, f.get(name, 0), "a foreign session cannot have %q: session %d has it", name, f.holder(name))
}

// lockSoon acquires a lock that is about to become free.
func (f *foreign) lockSoon(name string) {
	f.t.Helper()
	require.True(f.t, f.get(name, int(patience.Seconds())), "%q does not come free: session %d has it", name, f.holder(name))
}

func (f *foreign) unlock(name string) {
	f.t.Helper()
	require.EqualValues(f.t, 1, f.number(locksql.SelectReleaseLock, name), "the foreign session did not hold %q", name)
}

// free fails the test unless the names are free now.
func (f *foreign) free(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.lock(name)
		f.unlock(name)
	}
}

// holder returns the session that holds the lock, or 0 if none does.
func (f *foreign) holder(name string) int64 {
	f.t.Helper()
	id, err := locksql.Holder(background, f.conn, name)
	require.NoError(f.t, err)
	return id
}

// kill ends a session. The session may have ended before.
func (f *foreign) kill(id int64) { _ = locksql.Kill(background, f.conn, id) }

// host returns the client's host, as the server reports it.
func (f *foreign) host(t *testing.T) (host string) {
	t.Helper()
	require.NoError(t, f.conn.QueryRowContext(background, "SELECT SUBSTRING_INDEX(USER(), '@', -1)").Scan(&host))
	return host
}

// killQuery ends a session's statement, if one is running.
func (f *foreign) killQuery(id int64) {
	_, _ = f.conn.ExecContext(background, fmt.Sprintf("KILL QUERY %d", id))
}

// A claim is a lock that a session holds or waits for.
type claim struct {
	name    string
	session int64
	pending bool // the session waits for the lock
}

// claims returns the locks that the sessions of the server hold or wait for.
func (s *server) claims(t *testing.T) []claim {
	t.Helper()
	rows, err := s.admin.QueryContext(background, `SELECT OBJECT_NAME, PROCESSLIST_ID, LOCK_STATUS = 'PENDING'
		FROM performance_schema.metadata_locks JOIN performance_schema.threads ON THREAD_ID = OWNER_THREAD_ID
		WHERE OBJECT_TYPE = 'USER LEVEL LOCK' AND PROCESSLIST_ID IS NOT NULL`)
	require.NoError(t, err)
	defer rows.Close()
	var all []claim
	for rows.Next() {
		var c claim
		require.NoError(t, rows.Scan(&c.name, &c.session, &c.pending))
		all = append(all, c)
	}
	require.NoError(t, rows.Err())
	return all
}

// waiters returns the sessions that wait for a lock in the server's queue.
func (s *server) waiters(t *testing.T, name string) (sessions []int64) {
	t.Helper()
	for _, c := range s.claims(t) {
		if c.pending && strings.EqualFold(c.name, name) {
			sessions = append(sessions, c.session)
		}
	}
	return sessions
}

// awaitWaiter waits until a session waits for the lock, and returns that
// session.
func (s *server) awaitWaiter(t *testing.T, name string) (session int64) {
	t.Helper()
	eventually(t, func() bool {
		if waiters := s.waiters(t, name); len(waiters) > 0 {
			session = waiters[0]
			return true
		}
		return false
	}, "a session waits for %q", name)
	return session
}

// sessionsAt returns the sessions that hold the lock or wait for it, except for
// those in but.
func (s *server) sessionsAt(t *testing.T, name string, but ...int64) (sessions []int64) {
	t.Helper()
	for _, c := range s.claims(t) {
		if strings.EqualFold(c.name, name) && !slices.Contains(but, c.session) {
			sessions = append(sessions, c.session)
		}
	}
	return sessions
}
