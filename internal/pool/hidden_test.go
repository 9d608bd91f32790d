package pool

import (
	"context"
	"database/sql/driver"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

// beneath is driver.Conn under an unexported name, so that a struct that embeds
// it hides it.
type beneath = driver.Conn

// A hiddenConn shows only its own methods, not the driver's connection.
type hiddenConn struct {
	beneath
}

func (c hiddenConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.beneath.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c hiddenConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.beneath.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c hiddenConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.beneath.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

// wrapped replaces the pool by one of a db whose connections are wrapped.
func (b *bubble) wrapped(wrap func(driver.Conn) driver.Conn) {
	b.Helper()
	b.pool.Close()
	require.NoError(b, b.server.Close(b.db))
	b.db = b.server.OpenWrapped(wrap)
	b.pool = NewPool(b.db, b.config)
}

func hide(conn driver.Conn) driver.Conn { return hiddenConn{conn} }

// A session is not probed if its driver shows a probe nothing. A loss is found
// by the next proof.
func TestWatch_HiddenDriver(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(hide)
		s, h := b.owned("a")
		rests := func() bool {
			time.Sleep(time.Second)
			b.pool.mu.Lock()
			defer b.pool.mu.Unlock()
			return b.pool.pace == resting
		}
		assert.True(b, rests(), "there is nothing to look at")
		b.begin(s)
		assert.True(b, rests(), "nor in a transaction")
		b.onTurn(s, func() { require.NoError(b, s.Commit()) })

		b.server.Kill(b.server.Holder("a"))
		begun := time.Now()
		assert.LessOrEqual(b, b.awaitLoss(h).Sub(begun), 2*s.Interval())
	})
}

// Its owner's Close shows on a connection that was given to New, whatever its
// driver.
func TestWatch_HiddenDriverReturned(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.wrapped(hide)
		conn, err := b.db.Conn(context.Background())
		require.NoError(b, err)
		b.pool.Close()
		b.pool = NewLent(conn, b.config)
		_, h := b.held("a")
		time.Sleep(time.Second)
		require.NoError(b, conn.Close())
		begun := time.Now()
		assert.LessOrEqual(b, b.awaitLoss(h).Sub(begun), 2*watchTick)
		assert.ErrorIs(b, h.why, server.ErrReturned)
	})
}

// A stuckTx does not commit before until is closed.
type stuckTx struct {
	driver.Tx
	until <-chan struct{}
}

func (tx stuckTx) Commit() error {
	<-tx.until
	return tx.Tx.Commit()
}

type stuckConn struct {
	hiddenConn
	until <-chan struct{}
}

func (c stuckConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.hiddenConn.BeginTx(ctx, opts)
	return stuckTx{tx, c.until}, err
}

// Close does not wait indefinitely for the COMMIT of a driver that ignores its
// context, and whose socket is not known. database/sql has a mutex for as long
// as the COMMIT runs, so this is not a bubble: its clock would not go on.
func TestPool_CloseBesideAHungCommit(t *testing.T) {
	t.Parallel()
	until, memory := make(chan struct{}), memserver.New()
	db := memory.OpenWrapped(func(conn driver.Conn) driver.Conn {
		return stuckConn{hiddenConn{conn}, until}
	})
	c := config()
	c.Lease, c.ReleaseTimeout = time.Second, 100*time.Millisecond // COMMIT may take half a second
	p := NewPool(db, c)
	s, err := p.Take(Request{Own: true, Caller: anybody()})
	require.NoError(t, err)
	granted, err := s.GetLock("a", 0)
	require.NoError(t, err)
	require.True(t, granted)
	h := &hold{name: "a", lost: make(chan time.Time, 1), own: true}
	require.True(t, p.Hold(s, h))
	_, err = s.Begin(nil)
	require.NoError(t, err)
	require.ErrorIs(t, s.Commit(), fault.ErrCommitUnknown)
	p.Drop(s, h)

	begun, closed := time.Now(), make(chan struct{})
	go func() {
		p.Close()
		close(closed)
	}()
	select {
	case <-closed:
		assert.Less(t, time.Since(begun), 2*server.AnswerTime)
	case <-time.After(4 * server.AnswerTime):
		t.Error("Close waits for the COMMIT")
	}
	close(until)
	<-closed
	require.NoError(t, memory.Close(db))
}
