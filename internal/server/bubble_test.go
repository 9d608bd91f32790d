package server

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A bubble is a db on a server in memory, under a clock that jumps. At the end
// of the test no goroutine and no session may be left.
type bubble struct {
	*testing.T
	server *memserver.Server
	db     *sql.DB
	of     *Server
	given  *sql.Conn // to New; nil: the connections are the db's
	lent   *Conn     // on given
}

func config() Config {
	return Config{
		ReleaseTimeout: 5 * time.Second,
		KeepAlive:      5 * time.Second,
		Probe:          25 * time.Millisecond,
		Lease:          time.Minute,
		CheckServer:    true,
		Logger:         slog.New(slog.DiscardHandler),
	}
}

// inBubble runs the test on connections of a db. change may change the config.
func inBubble(t *testing.T, change func(*Config), test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := config()
		if change != nil {
			change(&c)
		}
		b := &bubble{T: t, server: memserver.New(), of: New(c, true)}
		b.db = b.server.Open()
		b.db.SetMaxIdleConns(10)
		test(b)
		assert.Zero(t, b.db.Stats().InUse, "connections in use")
		require.NoError(t, b.server.Close(b.db))
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Zero(t, alive, "sessions of the server")
	})
}

// inBubbleOfOne is inBubble for one connection, which was given to New.
func inBubbleOfOne(t *testing.T, change func(*Config), test func(b *bubble, conn *sql.Conn)) {
	t.Helper()
	inBubble(t, change, func(b *bubble) {
		conn, err := b.db.Conn(context.Background())
		require.NoError(b, err)
		b.of = New(b.of.Config, false)
		b.given, b.lent = conn, b.of.Use(conn, true)
		test(b, conn)
		if b.lent != nil {
			_ = b.lent.GiveBack()
		}
		_ = conn.Close()
	})
}

// use returns a connection that is ready for locks. Call put at the end.
func (b *bubble) use() *Conn {
	b.Helper()
	c := b.lent
	if c == nil {
		conn, err := b.db.Conn(context.Background())
		require.NoError(b, err)
		c = b.of.Use(conn, false)
	}
	require.NoError(b, c.Ready())
	return c
}

// put ends the use of c. A broken connection is closed; any other goes back.
func (b *bubble) put(c *Conn) {
	b.Helper()
	switch {
	case c.Broken():
		_ = c.Discard()
		b.lent = nil
	case !c.lent:
		_ = c.GiveBack()
	}
}

// lock takes the lock on c.
func (b *bubble) lock(c *Conn, name string) {
	b.Helper()
	granted, err := c.GetLock(name, 0)
	require.NoError(b, err)
	require.True(b, granted)
}

// held returns a connection with the lock.
func (b *bubble) held(name string) *Conn {
	b.Helper()
	c := b.use()
	b.lock(c, name)
	return c
}

// release releases the lock, and puts c.
func (b *bubble) release(c *Conn, name string) {
	b.Helper()
	require.NoError(b, c.ReleaseLock(name))
	b.put(c)
}

// requireLost requires that c is broken, and puts it.
func (b *bubble) requireLost(c *Conn) {
	b.Helper()
	require.True(b, c.Broken())
	b.put(c)
}

// begin runs START TRANSACTION on c.
func (b *bubble) begin(c *Conn) *sql.Tx {
	b.Helper()
	tx, err := c.Begin(nil)
	require.NoError(b, err)
	return tx
}

// code runs statements of the code under a lock, and ignores the errors that
// the server answers.
func (b *bubble) code(tx *sql.Tx, statements ...string) {
	for _, st := range statements {
		_, _ = tx.ExecContext(context.Background(), st)
	}
}

// alive returns how many sessions the server has.
func (b *bubble) alive() int {
	synctest.Wait()
	_, alive := b.server.Sessions()
	return alive
}

var (
	yes     = func(row ...any) *memserver.Reply { return &memserver.Reply{Row: row} }
	refused = &memserver.Reply{Number: 1142}
	drop    = &memserver.Reply{Drop: true}
	hang    = &memserver.Reply{Hang: true}
	nothing = new(memserver.Reply)
)

var errOwn = errors.New("own") // of the code under a lock
