package e2e

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If other programs have used up the server's prepared statements, no lock is
// lost: not by a keep-alive, a wait, or a release. New locks can still be
// acquired. In general, an error that the server returns does not make a Locker
// give up a session or its locks.
func TestPromise24_NoPreparedStatementToBeHad(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		f := srv.foreign(t)
		var lockers []*locker
		var calls []*call
		var ctxs []context.Context
		for _, params := range [][]string{nil, {"interpolateParams=true"}} {
			for _, way := range []string{byOpen, byNew} {
				at := setup{srv, way}
				l := at.lockerOn(t, at.open(t, params...), namedlock.WithKeepAlive(calm()))
				lockers = append(lockers, l)
				for _, about := range []string{"plain", "not plain", "café"} {
					c, ctx := hold(t, t.Context(), l, newName(about))
					calls, ctxs = append(calls, c), append(ctxs, ctx)
				}
			}
		}
		srv.mustRun(t, "SET GLOBAL max_prepared_stmt_count = 0")
		afterKeepAlive()
		for _, ctx := range ctxs {
			require.NoError(t, context.Cause(ctx))
		}
		for _, l := range lockers {
			for _, name := range []string{newName("late"), newName("läte")} {
				require.NoError(t, l.WithLock(t.Context(), name, 0, nothing))
				_, err := f.conn.ExecContext(t.Context(), "SELECT GET_LOCK('"+name+"', 0)") // f.lock prepares
				require.NoError(t, err)
				requireError(t, l.WithLock(t.Context(), name, 10*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, name)
			}
		}
		for _, c := range calls {
			c.release(t)
		}
		for _, l := range lockers {
			require.NoError(t, l.Close())
		}
	})
}

// If InnoDB is read-only, the server is not a primary, even if @@read_only is
// off.
func TestPromise22_InnoDBReadOnly(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.spied(t, namedlock.WithKeepAlive(often())), newName("innodb")
		require.NoError(t, l.WithLock(t.Context(), name, 0, nothing))
		assert.Equal(t, 1, l.spy.Count("@@read_only, @@innodb_read_only, @@character_set_results"))
	})
	for _, kind := range on().Kinds {
		t.Run("started so/"+string(kind), func(t *testing.T) {
			t.Parallel()
			srv := startFor(t, kind, "--innodb-read-only=ON")
			for _, way := range []string{byOpen, byNew} {
				l, name := setup{srv, way}.locker(t), newName("innodb")
				err := l.WithLock(t.Context(), name, 0, unexpected(t))
				requireError(t, err, namedlock.ErrUnsupported, name)
				assert.ErrorContains(t, err, "innodb_read_only")
			}
		})
	}
}

// A RELEASE_LOCK that is sent as a precaution does not decide about other locks
// of the session. If it fails, it is repeated before the next lock, and before
// the connection is given back.
func TestPromise05_ReleaseInCaseIsRefused(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f := setup{srv, byNew}.spied(t), srv.foreign(t)
		outer, name, other := newName("outer"), newName("raced"), newName("other")
		c, ctx := hold(t, t.Context(), l, outer)
		l.spy.Once(locksql.GetLock, spy.FailAfter(answerOf(1205))) // the server grants the lock nevertheless
		l.spy.Always(locksql.ReleaseLock, spy.FailBefore(answerOf(1205)))
		requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnavailable, name)
		require.NoError(t, context.Cause(ctx), "the other lock is not touched")

		err := l.WithLock(t.Context(), name, 0, unexpected(t))
		requireError(t, err, namedlock.ErrUnavailable, name)
		assert.ErrorContains(t, err, "may have left", "to ask again would enter the lock twice")
		l.spy.Forgive()
		require.NoError(t, l.WithLock(t.Context(), other, 0, func(context.Context) error {
			f.free(name)
			return nil
		}))
		c.release(t)

		l.spy.Once(locksql.GetLock, spy.FailAfter(answerOf(1205)))
		l.spy.Once(locksql.ReleaseLock, spy.FailBefore(answerOf(1205)))
		requireError(t, l.WithLock(t.Context(), name, 0, unexpected(t)), namedlock.ErrUnavailable, name)
		require.NoError(t, l.Close())
		f.free(name)
		require.NoError(t, l.conn.PingContext(t.Context()))
	})
}

// A server that does not allow lock functions makes calls return ErrUnsupported
// with the reason, and costs no connection.
func TestPromise22_LockFunctionsProhibited(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, at := range []struct {
			setup
			text string
		}{{at, "RELEASE_ALL_LOCKS"}, {at, locksql.GetLock}} {
			for _, number := range []uint16{1105, 1235, 1836} {
				l, name := at.spied(t), newName("prohibited")
				l.spy.Always(at.text, spy.FailBefore(answerOf(number)))
				l.spy.Always(locksql.ReleaseLock, spy.FailBefore(answerOf(number)))
				for range 3 {
					err := l.WithLock(t.Context(), name, 0, unexpected(t))
					requireError(t, err, namedlock.ErrUnsupported, name)
					assert.ErrorContains(t, err, "injected", "the reason")
				}
				assert.Equal(t, 1, l.spy.Opened())
				assert.Zero(t, l.spy.Closed())
			}
		}
	})
}

// If a wrapper around the driver hides the socket, a loss is detected late. The
// Locker logs that once, and reports it in Stats.
func TestPromise11_WrappedDriverIsToldOf(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, probe := range []bool{true, false} {
			var log bytes.Buffer // only the Locker's goroutine writes it, until Close
			db, _ := at.openWrapped(t)
			opts := []namedlock.Option{namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))}
			if !probe {
				opts = append(opts, namedlock.WithProbe(0))
			}
			l := at.lockerOn(t, db, opts...)
			c, ctx := hold(t, t.Context(), l, newName("wrapped"))
			assert.Equal(t, probe, l.Stats().Unwatched == 1)
			require.NoError(t, l.WithLock(ctx, newName("wrapped"), 0, nothing))
			other, _ := hold(t, t.Context(), l, newName("wrapped"))
			c.release(t)
			other.release(t)
			require.NoError(t, l.Close())
			assert.Equal(t, probe, strings.Count(log.String(), "level=WARN") == 1, log.String())
			assert.Equal(t, probe, strings.Contains(log.String(), "is not go-sql-driver's"))
		}
		plain := at.locker(t)
		c, _ := hold(t, t.Context(), plain, newName("plain"))
		assert.Zero(t, plain.Stats().Unwatched)
		c.release(t)
	})
}
