package server

import (
	"bytes"
	"context"
	"database/sql/driver"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/peek"
)

// Wrappers that show the connection beneath them, each in one way.
type (
	byRaw struct {
		wrapped
		shown driver.Conn
	}
	byWrappedConn struct {
		wrapped
		shown driver.Conn
	}
	byField struct {
		wrapped
		Conn driver.Conn
	}
	byPointer struct {
		wrapped
		Inner *byField
	}
	byOtherFields struct {
		wrapped
		driver.NamedValueChecker
		Again driver.Pinger
	}
	byEmbedded struct {
		wrapped
		base
	}
	base         struct{ Inner driver.Conn }
	byRawOrField struct {
		byRaw
		Conn driver.Conn
	}
	twoConnections struct {
		wrapped
		Primary, Replica driver.Conn
	}
	hidden struct{ wrapped }
	itself struct{ wrapped }
)

func (c byRaw) Raw() driver.Conn                 { return c.shown }
func (c byWrappedConn) WrappedConn() driver.Conn { return c.shown }
func (c *itself) Raw() driver.Conn               { return c }

// wrapped is a wrapper that shows nothing, and counts its calls.
type wrapped struct {
	inner  driver.Conn
	counts *counts
}

type counts struct{ statements, resets, closes atomic.Int64 }

func (c wrapped) Prepare(query string) (driver.Stmt, error) {
	c.counts.statements.Add(1)
	return c.inner.Prepare(query)
}

func (c wrapped) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.counts.statements.Add(1)
	return c.inner.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c wrapped) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.inner.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c wrapped) Begin() (driver.Tx, error) { return nil, driver.ErrSkip }

func (c wrapped) Close() error {
	c.counts.closes.Add(1)
	return c.inner.Close()
}

func (c wrapped) ResetSession(context.Context) error {
	c.counts.resets.Add(1)
	return nil
}

// inWrappedBubble is inBubble for connections behind a wrapper.
func inWrappedBubble(t *testing.T, change func(*Config), wrap func(driver.Conn) driver.Conn, test func(b *bubble)) {
	t.Helper()
	inBubble(t, change, func(b *bubble) {
		b.wrapped(wrap)
		test(b)
	})
}

// A KILL is detected at once through wrappers that show their connection, even
// if they are nested.
func TestUnwrap_SeenThrough(t *testing.T) {
	n := new(counts)
	for name, wrap := range map[string]func(driver.Conn) driver.Conn{
		"Raw":                          func(c driver.Conn) driver.Conn { return &byRaw{wrapped{c, n}, c} },
		"WrappedConn":                  func(c driver.Conn) driver.Conn { return byWrappedConn{wrapped{c, n}, c} },
		"Raw of nil, a field":          func(c driver.Conn) driver.Conn { return byRawOrField{byRaw{wrapped{c, n}, nil}, c} },
		"a field":                      func(c driver.Conn) driver.Conn { return &byField{wrapped{c, n}, c} },
		"a field of a value":           func(c driver.Conn) driver.Conn { return byField{wrapped{c, n}, c} },
		"a field that is no interface": func(c driver.Conn) driver.Conn { return byPointer{wrapped{c, n}, &byField{wrapped{c, n}, c}} },
		"fields of other interfaces": func(c driver.Conn) driver.Conn {
			return byOtherFields{wrapped{c, n}, c.(driver.NamedValueChecker), c.(driver.Pinger)}
		},
		"a field of an embedded struct": func(c driver.Conn) driver.Conn { return byEmbedded{wrapped{c, n}, base{c}} },
		"one in the other": func(c driver.Conn) driver.Conn {
			return &byRaw{wrapped{c, n}, byWrappedConn{wrapped{c, n}, &byField{wrapped{c, n}, byField{wrapped{c, n}, c}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWrappedBubble(t, nil, wrap, func(b *bubble) {
				c := b.held("a")
				require.True(b, c.driver.Shown)
				assert.False(b, c.Unwatched())
				all, _ := b.server.Sessions()
				b.server.Kill(all)
				assert.Equal(b, Closed, c.Probe())
				_ = c.Discard()
			})
		})
	}
}

// A wrapper is not searched further if it shows nothing, several connections or
// itself, or if it panics or blocks. The keep-alive detects a loss, and locks
// work.
func TestUnwrap_NotSeenThrough(t *testing.T) {
	n := new(counts)
	hide := func(c driver.Conn) driver.Conn { return &hidden{wrapped{c, n}} }
	for name, tc := range map[string]struct {
		wrap   func(driver.Conn) driver.Conn
		unwrap func(driver.Conn) driver.Conn
		logged string
	}{
		"hidden":                {wrap: hide},
		"two":                   {wrap: func(c driver.Conn) driver.Conn { return twoConnections{wrapped{c, n}, c, byField{wrapped{c, n}, c}} }},
		"itself":                {wrap: func(c driver.Conn) driver.Conn { return &itself{wrapped{c, n}} }},
		"nil in a field":        {wrap: func(c driver.Conn) driver.Conn { return byField{wrapped{c, n}, nil} }},
		"unwrap: nil":           {hide, func(driver.Conn) driver.Conn { return nil }, ""},
		"unwrap: itself":        {hide, func(c driver.Conn) driver.Conn { return c }, ""},
		"unwrap: a nil pointer": {hide, func(driver.Conn) driver.Conn { return (*byField)(nil) }, ""},
		"unwrap: panics":        {hide, func(driver.Conn) driver.Conn { panic("mine") }, "panic=mine"},
		"unwrap: Goexit":        {hide, func(driver.Conn) driver.Conn { runtime.Goexit(); return nil }, ""},
		"unwrap: blocks":        {hide, func(driver.Conn) driver.Conn { time.Sleep(2 * peek.UnwrapTime); return nil }, "wrapper did not return"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			change := func(conf *Config) {
				conf.Unwrap, conf.Logger = tc.unwrap, slog.New(slog.NewTextHandler(&log, nil))
			}
			inWrappedBubble(t, change, tc.wrap, func(b *bubble) {
				begun := time.Now()
				c := b.held("a")
				assert.LessOrEqual(b, time.Since(begun), peek.UnwrapTime)
				require.False(b, c.driver.Shown)
				assert.True(b, c.Unwatched())
				require.NoError(b, c.ReleaseLock("a"))
				begun = time.Now()
				b.lock(c, "a")
				assert.Zero(b, time.Since(begun), "the wrapper has been looked beneath")
				resets := n.resets.Load()
				all, _ := b.server.Sessions()
				b.server.Kill(all)
				assert.Equal(b, Unseen, c.Probe())
				assert.Error(b, c.Prove([]string{"a"}))
				assert.Equal(b, resets, n.resets.Load(), "ResetSession may do anything in another driver")
				_ = c.Discard()
				time.Sleep(2 * peek.UnwrapTime) // for the function that blocks
			})
			assert.Contains(t, log.String(), tc.logged)
			assert.Contains(t, log.String(), "noticed late, by keep-alive only")
		})
	}
}

// The user's function shows a hidden connection, and is asked before the
// wrapper's own methods.
func TestUnwrap_ByTheUsersFunction(t *testing.T) {
	n := new(counts)
	unwrap := func(c driver.Conn) driver.Conn {
		if c, ok := c.(*hidden); ok {
			return c.inner
		}
		return nil
	}
	wrap := func(c driver.Conn) driver.Conn {
		return &byField{wrapped{c, n}, &hidden{wrapped{&byField{wrapped{c, n}, c}, n}}}
	}
	inWrappedBubble(t, func(c *Config) { c.Unwrap = unwrap }, wrap, func(b *bubble) {
		c := b.held("a")
		require.True(b, c.driver.Shown)
		b.release(c, "a")
	})
	first := func(c driver.Conn) driver.Conn {
		if c, ok := c.(*itself); ok {
			return c.inner
		}
		return nil
	}
	inWrappedBubble(t, func(c *Config) { c.Unwrap = first }, func(c driver.Conn) driver.Conn { return &itself{wrapped{c, n}} }, func(b *bubble) {
		c := b.held("a")
		require.True(b, c.driver.Shown)
		b.release(c, "a")
	})
}

// Statements go through the wrapper. Probes do not.
func TestUnwrap_StatementsGoThroughTheWrapper(t *testing.T) {
	n := new(counts)
	inWrappedBubble(t, nil, func(c driver.Conn) driver.Conn { return &byRaw{wrapped{c, n}, c} }, func(b *bubble) {
		c := b.held("a")
		resets := n.resets.Load()
		assert.Equal(b, Open, c.Probe())
		require.NoError(b, c.Prove([]string{"a"}))
		require.NoError(b, c.ReleaseLock("a"))
		assert.Equal(b, resets, n.resets.Load())
		assert.Equal(b, int64(len(b.server.Sent(""))), n.statements.Load())
		b.put(c)
	})
}

// A session with a transaction is closed at once, even if the wrapper does not
// show database/sql that its connection is closed. The wrapper is closed once.
func TestUnwrap_SharedIsDiscarded(t *testing.T) {
	n := new(counts)
	inWrappedBubble(t, nil, func(c driver.Conn) driver.Conn { return &byRaw{wrapped{c, n}, c} }, func(b *bubble) {
		c := b.held("a")
		_, err := c.Begin(nil)
		require.NoError(b, err)
		assert.EqualValues(b, byFlags, c.shownBy.Load(), "the flags show the transaction")
		all, _ := b.server.Sessions()
		b.server.Kill(all)
		require.Equal(b, Closed, c.Probe())
		_ = c.Discard()
		assert.Zero(b, b.db.Stats().OpenConnections)
		assert.EqualValues(b, 1, n.closes.Load())
	})
}
