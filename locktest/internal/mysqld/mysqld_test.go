package mysqld

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// connect returns a session of its own.
func connect(t *testing.T, s *Server) *sql.Conn {
	t.Helper()
	db := sql.OpenDB(s.Process("test"))
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask returns a row as text, "NULL" for NULL.
func ask(conn *sql.Conn, query string, args ...any) ([]string, error) {
	rows, err := conn.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err())
	}
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	err = rows.Scan(into...)
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = "NULL"
		if v.Valid {
			row[i] = v.String
		}
	}
	return row, err
}

func requireAnswer(t *testing.T, conn *sql.Conn, want []string, query string, args ...any) {
	t.Helper()
	row, err := ask(conn, query, args...)
	require.NoError(t, err, query)
	require.Equal(t, want, row, query)
}

func requireErrorNumber(t *testing.T, err error, want uint16) {
	t.Helper()
	var e *mysql.MySQLError
	require.ErrorAs(t, err, &e)
	require.Equal(t, want, e.Number, e.Message)
}

func TestStatements(t *testing.T) {
	s := New()
	conn, other := connect(t, s), connect(t, s)
	for _, c := range []struct {
		query string
		args  []any
		want  []string
	}{
		{"SELECT VERSION(), @@version_comment", nil, []string{"9.7.0-locktest", "namedlock/locktest"}},
		{"SELECT @@character_set_client, @@session.wait_timeout, @@global.read_only", nil, []string{"utf8mb4", "28800", "0"}},
		{"SELECT GET_LOCK(?, ?)", []any{"a", 0}, []string{"1"}},
		{"SELECT GET_LOCK(?, ?)", []any{"A", 0}, []string{"1"}}, // again
		{"SELECT IS_USED_LOCK(?) = CONNECTION_ID(), IS_USED_LOCK(?), CONNECTION_ID(), 0, NULL", []any{"a", "b"}, []string{"1", "NULL", "1", "0", "NULL"}},
		{"SELECT RELEASE_LOCK(?)", []any{"a"}, []string{"1"}},
		{"SELECT RELEASE_LOCK(?)", []any{"a"}, []string{"1"}},
		{"SELECT RELEASE_LOCK(?)", []any{"a"}, []string{"NULL"}},
		{"SELECT /*+ MAX_EXECUTION_TIME(100) */ GET_LOCK(?, ?)", []any{"b", 1}, []string{"1"}},
		{"SELECT GET_LOCK(?, ?), RELEASE_ALL_LOCKS()", []any{"b", 0}, []string{"1", "2"}},
		{"SELECT 1 /*M! , @@wsrep_on */ /*M!100500 , 2 */ /*!80000 , 3 */ /*! , 4 */ /* , 5 */", nil, []string{"1", "3", "4"}},
		{"SELECT 1 /*!80000 , (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME IN ('a', 'b')) */", nil, []string{"1", "0"}},
		{"SET SESSION wait_timeout = 60", nil, nil},
		{"SELECT @@wait_timeout", nil, []string{"60"}},
	} {
		requireAnswer(t, conn, c.want, c.query, c.args...)
	}
	requireAnswer(t, conn, []string{"1"}, "SELECT GET_LOCK(?, ?)", "a", 0)
	requireAnswer(t, other, []string{"0"}, "SELECT GET_LOCK(?, ?)", "a", 0)
	requireAnswer(t, other, []string{"0"}, "SELECT RELEASE_LOCK(?)", "a")
	requireAnswer(t, other, []string{"0", "1"}, "SELECT IS_USED_LOCK(?) = CONNECTION_ID(), IS_USED_LOCK(?)", "a", "a")

	for query, number := range map[string]uint16{
		"SELECT @@wsrep_on":       1193,
		"SELECT SLEEP(1)":         1305,
		"SELECT GET_LOCK(?)":      1305,
		"SELECT CONNECTION_ID":    1064,
		"SELECT CONNECTION_ID(":   1064,
		"SELECT":                  1064,
		"SELECT 1 FROM t":         1064,
		"SELECT 1,":               1064,
		"SELECT RELEASE_LOCK(?)":  1210,
		"INSERT INTO t VALUES(1)": 1064,
	} {
		_, err := ask(conn, query)
		requireErrorNumber(t, err, number)
	}
}

// What MySQL was seen to take for one lock, and what for two.
func TestFold(t *testing.T) {
	for _, one := range [][2]string{{"foo", "FOO"}, {"é", "É"}, {"Σ", "σ"}, {"İ", "i"}, {"ǆ", "Ǆ"}, {"Ж", "ж"}, {"Ⅷ", "ⅷ"}} {
		assert.Equal(t, fold(one[0]), fold(one[1]), "%v", one)
	}
	for _, two := range [][2]string{{"ı", "I"}, {"ς", "Σ"}, {"ß", "ẞ"}, {"Ⱥ", "ⱥ"}, {"e", "é"}, {"a", "a "}} {
		assert.NotEqual(t, fold(two[0]), fold(two[1]), "%v", two)
	}
}

// The hint ends a wait to the millisecond, by an error, the timeout by 0.
func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		holder, waiter := connect(t, s), connect(t, s)
		requireAnswer(t, holder, []string{"1"}, "SELECT GET_LOCK(?, ?)", "a", 0)

		begun := time.Now()
		_, err := ask(waiter, "SELECT /*+ MAX_EXECUTION_TIME(1500) */ GET_LOCK(?, ?)", "a", 2)
		requireErrorNumber(t, err, 3024)
		assert.Equal(t, 1500*time.Millisecond, time.Since(begun))

		begun = time.Now()
		requireAnswer(t, waiter, []string{"0"}, "SELECT GET_LOCK(?, ?)", "a", 2)
		assert.Equal(t, 2*time.Second, time.Since(begun))

		// A negative timeout waits until its connection is closed.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var answer sql.NullInt64
		err = waiter.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", "a", -1).Scan(&answer)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		requireAnswer(t, holder, []string{"1"}, "SELECT RELEASE_LOCK(?)", "a")
		assert.Empty(t, s.locks.Grants(), "no waiter is left")
	})
}

// Waiters are served first come first served, and when a holder's connection
// ends.
func TestWaitersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		p := s.Process("test")
		release, ok := p.Hold("a", 0)
		require.True(t, ok)
		served := make(chan int, 3)
		for i := range 3 {
			go func() {
				if _, ok := p.Hold("a", time.Minute); ok {
					served <- i
				}
			}()
			synctest.Wait()
		}
		release()
		for i := range 3 {
			assert.Equal(t, i, <-served)
			assert.Equal(t, []string{"a"}, p.Held())
			assert.True(t, p.Kill("A"))
		}
		assert.False(t, p.Kill("a"))
		assert.Empty(t, s.locks.Grants())
	})
}

// A wait that closes a circle is refused, and its session keeps its locks. A
// wait that does not close a circle is not refused.
func TestDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		names := []string{"a", "b", "c"}
		var conns []*sql.Conn
		for _, name := range names {
			conn := connect(t, s)
			requireAnswer(t, conn, []string{"1"}, "SELECT GET_LOCK(?, ?)", name, 0)
			conns = append(conns, conn)
		}
		waits := func(conn *sql.Conn, name string) <-chan []string {
			done := make(chan []string, 1)
			go func() {
				row, _ := ask(conn, "SELECT GET_LOCK(?, ?)", name, 60)
				done <- row
			}()
			synctest.Wait()
			assert.Empty(t, done)
			return done
		}
		a := waits(conns[0], "b")
		b := waits(conns[1], "c")
		stranger := waits(connect(t, s), "a")
		_, err := ask(conns[2], "SELECT GET_LOCK(?, ?)", "a", 60)
		requireErrorNumber(t, err, 3058)

		requireAnswer(t, conns[2], []string{"1"}, "SELECT RELEASE_LOCK(?)", "c")
		assert.Equal(t, []string{"1"}, <-b)
		requireAnswer(t, conns[1], []string{"2"}, "SELECT RELEASE_ALL_LOCKS()")
		assert.Equal(t, []string{"1"}, <-a)
		requireAnswer(t, conns[0], []string{"2"}, "SELECT RELEASE_ALL_LOCKS()")
		assert.Equal(t, []string{"1"}, <-stranger)
	})
}

func TestFailRelease(t *testing.T) {
	s := New()
	p := s.Process("test")
	db := sql.OpenDB(p)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	own := errors.New("own")
	p.FailRelease(own)
	requireAnswer(t, conn, []string{"NULL"}, "SELECT RELEASE_LOCK(?)", "a")
	requireAnswer(t, conn, []string{"1"}, "SELECT GET_LOCK(?, ?)", "a", 0)
	_, err = ask(conn, "SELECT RELEASE_LOCK(?)", "a")
	require.ErrorIs(t, err, own)
	requireAnswer(t, conn, []string{"1"}, "SELECT RELEASE_LOCK(?)", "a")
}

// A connection that the server has closed grants nothing any more.
func TestClosedConnection(t *testing.T) {
	s := New()
	conn := connect(t, s)
	requireAnswer(t, conn, []string{"1"}, "SELECT GET_LOCK(?, ?)", "a", 0)
	require.NoError(t, conn.Raw(func(c any) error {
		c.(interface{ end() }).end()
		return nil
	}))
	_, err := ask(conn, "SELECT GET_LOCK(?, ?)", "a", 0)
	require.ErrorIs(t, err, mysql.ErrInvalidConn)
	requireAnswer(t, connect(t, s), []string{"1"}, "SELECT GET_LOCK(?, ?)", "a", 0)
}
