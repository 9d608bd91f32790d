package session

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// beneath is driver.Conn under a name that is not exported, so that what embeds it hides it.
type beneath = driver.Conn

// An oldConn is a driver's connection with nothing but what database/sql demands: everything is prepared.
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
	return s.conn.(driver.ExecerContext).ExecContext(context.Background(), s.text, named(args))
}

func (s oldStmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.conn.(driver.QueryerContext).QueryContext(context.Background(), s.text, named(args))
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

// A wrapping wraps what a Connector makes.
type wrapping struct {
	driver.Connector
	wrap func(driver.Conn) driver.Conn
}

func (w wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := w.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return w.wrap(conn), nil
}

// wrapped puts the pool of b on a db whose connections are wrapped.
func (b *bubble) wrapped(c Config, wrap func(driver.Conn) driver.Conn) {
	b.Helper()
	b.pool.Close()
	require.NoError(b, b.db.Close())
	b.db = sql.OpenDB(wrapping{b.server.Connector(), wrap})
	b.db.SetMaxIdleConns(10)
	b.pool = NewPool(b.db, c)
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

// A driver that cannot be seen has locks and transactions; a savepoint shows the end of one that its own code has ended, and the
// log says once that a loss shows late.
func TestDrivers_ATransaction(t *testing.T) {
	for what, wrap := range drivers {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				log := new(bytes.Buffer)
				c := config()
				c.Logger = slog.New(slog.NewTextHandler(log, nil))
				b.wrapped(c, wrap(always))
				for range 2 {
					s, h := b.owned("a")
					b.code(b.begin(s), "INSERT row")
					require.NoError(b, b.commit(s))
					b.code(b.begin(s), "INSERT row", "COMMIT", "INSERT after")
					require.ErrorIs(b, b.commit(s), fault.ErrTxEnded)
					b.release(s, h)
					synctest.Wait()
				}
				assert.NotEmpty(b, b.server.Sent("RELEASE SAVEPOINT"))
				assert.Equal(b, 1, bytes.Count(log.Bytes(), []byte("noticed late, by keep-alive only")), log)
				_, h := b.held("b")
				_, unwatched := b.pool.Sessions()
				assert.Equal(b, 1, unwatched)
				id := b.server.Holder("b")
				b.server.Kill(id)
				b.awaitLoss(h)
			})
		})
	}
}

// An error in answer to the code's last statement says that the server has rolled back: no savepoint is asked then.
func TestDrivers_ADeadlockIsTheLastWord(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(config(), drivers["new"](always))
		s, h := b.owned("a")
		for _, c := range []struct {
			cause error
			asks  int
		}{{&mysql.MySQLError{Number: erDeadlock}, 0}, {&mysql.MySQLError{Number: erSnapshot}, 0}, {errors.New("own"), 1}} {
			b.code(b.begin(s), "INSERT row")
			asked := len(b.server.Sent("RELEASE SAVEPOINT"))
			require.NoError(b, b.pool.TakeUrgent(s))
			assert.NoError(b, s.Rollback(c.cause))
			b.pool.Put(s)
			assert.Len(b, b.server.Sent("RELEASE SAVEPOINT"), asked+c.asks, c.cause)
		}
		b.release(s, h)
	})
}

// A savepoint that is refused is a transaction that has not begun.
func TestDrivers_TheSavepointIsRefused(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(config(), drivers["new"](always))
		s, h := b.owned("a")
		b.server.Once("SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		require.NoError(b, b.pool.TakeUrgent(s))
		_, err := s.Begin(nil)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		b.pool.Put(s)
		assert.False(b, b.server.InTx(1))
		b.server.Once("RELEASE SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		b.code(b.begin(s), "INSERT row")
		err = b.commit(s)
		require.Error(b, err, "not to be seen whether it is open")
		require.NotErrorIs(b, err, fault.ErrTxEnded)
		assert.False(b, b.server.InTx(1), "rolled back")
		b.server.Once("RELEASE SAVEPOINT", &memserver.Reply{Number: erLockWaitTimeout})
		b.code(b.begin(s), "INSERT row")
		require.NoError(b, b.pool.TakeUrgent(s))
		require.NoError(b, s.Rollback(errors.New("own")))
		b.pool.Put(s)
		b.release(s, h)
	})
}

// The session of a transaction that nothing but a savepoint shows ends: what became of it is not known.
func TestDrivers_UnseenAtTheEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(config(), drivers["new"](always))
		s, h := b.owned("a")
		b.code(b.begin(s), "INSERT row")
		b.server.Kill(1)
		require.NoError(b, b.pool.TakeUrgent(s))
		err := s.Commit()
		require.ErrorIs(b, err, fault.ErrLost)
		b.pool.Put(s)
		b.awaitLoss(h)
		assert.ErrorIs(b, s.TxEnded(), fault.ErrTxUnseen)
	})
}

// A statement of database/sql's ends with its bound, also where the socket is not known. The statement itself is left alone.
func TestDrivers_SilenceUnderAnEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(config(), drivers["new"](always))
		s := b.take(Request{})
		ends := make(chan struct{})
		begun := time.Now()
		err := s.bounded(time.Second, func() error { <-ends; return nil })
		require.ErrorIs(b, err, errSilent)
		assert.Equal(b, time.Second, time.Since(begun))
		close(ends)
		s.broken = err
		b.pool.Put(s)
	})
}

// What a driver does not prepare is an error of the statement; one that prepares only is asked by that, given to New or not.
func TestDrivers_Prepare(t *testing.T) {
	refused := errors.New("not now")
	for what, wrap := range drivers {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				var err error
				b.wrapped(config(), wrap(func() error { return err }))
				s, h := b.held("a")
				b.release(s, h)
				s = b.take(Request{})
				err = refused
				_, asked := s.GetLock("b", 0)
				assert.ErrorIs(b, asked, refused)
				b.pool.Put(s)
				_, asked = b.pool.Take(Request{Caller: anybody()})
				assert.ErrorIs(b, asked, refused)
				err = nil

				conn, taken := b.db.Conn(b.Context())
				require.NoError(b, taken)
				lent := NewLent(conn, config())
				for range 3 {
					s, err := lent.Take(Request{Caller: anybody()})
					require.NoError(b, err)
					granted, err := s.GetLock("c", 0)
					require.NoError(b, err)
					require.True(b, granted)
					require.NoError(b, s.ReleaseLock("c"))
					lent.Put(s)
				}
				s, taken = lent.Take(Request{Caller: anybody()})
				require.NoError(b, taken)
				s.get.close()
				err = refused
				_, asked = s.GetLock("d", 0)
				assert.ErrorIs(b, asked, refused)
				lent.Put(s)
				err = nil
				lent.Close()
				_ = conn.Close()
			})
		})
	}
}

// A prepared statement that the server has forgotten is sent as text.
func TestDrivers_AForgottenStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(config(), drivers["new"](always))
		s, h := b.held("a")
		b.release(s, h)
		for _, number := range []uint16{erUnknownStatement, erNeedReprepare} {
			b.server.Once("GET_LOCK", &memserver.Reply{Number: number})
			again := b.take(Request{})
			require.Same(b, s, again)
			h = b.lock(s, "a")
			b.release(s, h)
		}
	})
}
