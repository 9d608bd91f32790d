package server

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// beneath is driver.Conn under an unexported name, so that a struct that embeds
// it hides it.
type beneath = driver.Conn

// An oldConn is a driver's connection with only the methods that database/sql
// requires. It prepares every statement.
type oldConn struct {
	beneath
	prepares func() error
}

func (c oldConn) Prepare(text string) (driver.Stmt, error) {
	if err := c.prepares(); err != nil {
		return nil, err
	}
	return oldStmt{c.beneath, text}, nil
}

// An oldStmt puts its arguments into the text.
type oldStmt struct {
	conn driver.Conn
	text string
}

func (s oldStmt) Close() error  { return nil }
func (s oldStmt) NumInput() int { return -1 }

func (s oldStmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.conn.(driver.ExecerContext).ExecContext(context.Background(), s.text, named(args...))
}

func (s oldStmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.conn.(driver.QueryerContext).QueryContext(context.Background(), s.text, named(args...))
}

// A newConn prepares under a context.
type newConn struct{ oldConn }

func (c newConn) PrepareContext(_ context.Context, text string) (driver.Stmt, error) {
	if err := c.prepares(); err != nil {
		return nil, err
	}
	return newStmt{oldStmt{c.beneath, text}}, nil
}

type newStmt struct{ oldStmt }

func (s newStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.(driver.QueryerContext).QueryContext(ctx, s.text, args)
}

// wrapped replaces the db of b by one whose connections are wrapped.
func (b *bubble) wrapped(wrap func(driver.Conn) driver.Conn) {
	b.Helper()
	require.NoError(b, b.server.Close(b.db))
	b.db = b.server.OpenWrapped(wrap)
	b.db.SetMaxIdleConns(10)
}

var drivers = map[string]func(prepares func() error) func(driver.Conn) driver.Conn{
	"old": func(prepares func() error) func(driver.Conn) driver.Conn {
		return func(conn driver.Conn) driver.Conn { return oldConn{conn, prepares} }
	},
	"new": func(prepares func() error) func(driver.Conn) driver.Conn {
		return func(conn driver.Conn) driver.Conn { return newConn{oldConn{conn, prepares}} }
	},
}

func always() error { return nil }

// Locks and transactions work with a driver that is not known. A savepoint
// shows that the code has ended its transaction. It is logged once that a loss
// is noticed late.
func TestDrivers_ATransaction(t *testing.T) {
	for what, wrap := range drivers {
		t.Run(what, func(t *testing.T) {
			log := new(bytes.Buffer)
			inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble) {
				b.wrapped(wrap(always))
				for range 2 {
					c := b.held("a")
					b.code(b.begin(c), "INSERT row")
					require.NoError(b, c.Commit())
					b.code(b.begin(c), "INSERT row", "COMMIT", "INSERT after")
					require.ErrorIs(b, c.Commit(), fault.ErrTxEnded)
					b.release(c, "a")
				}
				assert.NotEmpty(b, b.server.Sent("RELEASE SAVEPOINT"))
				assert.Equal(b, 1, bytes.Count(log.Bytes(), []byte("noticed late, by keep-alive only")), log)
				c := b.held("b")
				assert.True(b, c.Unwatched())
				b.server.Kill(b.server.Holder("b"))
				assert.Equal(b, Unseen, c.Probe())
				assert.Error(b, c.Prove([]string{"b"}))
				_ = c.Discard()
			})
		})
	}
}

// If the error of the code's last statement means that the server has rolled
// back, the savepoint is not checked.
func TestDrivers_ADeadlockIsTheLastWord(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(drivers["new"](always))
		c := b.held("a")
		for _, tc := range []struct {
			cause error
			asks  int
		}{{&mysql.MySQLError{Number: erDeadlock}, 0}, {&mysql.MySQLError{Number: erSnapshot}, 0}, {errOwn, 1}} {
			b.code(b.begin(c), "INSERT row")
			asked := len(b.server.Sent("RELEASE SAVEPOINT"))
			assert.NoError(b, c.Rollback(tc.cause))
			assert.Len(b, b.server.Sent("RELEASE SAVEPOINT"), asked+tc.asks, tc.cause)
		}
		b.release(c, "a")
	})
}

// If the server refuses the savepoint, the transaction has not begun.
func TestDrivers_TheSavepointIsRefused(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(drivers["new"](always))
		c := b.held("a")
		b.server.Once("SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		_, err := c.Begin(nil)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.False(b, b.server.InTx(1))
		b.server.Once("RELEASE SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		b.code(b.begin(c), "INSERT row")
		err = c.Commit()
		require.Error(b, err, "not to be seen whether it is open")
		require.NotErrorIs(b, err, fault.ErrTxEnded)
		assert.False(b, b.server.InTx(1), "rolled back")
		b.server.Once("RELEASE SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		b.code(b.begin(c), "INSERT row")
		require.NoError(b, c.Rollback(errOwn))
		b.release(c, "a")
	})
}

// If the session ends and only a savepoint could have shown the state of its
// transaction, that state is not known.
func TestDrivers_UnseenAtTheEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(drivers["new"](always))
		c := b.held("a")
		b.code(b.begin(c), "INSERT row")
		b.server.Kill(1)
		err := c.Commit()
		require.ErrorIs(b, err, fault.ErrLost)
		b.requireLost(c)
		assert.ErrorIs(b, c.TxEnded(), fault.ErrTxUnseen)
	})
}

// A statement of database/sql's ends with its bound, even if the socket is not
// known. The statement itself goes on.
func TestDrivers_SilenceUnderAnEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(drivers["new"](always))
		c := b.use()
		ends := make(chan struct{})
		begun := time.Now()
		err := c.bounded(time.Second, func() error { <-ends; return nil })
		require.ErrorIs(b, err, ErrSilent)
		assert.Equal(b, time.Second, time.Since(begun))
		close(ends)
		c.broken = err
		b.put(c)
	})
}

// If a driver cannot prepare a statement, the statement fails. A driver that
// only runs prepared statements works, for New and for Open.
func TestDrivers_Prepare(t *testing.T) {
	refused := errors.New("not now")
	for what, wrap := range drivers {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				var err error
				b.wrapped(wrap(func() error { return err }))
				c := b.held("a")
				b.release(c, "a")
				c = b.use()
				err = refused
				_, asked := c.GetLock("b", 0)
				assert.ErrorIs(b, asked, refused)
				b.put(c)
				conn, taken := b.db.Conn(b.Context())
				require.NoError(b, taken)
				c = b.of.Use(conn, false)
				assert.ErrorIs(b, c.Ready(), refused)
				err = nil
				_ = c.Discard()

				conn, taken = b.db.Conn(b.Context())
				require.NoError(b, taken)
				lent := New(config(), false).Use(conn, true)
				require.NoError(b, lent.Ready())
				for range 3 {
					b.lock(lent, "c")
					require.NoError(b, lent.ReleaseLock("c"))
				}
				lent.get.close()
				err = refused
				_, asked = lent.GetLock("d", 0)
				assert.ErrorIs(b, asked, refused)
				err = nil
				_ = lent.Discard()
				_ = conn.Close()
			})
		})
	}
}

// A prepared statement that the server has forgotten is sent as text.
func TestDrivers_AForgottenStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(drivers["new"](always))
		c := b.held("a")
		require.NoError(b, c.ReleaseLock("a"))
		for _, number := range []uint16{erUnknownStatement, erNeedReprepare} {
			b.server.Once("GET_LOCK", &memserver.Reply{Number: number})
			b.lock(c, "a")
			require.NoError(b, c.ReleaseLock("a"))
		}
		b.put(c)
	})
}

// A countingConn counts the statements that are prepared, and those that are
// open.
type countingConn struct {
	beneath
	prepared, open *int
}

func (c countingConn) Prepare(text string) (driver.Stmt, error) {
	st, err := c.beneath.Prepare(text)
	if err != nil {
		return nil, err
	}
	*c.prepared++
	*c.open++
	return countedStmt{st, c.open}, nil
}

type countedStmt struct {
	driver.Stmt
	open *int
}

func (s countedStmt) Close() error {
	*s.open--
	return s.Stmt.Close()
}

// With WithoutServerCheck a session may hold a lock when its first keep-alive
// finds that its numbers must be read as bytes. The session goes on with the
// statements that it has prepared, and closes them at the end.
func TestDrivers_AsBytesUnderALock(t *testing.T) {
	inBubble(t, func(c *Config) { c.CheckServer, c.Lease = false, 0 }, func(b *bubble) {
		b.server.SetPrepares()
		prepared, open := 0, 0
		b.wrapped(func(c driver.Conn) driver.Conn { return countingConn{c, &prepared, &open} })
		conn, err := b.db.Conn(b.Context())
		require.NoError(b, err)
		c := New(b.of.Config, false).Use(conn, true)
		b.lock(c, "a")
		c.asBytes = true
		for range 5 {
			b.lock(c, "b")
			require.NoError(b, c.ReleaseLock("b"))
		}
		require.NoError(b, c.ReleaseLock("a"))
		assert.Equal(b, 2, prepared, "GET_LOCK and RELEASE_LOCK")
		require.NoError(b, c.GiveBack())
		assert.Zero(b, open)
		require.NoError(b, conn.Close())
	})
}
