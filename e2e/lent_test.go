package e2e

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// leftOpen has things that fn may leave open on the connection that was given
// to New. Each keeps database/sql from closing it.
var leftOpen = map[string]func(conn *sql.Conn) (end func(), err error){
	"rows": func(conn *sql.Conn) (func(), error) {
		//nolint:rowserrcheck,sqlclosecheck // that is the point
		rows, err := conn.QueryContext(background, "SELECT 1 UNION SELECT 2 UNION SELECT 3")
		return func() { _ = rows.Close() }, err
	},
	"half-read rows": func(conn *sql.Conn) (func(), error) {
		//nolint:rowserrcheck,sqlclosecheck // that is the point
		rows, err := conn.QueryContext(background, "SELECT REPEAT('x', 1000) FROM information_schema.COLUMNS")
		if err == nil {
			rows.Next()
		}
		return func() { _ = rows.Close() }, err
	},
}

// Rows that fn leaves open do not keep the lock. The release cannot prove that
// the lock was held, and the server frees the lock while the rows are open. The
// rows do not delay Close.
func TestPromise16_RowsLeftOpen(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, leave := range leftOpen {
			t.Run(what, func(t *testing.T) {
				l, f, name, other := setup{srv, byNew}.locker(t), srv.foreign(t), newName("rows"), newName("other")
				another, ctx := hold(t, t.Context(), l, other)
				end := func() {}
				defer func() { end() }()
				err := receive(t, inBackground(func() error {
					return l.WithLock(t.Context(), name, 0, func(context.Context) (err error) {
						end, err = leave(l.conn)
						return err
					})
				}), "the release")
				requireError(t, err, namedlock.ErrLost, name)
				f.lockSoon(name)
				receive(t, ctx.Done(), "the other lock went with the session")
				f.lockSoon(other)
				another.finish(nil)
				require.ErrorIs(t, another.err(t), namedlock.ErrLost)
				require.True(t, endsWithin(inBackground(l.Close), patience), "Close returns")
				end()
				require.Error(t, l.conn.PingContext(t.Context()), "the connection is closed")
				_ = l.conn.Close()
				assert.Zero(t, l.db.Stats().OpenConnections, "and not pooled")
			})
		}
	})
}

// A transaction that fn leaves open does not keep a lost lock.
func TestPromise16_TransactionLeftOpen(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byNew}.locker(t, namedlock.WithKeepAlive(often())), srv.foreign(t), newName("tx")
		c, ctx := hold(t, t.Context(), l, name)
		tx, err := l.conn.BeginTx(background, nil)
		require.NoError(t, err)
		var released int64
		require.NoError(t, tx.QueryRowContext(background, "SELECT RELEASE_ALL_LOCKS()").Scan(&released))
		require.NoError(t, tx.QueryRowContext(background, "SELECT GET_LOCK(?, 0)", newName("unknown")+name).Scan(&released))
		receive(t, ctx.Done(), "the loss is noticed")
		c.finish(nil)
		requireError(t, c.err(t), namedlock.ErrLost, name)
		f.lockSoon(name)
		require.True(t, endsWithin(inBackground(l.Close), patience), "Close returns")
		require.Error(t, tx.Rollback())
	})
}

// If Close has a lease to restore, but open rows block the connection, it
// leaves the connection open. No lock is in doubt.
func TestPromise19_CloseLeavesAnOccupiedConnectionOpen(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, leave := range leftOpen {
			t.Run(what, func(t *testing.T) {
				l := setup{srv, byNew}.locker(t, namedlock.WithLease(time.Minute))
				requireUsable(t, l)
				end, err := leave(l.conn)
				require.NoError(t, err)
				require.True(t, endsWithin(inBackground(l.Close), patience), "Close returns")
				end()
				require.NoError(t, l.conn.PingContext(t.Context()))
			})
		}
	})
}

// If the owner closes the connection before the Locker, the connection returns
// to its pool without a lock. The error names the cause.
func TestPromise16_ConnClosedFirst(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byNew}.locker(t), srv.foreign(t), newName("closed")
		c, ctx := hold(t, t.Context(), l, name)
		require.NoError(t, l.conn.Close())
		receive(t, ctx.Done(), "the loss is noticed")
		require.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
		assert.ErrorContains(t, context.Cause(ctx), "closed before the Locker")
		f.lockSoon(name)
		c.finish(nil)
		requireError(t, c.err(t), namedlock.ErrLost, name)
		err := l.WithLock(t.Context(), name, 0, unexpected(t))
		requireError(t, err, namedlock.ErrUnavailable, name)
		assert.ErrorContains(t, err, "closed before the Locker")
		require.NoError(t, l.Close())

		// The pool continues with another connection.
		var n int
		require.NoError(t, l.db.QueryRowContext(t.Context(), "SELECT 1").Scan(&n))
	})
}

// The same holds if the release detects the close before the watch does.
func TestPromise16_ConnClosedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byNew}.locker(t, namedlock.WithProbe(0)), srv.foreign(t), newName("closed")
		err := l.WithLock(t.Context(), name, 0, func(context.Context) error { return l.conn.Close() })
		requireError(t, err, namedlock.ErrLost, name)
		assert.ErrorContains(t, err, "closed before the Locker")
		f.lockSoon(name)
	})
}

// A connection without a lock belongs to its owner, and stays as it is.
func TestNew_ConnClosedWithoutALock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byNew}.locker(t)
		requireUsable(t, l)
		var id, same int64
		require.NoError(t, l.conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
		require.NoError(t, l.conn.Close())
		name := newName("closed")
		requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnavailable, name)
		require.NoError(t, l.Close())
		require.NoError(t, l.db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&same))
		assert.Equal(t, id, same)
	})
}
