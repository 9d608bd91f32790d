package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// Tests of branches that need a server, a driver or a moment that is rare.

// A failing wrapper returns errors in the server's place. If it returns nil,
// the server is asked.
type failing struct {
	wrapped
	fail func(text string) error
}

func (c failing) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.fail(text); err != nil {
		return nil, err
	}
	return c.wrapped.QueryContext(ctx, text, args)
}

// IsValid makes database/sql keep the connection when it has rolled a
// transaction back.
func (failing) IsValid() bool { return true }

func failingBy(fail func(text string) error) func(driver.Conn) driver.Conn {
	return func(c driver.Conn) driver.Conn { return failing{wrapped{c, new(counts)}, fail} }
}

// If the driver cannot parse a number of the greeting, the session's numbers
// are read as bytes from then on.
func TestGreeting_Unreadable(t *testing.T) {
	change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
	inWrappedBubble(t, change, failingBy(func(text string) error {
		if !strings.Contains(text, "CAST(") {
			return &strconv.NumError{Func: "ParseInt", Num: "\x001", Err: strconv.ErrSyntax}
		}
		return nil
	}), func(b *bubble) {
		b.server.ScriptTexts(map[string]*memserver.Reply{"CAST(VERSION()": yes("10.11.0-MariaDB", "", "utf8mb4", "utf8mb4", 28800, "utf16")})
		c := b.use()
		require.NoError(b, c.greet())
		assert.True(b, c.asBytes)
		b.put(c)
	})
}

// A wait is repeated without @@innodb_read_only if the server has no such
// variable. No connection asks for it after that.
func TestGetLock_WithoutInnoDB(t *testing.T) {
	inWrappedBubble(t, nil, failingBy(func(text string) error {
		if strings.Contains(text, "GET_LOCK") && strings.Contains(text, innodbReadOnly) {
			return &mysql.MySQLError{Number: 1193, Message: "Unknown system variable 'innodb_read_only'"}
		}
		return nil
	}), func(b *bubble) {
		c := b.use()
		granted, err := c.GetLock("a", time.Second)
		require.NoError(b, err)
		require.True(b, granted)
		assert.True(b, c.server.noInnoDB.Load())
		b.release(c, "a")
	})
}

// While the question for @@innodb_read_only is on its way, another connection
// may find that the server has no such variable. The question is repeated
// without it all the same.
func TestCheck_AnotherFindsThatThereIsNoInnoDB(t *testing.T) {
	for what, question := range map[string]string{"greeting": "VERSION()", "wait": "GET_LOCK", "check": "SELECT @@read_only"} {
		t.Run(what, func(t *testing.T) {
			var of *Server
			inWrappedBubble(t, nil, failingBy(func(text string) error {
				if strings.HasPrefix(strings.TrimPrefix(text, "SELECT "), strings.TrimPrefix(question, "SELECT ")) && strings.Contains(text, innodbReadOnly) {
					of.noInnoDB.Store(true)
					return &mysql.MySQLError{Number: 1193, Message: "Unknown system variable 'innodb_read_only'"}
				}
				return nil
			}), func(b *bubble) {
				of = b.of
				c := b.use()
				require.NoError(b, c.checkAgain())
				granted, err := c.GetLock("a", time.Second)
				require.NoError(b, err)
				require.True(b, granted)
				b.release(c, "a")
			})
		})
	}
}

// HolderIDs greets a session that was not greeted. It returns the error if that
// fails.
func TestHolderIDs_Greets(t *testing.T) {
	for what, greeting := range map[string]*memserver.Reply{"": nil, "cut off": drop} {
		inBubble(t, func(c *Config) { c.CheckServer, c.Lease = false, 0 }, func(b *bubble) {
			b.server.Lock("a")
			c := b.use()
			require.Nil(b, c.greeting)
			b.server.ScriptTexts(map[string]*memserver.Reply{"VERSION()": greeting})
			ids, err := c.HolderIDs([]string{"a", "b"})
			if greeting != nil {
				require.ErrorIs(b, err, fault.ErrUnavailable, what)
				assert.Empty(b, b.server.Sent("IS_USED_LOCK"))
			} else {
				require.NoError(b, err)
				assert.Positive(b, ids[0])
				assert.Zero(b, ids[1])
			}
			b.put(c)
		})
	}
}

// The possible errors in answer to HolderIDs. None of them costs the session
// its locks, unless the connection has ended.
func TestHolderIDs_Refused(t *testing.T) {
	for _, tc := range []struct {
		reply *memserver.Reply
		want  error
	}{
		{&memserver.Reply{Number: erNoSuchFunction}, fault.ErrUnsupported},
		{&memserver.Reply{Number: erQueryInterrupted}, fault.ErrInterrupted},
		{refused, fault.ErrUnavailable},
		{drop, fault.ErrUnavailable},
	} {
		inBubble(t, nil, func(b *bubble) {
			c := b.held("gate")
			b.server.ScriptTexts(map[string]*memserver.Reply{"IS_USED_LOCK": tc.reply})
			_, err := c.HolderIDs([]string{"a"})
			assert.ErrorIs(b, err, tc.want)
			b.server.Script(nil)
			if tc.reply == drop {
				b.requireLost(c)
			} else {
				b.release(c, "gate")
			}
		})
	}
}

// If the connection ends under the release of a lock that HolderIDs has found,
// or that was not looked for, the error is returned.
func TestGetLockThenLook_TheReleaseIsCutOff(t *testing.T) {
	for what, next := range map[string]func(c *Conn) error{
		"a look":       func(c *Conn) error { _, err := c.HolderIDs([]string{"a"}); return err },
		"another lock": func(c *Conn) error { _, err := c.GetLock("b", 0); return err },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("gate")
				b.server.Once("GET_LOCK('a'", &memserver.Reply{Run: true, Number: erQueryTimeout})
				granted, err := c.GetLockThenLook("a", 95*time.Millisecond)
				require.NoError(b, err)
				require.False(b, granted)
				b.server.Once("RELEASE_LOCK('a')", drop)
				assert.ErrorIs(b, next(c), fault.ErrUnavailable)
				b.requireLost(c)
			})
		})
	}
}

// A brokenAnswer has no row, but an error.
type brokenAnswer struct{ driver.Rows }

func (brokenAnswer) Columns() []string         { return []string{"a"} }
func (brokenAnswer) Next([]driver.Value) error { return errOwn }

// The error of an answer that breaks off is returned as it is.
func TestReceive_BreaksOff(t *testing.T) {
	var value sql.NullString
	assert.Equal(t, errOwn, one{&value}.receive(brokenAnswer{}))
	assert.Equal(t, errOwn, new(holders).receive(brokenAnswer{}))
}

// A connection of a db is closed for a probe when the *sql.Conn was closed.
func TestProbe_ClosedConn(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		require.NoError(b, c.conn.Close())
		assert.Equal(b, Closed, c.Probe())
		_ = c.Discard()
	})
}

// A plainSocket cannot be asked whether there is anything to read.
type plainSocket struct{ net.Conn }

// If the socket cannot be probed, that is reported.
func TestProbe_CustomDialer(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		require.NoError(b, b.server.Close(b.db))
		cfg := b.server.Config()
		dial := cfg.DialFunc
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return plainSocket{conn}, err
		}
		connector, err := mysql.NewConnector(cfg)
		require.NoError(b, err)
		b.db = sql.OpenDB(connector)
		c := b.use()
		assert.True(b, c.Unwatched())
		b.put(c)
	})
}

// The kernel reports the end of a connection by TCP.
func TestProbe_Hangup(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux reports hangups")
	}
	server := memserver.New()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.Logger = "tcp", l.Addr().String(), &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	c := New(config(), true).Use(conn, false)
	require.NoError(t, c.Ready())
	require.NotZero(t, c.HangupID())
	server.Kill(1)
	var ids []int32
	for end := time.Now().Add(time.Minute); len(ids) == 0 && time.Now().Before(end); {
		ids = c.server.Hangups.Wait(time.Second)
	}
	assert.Equal(t, []int32{c.HangupID()}, ids)
	_ = c.Discard()
	assert.Zero(t, c.HangupID())
	require.NoError(t, db.Close())
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
}

// Nothing is sent on a connection of a db that has unread bytes, for example
// those with which a server that shuts down announces that.
func TestQuery_UnreadBytes(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		rows, err := c.conn.QueryContext(b.Context(), "SELECT 1") // they are as good as any
		require.NoError(b, err)
		sent := len(b.server.Sent(""))
		assert.ErrorIs(b, c.Prove([]string{"a"}), errGoodbye)
		assert.Len(b, b.server.Sent(""), sent)
		require.NoError(b, rows.Close())
		b.release(c, "a")
	})
}

// The owner of a connection given to New closes it under START TRANSACTION.
// There is no transaction.
func TestTx_ClosedByItsOwner(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.use()
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Text == "START TRANSACTION" {
				// The first Close takes effect at once and waits for the
				// transaction. The second one returns.
				returned := make(chan error, 2)
				for range 2 {
					go func() { returned <- conn.Close() }()
				}
				assert.Equal(b, sql.ErrConnDone, <-returned)
			}
			return nil
		})
		_, err := c.Begin(nil)
		require.ErrorIs(b, err, ErrReturned)
		assert.True(b, c.Broken())
		b.put(c)
		assert.Zero(b, b.alive())
	})
}

// A context of the code may end between the probe and the question whether the
// transaction is open. The outcome is known.
func TestTx_CutOffBeforeTheSavepoint(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		assert.Equal(b, ErrCutOff, c.notCommitted(tx, ErrCutOff))
		assert.Equal(b, ErrCutOff, c.BrokenBy())
		b.requireLost(c)
	})
}

// If database/sql does not have the field that shows that the code has ended
// its transaction, the call on the transaction finds that out.
func TestTx_DoneIsNotShown(t *testing.T) {
	defer peek.Hide("done")()
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		require.NoError(b, tx.Rollback())
		require.Equal(b, sql.ErrTxDone, c.Commit())
		assert.Nil(b, c.tx.Load())
		b.release(c, "a")
	})
	sealedTx(t, func(b *bubble, c *Conn, tx *sql.Tx) {
		require.NoError(b, tx.Rollback())
		require.Equal(b, sql.ErrTxDone, c.Commit())
		assert.Nil(b, c.tx.Load())
		b.release(c, "a")
	})
}

// Nothing can be sent after START TRANSACTION, for example because the owner of
// a connection given to New has opened rows at that moment. Without this field
// of database/sql, rows always count as open. If a savepoint is needed, Begin
// rolls the transaction back, and the lock can be released.
func TestTx_NoSavepoint(t *testing.T) {
	defer peek.Hide("closemu")()
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		c.greeting.version.String = "10.5.29-MariaDB"
		_, err := c.Begin(nil)
		require.ErrorIs(b, err, ErrOccupied)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.Nil(b, c.tx.Load())
		assert.Len(b, b.server.Sent("ROLLBACK"), 1)
		b.release(c, "a")
		assert.Equal(b, 1, b.alive(), "the session is kept")
	})
}

// sealedTx calls test with a transaction on a connection given to New whose
// driver is not known, under WithoutServerCheck. Such a connection is sent only
// the statements of the cycle.
func sealedTx(t *testing.T, test func(b *bubble, c *Conn, tx *sql.Tx)) {
	t.Helper()
	change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
	inWrappedBubble(t, change, failingBy(func(string) error { return nil }), func(b *bubble) {
		conn, err := b.db.Conn(b.Context())
		require.NoError(b, err)
		b.of = New(b.of.Config, false)
		b.given, b.lent = conn, b.of.Use(conn, true)
		c := b.held("a")
		tx := b.begin(c)
		require.False(b, c.hasCode)
		test(b, c, tx)
		if b.lent != nil {
			_ = b.lent.GiveBack()
		}
		if err := conn.Close(); err != nil {
			require.True(b, errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn), err)
		}
	})
}
