package memserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serve returns the data source name of the server behind a TCP socket.
func serve(t *testing.T, s *Server) (dsn string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
	return "root@tcp(" + l.Addr().String() + ")/"
}

// connect returns a session of its own.
func connect(t *testing.T, dsn string) *sql.Conn {
	db, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	return conn
}

func ask(t *testing.T, conn *sql.Conn, query string) (answer sql.NullString) {
	t.Helper()
	require.NoError(t, conn.QueryRowContext(t.Context(), query).Scan(&answer), query)
	return answer
}

func TestServe(t *testing.T) {
	s := New()
	dsn := serve(t, s)
	first, second := connect(t, dsn), connect(t, dsn)
	require.NoError(t, first.PingContext(t.Context()))
	assert.Equal(t, "10.11.0-MariaDB", ask(t, first, "SELECT VERSION()").String)
	assert.Equal(t, "1", ask(t, first, "SELECT GET_LOCK('a', 0)").String)
	assert.Equal(t, "1", ask(t, first, "SELECT GET_LOCK('a', 0)").String, "again")
	assert.Equal(t, "0", ask(t, second, "SELECT GET_LOCK('a', 0.05)").String)

	granted := make(chan string)
	go func() {
		var answer string
		if err := second.QueryRowContext(t.Context(), "SELECT GET_LOCK('a', 60)").Scan(&answer); err != nil {
			answer = err.Error()
		}
		granted <- answer
	}()
	require.Eventually(t, func() bool { return len(s.Sent("60")) == 1 }, time.Minute, time.Millisecond)
	// The lock of a client that goes is the next waiter's.
	assert.ErrorIs(t, first.Raw(func(any) error { return driver.ErrBadConn }), driver.ErrBadConn)
	assert.Equal(t, "1", <-granted)
}

// If a session ended by Kill while its connection was idle in the db, db.Close
// returns an error and Close none. If the client has closed the socket, Close
// returns the error.
func TestClose(t *testing.T) {
	for _, byClient := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			var socket net.Conn
			cfg := s.Config()
			dial := cfg.DialFunc
			cfg.DialFunc = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
				socket, err = dial(ctx, network, address)
				return socket, err
			}
			connector, err := mysql.NewConnector(cfg)
			require.NoError(t, err)
			db, other := sql.OpenDB(connector), s.Open()
			require.NoError(t, db.PingContext(t.Context()))
			require.NoError(t, other.PingContext(t.Context()))
			if byClient {
				require.NoError(t, socket.Close())
				synctest.Wait()
				require.EqualError(t, s.Close(db), "bad connection")
				require.NoError(t, s.Close(other))
				return
			}
			s.Kill(1)
			s.Kill(2)
			require.NoError(t, s.Close(db))
			require.EqualError(t, other.Close(), "bad connection")
		})
	}
}

// A wait that would be a deadlock is refused, as MariaDB does it. Nothing is
// lost by it.
func TestDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		db := s.Open()
		defer db.Close()
		first, err := db.Conn(t.Context())
		require.NoError(t, err)
		second, err := db.Conn(t.Context())
		require.NoError(t, err)
		ask(t, first, "SELECT GET_LOCK('a', 0)")
		ask(t, second, "SELECT GET_LOCK('b', 0)")
		granted := make(chan error)
		go func() {
			_, err := first.ExecContext(t.Context(), "SELECT GET_LOCK('b', 60)")
			granted <- err
		}()
		synctest.Wait()
		_, err = second.ExecContext(t.Context(), "SELECT GET_LOCK('a', 60)")
		var e *mysql.MySQLError
		require.ErrorAs(t, err, &e)
		assert.EqualValues(t, erDeadlock, e.Number)
		assert.Equal(t, 2, s.Holder("b"))
		assert.Equal(t, "1", ask(t, second, "SELECT RELEASE_LOCK('b')").String)
		require.NoError(t, <-granted)
		assert.Equal(t, 1, s.Holder("b"))
		require.NoError(t, first.Close())
		require.NoError(t, second.Close())
	})
}

func TestRefuses(t *testing.T) {
	conn := connect(t, serve(t, New()))
	for query, number := range map[string]uint16{
		"SELECT 1 FROM t":                               erParse,
		"SELECT SLEEP(1)":                               erParse,
		"SELECT GET_LOCK('a', x)":                       erParse,
		"SELECT GET_LOCK(_utf8mb4 0x0, 0)":              erParse,
		"DROP DATABASE test":                            erParse,
		"SELECT @@no_such_variable":                     erUnknownVariable,
		"RELEASE SAVEPOINT " + strings.Repeat("s", 300): erNoSuchSavepoint,
	} {
		_, err := conn.ExecContext(t.Context(), query)
		var e *mysql.MySQLError
		require.ErrorAs(t, err, &e, query)
		assert.Equal(t, number, e.Number, query)
	}
	_, err := conn.PrepareContext(t.Context(), "SELECT 1")
	require.Error(t, err)
	require.NoError(t, conn.PingContext(t.Context()), "an error is an answer")
}
