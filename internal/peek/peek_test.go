package peek

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// seenWith are the versions of go-sql-driver with which the tests of this
// package, of package server and of e2e passed. Each of them has all fields
// that this package reads.
var seenWith = []string{"v1.10.1"}

func TestVersions(t *testing.T) {
	withConn(t, func(_ *memserver.Server, conn *sql.Conn) {
		c := found(t, conn)
		assert.Empty(t, c.Missing(), "of go-sql-driver")
		assert.True(t, c.Shown && c.closed != nil && c.canceled != nil && c.watching != nil && c.status != nil && c.config != nil && c.Socket != nil)
	})
	assert.NotNil(t, field[atomic.Bool](new(sql.Tx), "done"), "of database/sql")
	assert.False(t, RowsOpen(new(sql.Tx)), "of database/sql")

	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	_, version, ok := strings.Cut(string(mod), "github.com/go-sql-driver/mysql ")
	require.True(t, ok)
	version, _, _ = strings.Cut(version, "\n")
	assert.Contains(t, seenWith, version, "run the whole suite with this version, and then name it here")
}

// withConn calls test with a connection of a db on a server in memory.
func withConn(t *testing.T, test func(server *memserver.Server, conn *sql.Conn)) {
	t.Helper()
	server := memserver.New()
	db := server.Open()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	test(server, conn)
	_ = conn.Close()
	require.NoError(t, server.Close(db))
}

// found returns what is found in conn, which is not wrapped.
func found(t *testing.T, conn *sql.Conn) (c *Conn) {
	t.Helper()
	require.NoError(t, conn.Raw(func(inner any) error {
		c = Find(inner.(driver.Conn), nil, slog.New(slog.DiscardHandler))
		return nil
	}))
	return c
}

// A field that is missing is reported, and its value is not known.
func TestConn_WithoutAField(t *testing.T) {
	for name, value := range map[string]func(*Conn) any{
		"closed":   func(c *Conn) any { return c.closed },
		"watching": func(c *Conn) any { return c.watching },
		"canceled": func(c *Conn) any { return c.canceled },
		"rawConn":  func(c *Conn) any { return c.Socket },
		"cfg":      func(c *Conn) any { return c.config },
		"status":   func(c *Conn) any { return c.status },
	} {
		t.Run(name, func(t *testing.T) {
			defer Hide(name)()
			withConn(t, func(_ *memserver.Server, conn *sql.Conn) {
				c := found(t, conn)
				assert.Equal(t, []string{name}, c.Missing())
				assert.Nil(t, value(c))
				assert.Equal(t, Open, c.State())
				assert.True(t, c.SocketOpen())
				assert.Empty(t, c.Blind())
				_, known := c.InTx()
				assert.Equal(t, name != "status", known)
			})
		})
	}
}

// A connection, from its first statement until the server closes it.
func TestConn_States(t *testing.T) {
	withConn(t, func(server *memserver.Server, conn *sql.Conn) {
		c := found(t, conn)
		tx, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		inTx := func(want bool) {
			t.Helper()
			open, known := c.InTx()
			assert.True(t, known)
			assert.Equal(t, want, open)
			assert.Equal(t, want, InUse(conn))
			assert.Equal(t, !want, IsDone(tx))
			assert.False(t, RowsOpen(tx))
		}
		inTx(true)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rows, err := tx.QueryContext(ctx, "SELECT 1")
		require.NoError(t, err)
		assert.Equal(t, Unread, c.State())
		assert.True(t, RowsOpen(tx))
		require.NoError(t, rows.Close())
		assert.Equal(t, Open, c.State())
		inTx(true)
		require.NoError(t, tx.Commit())
		inTx(false)

		_, err = conn.ExecContext(t.Context(), "SET autocommit = 0")
		require.NoError(t, err)
		_, known := c.InTx()
		assert.False(t, known, "autocommit=0")

		assert.True(t, c.SocketOpen())
		server.Kill(1)
		assert.Eventually(t, func() bool { return !c.SocketOpen() }, time.Minute, time.Millisecond)
		assert.Equal(t, Open, c.State(), "the driver has not noticed it")
		require.Error(t, conn.PingContext(t.Context()))
		assert.Equal(t, Closed, c.State())
		assert.False(t, c.Valid())
	})
}

// A version of database/sql without the fields. Nothing is known.
func TestSQL_WithoutAField(t *testing.T) {
	withConn(t, func(_ *memserver.Server, conn *sql.Conn) {
		tx, err := conn.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		show := Hide("closemu")
		assert.False(t, InUse(conn))
		assert.True(t, RowsOpen(tx), "no proof is sent")
		show()
		require.NoError(t, tx.Rollback())
		defer Hide("done")()
		assert.False(t, IsDone(tx))
	})
}

// A field of another name or type is not found. One of a named type is found as
// the basic type beneath.
func TestField(t *testing.T) {
	type flags uint16
	type embedded struct{ inner bool }
	s := &struct {
		closed bool
		status flags
		embedded
	}{closed: true, status: 3, embedded: embedded{inner: true}}
	require.NotNil(t, field[bool](s, "closed"))
	assert.True(t, *field[bool](s, "closed"))
	require.NotNil(t, field[uint16](s, "status"))
	assert.EqualValues(t, 3, *field[uint16](s, "status"))
	assert.Nil(t, field[atomic.Bool](s, "closed"))
	assert.Nil(t, field[uint32](s, "status"))
	assert.Nil(t, field[bool](s, "canceled"))
	assert.Nil(t, field[bool](s, "inner"), "it belongs to another struct")
	assert.Nil(t, field[struct{ other bool }](s, "embedded"))
	assert.Nil(t, pointerTo(s, "canceled"))
}

// A base is embedded in a wrapper that has none.
type base struct{ Inner driver.Conn }

// Nothing is found in a wrapper that is not a struct, or in an embedded struct
// that is nil.
func TestFind_NothingBeneath(t *testing.T) {
	assert.Nil(t, onlyConnField(reflect.ValueOf(7)))
	assert.Nil(t, onlyConnField(reflect.ValueOf(struct{ *base }{})))
}

// other is the connection of another driver.
type other struct{ driver.Conn }

// Of another driver's connection nothing is known, and it is not probed: its
// ResetSession may do anything.
func TestFind_AnotherDriver(t *testing.T) {
	log := new(bytes.Buffer)
	c := Find(other{}, func(driver.Conn) driver.Conn { panic("mine") }, slog.New(slog.NewTextHandler(log, nil)))
	assert.Equal(t, &Conn{Conn: other{}}, c)
	assert.Contains(t, log.String(), "panic=mine")
	assert.Empty(t, c.Missing())
	assert.Equal(t, Unseen, c.State())
	assert.False(t, c.Valid())
	assert.True(t, c.SocketOpen())
	_, known := c.InTx()
	assert.False(t, known)
}
