package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A lateReader is a connection of a process that does not read for a while. The
// bytes that arrive until then are read in one piece.
type lateReader struct {
	*net.TCPConn
	// Closed when the process reads again; nil: it reads at once.
	late *atomic.Pointer[chan struct{}]
}

func (c *lateReader) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if late := c.late.Load(); late != nil && err == nil {
		<-*late
		more, _ := c.TCPConn.Read(b[n:]) // the next Read returns its error again
		n += more
	}
	return n, err
}

// The server grants a lock. Since the process sends nothing for as long as the
// lease, the server gives the lock away, and MySQL announces that it closes the
// connection. All that happens before the process, which was stopped or
// starved, reads the first byte. The unread bytes after the answer are not rows
// of a query: they mean a loss.
func TestPromise11_AGoodbyeRightBehindTheGrantIsALoss(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		var late atomic.Pointer[chan struct{}]
		cfg, err := mysql.ParseDSN(srv.DSN())
		require.NoError(t, err)
		cfg.Logger = &mysql.NopLogger{}
		cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &lateReader{conn.(*net.TCPConn), &late}, nil
		}
		connector, err := mysql.NewConnector(cfg)
		require.NoError(t, err)
		db := sql.OpenDB(connector)
		t.Cleanup(func() { db.Close() })
		lease := seconds(time.Second)
		l, f := at.lockerOn(t, db, namedlock.WithLease(lease)), at.foreign(t)

		prompt(t, 2*lease/3, "a loss before the grant was read", func() time.Duration {
			name := newName("goodbye")
			f.lock(name)
			c := begin(t, t.Context(), l, name, patience)
			session := at.awaitWaiter(t, name)
			read := make(chan struct{})
			late.Store(&read)
			f.unlock(name)
			eventually(t, func() bool { return f.holder(name) == session }, "the lock is granted")
			f.lockSoon(name)
			late.Store(nil)
			close(read)
			ctx := c.holds(t)
			start := time.Now()
			requireLost(t, ctx, name)
			took := time.Since(start)
			c.requireLossReported(t, name)
			return took
		})
		requireUsable(t, l)
	})
}

// If database/sql does not check the sockets of idle connections, a call may
// borrow a connection that the server has closed for idleness. The server's
// notice is not an answer. The call repeats its statement on another
// connection.
func TestPromise07_AGoodbyeIsNoAnswer(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t, "checkConnLiveness=false", "wait_timeout=1")
		var session int64
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&session))
		f := srv.foreign(t)
		eventually(t, func() bool {
			return f.number("SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", session) == 0
		}, "the server has closed the idle connection")
		require.NoError(t, setup{srv, byOpen}.lockerOn(t, db).WithLock(t.Context(), newName("stale"), 0, nothing))
	})
}

// If the properties of a session are not known yet, the Locker sends its
// greeting, the first query on a new session, before the first keep-alive. If
// the greeting fails, the lock is lost, and the error is only ErrLost.
func TestPromise11_ALossByTheGreetingIsOnlyALoss(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		broken := fmt.Errorf("broken: %w", mysql.ErrInvalidConn)
		l := setup{srv, byNew}.spied(t, namedlock.WithoutServerCheck(), namedlock.WithKeepAlive(often()))
		l.spy.Once("SELECT VERSION()", spy.FailBefore(broken))
		name := newName("greeting")
		c, ctx := hold(t, t.Context(), l, name)
		receive(t, ctx.Done(), "the context under %q ends", name)
		for _, err := range []error{context.Cause(ctx), func() error { c.finish(nil); return c.err(t) }()} {
			requireError(t, err, namedlock.ErrLost, name)
			assert.ErrorIs(t, err, broken)
		}
	})
}
