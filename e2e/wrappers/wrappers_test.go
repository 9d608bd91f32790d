package wrappers

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/internal/lateness"
)

const (
	atOnce   = 50 * time.Millisecond // for a loss that the socket shows
	patience = 30 * time.Second      // for waits without a limit of their own
)

// The ways to make a Locker.
const (
	byOpen = "Open"
	byNew  = "New"
)

// A stand is a wrapper on a server.
type stand struct {
	*servers.Server
	wrapper wrapper
	way     string
	dsn     string
	admin   *sql.DB // without the wrapper
}

// everyWrapper runs the test with each wrapper, on each server, with Open and
// with New.
func everyWrapper(t *testing.T, test func(t *testing.T, at stand)) {
	for _, kind := range []servers.Kind{servers.MariaDB, servers.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			srv := servers.ForTest(t, kind)
			behindEach(t, srv, srv.DSN(), test)
		})
	}
}

func behindEach(t *testing.T, srv *servers.Server, dsn string, test func(t *testing.T, at stand)) {
	admin := srv.Open(t)
	for _, w := range known {
		t.Run(w.module, func(t *testing.T) {
			for _, way := range []string{byOpen, byNew} {
				t.Run(way, func(t *testing.T) { test(t, stand{srv, w, way, dsn, admin}) })
			}
		})
	}
}

// A locker is a Locker on a wrapped driver.
type locker struct {
	*namedlock.Locker
	conn  *sql.Conn // with New
	trace *trace
	log   *bytes.Buffer // read it after Close
}

func (at stand) locker(t *testing.T) *locker {
	t.Helper()
	l := &locker{trace: new(trace), log: new(bytes.Buffer)}
	db := at.wrapper.open(t, at.dsn, l.trace)
	t.Cleanup(func() { db.Close() })
	opts := []namedlock.Option{namedlock.WithLogger(slog.New(slog.NewTextHandler(l.log, nil)))}
	if at.wrapper.unwrap != nil {
		opts = append(opts, namedlock.WithUnwrap(at.wrapper.unwrap))
	}
	var err error
	if at.way == byOpen {
		l.Locker, err = namedlock.Open(db, opts...)
	} else {
		l.conn, err = db.Conn(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { l.conn.Close() })
		l.Locker, err = namedlock.New(l.conn, opts...)
	}
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

var names atomic.Int64

func newName() string { return fmt.Sprintf("wrapped-%d", names.Add(1)) }

// kill ends the session that holds the lock.
func (at stand) kill(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, locksql.KillHolder(t.Context(), at.admin, name))
}

// requireFree fails the test unless the lock becomes free within limit.
func (at stand) requireFree(t *testing.T, name string, limit time.Duration) {
	t.Helper()
	other, err := namedlock.Open(at.admin)
	require.NoError(t, err)
	defer other.Close()
	var took time.Duration
	late := lateness.Of(func() {
		begun := time.Now()
		err = other.WithLock(t.Context(), name, patience, func(context.Context) error { return nil })
		took = time.Since(begun)
	})
	require.NoError(t, err)
	require.LessOrEqual(t, took, limit+late, "the lock is free")
}

// table creates a table for the test.
func (at stand) table(t *testing.T) string {
	t.Helper()
	table := strings.ReplaceAll(newName(), "-", "_")
	_, err := at.admin.ExecContext(t.Context(), "CREATE TABLE "+table+" (n INT) ENGINE=InnoDB")
	require.NoError(t, err)
	return table
}

func TestKillIsNoticed(t *testing.T) {
	everyWrapper(t, func(t *testing.T, at stand) {
		l, name := at.locker(t), newName()
		var took, late time.Duration
		err := l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			assert.Zero(t, l.Stats().Unwatched)
			late = lateness.Of(func() {
				at.kill(t, name)
				begun := time.Now()
				select {
				case <-ctx.Done():
				case <-time.After(patience):
				}
				took = time.Since(begun)
			})
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		assert.LessOrEqual(t, took, atOnce+late)
		require.NoError(t, l.Close())
		assert.NotContains(t, l.log.String(), "noticed late, by keep-alive only")
		t.Log(took)
	})
}

// The statements of the Locker, and of the code under the lock, are in the
// traces.
func TestStatementsShow(t *testing.T) {
	everyWrapper(t, func(t *testing.T, at stand) {
		l, name, table := at.locker(t), newName(), at.table(t)
		for range 3 {
			require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES (1)")
				return err
			}))
		}
		texts := l.trace.all()
		for _, text := range []string{locksql.GetLock, locksql.ReleaseLock, "INSERT INTO " + table} {
			assert.True(t, slices.ContainsFunc(texts, func(shown string) bool { return strings.Contains(shown, text) }), "%s in %q", text, texts)
		}
		assert.False(t, slices.ContainsFunc(texts, func(shown string) bool { return strings.Contains(shown, "SAVEPOINT") }), "the flags show the transaction: %q", texts)
	})
}

// The Locker detects that the code has ended its transaction by a statement.
func TestTxEnded(t *testing.T) {
	everyWrapper(t, func(t *testing.T, at stand) {
		l, table := at.locker(t), at.table(t)
		err := l.WithLockTx(t.Context(), newName(), 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES (1)")
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, "COMMIT")
			return err
		})
		require.ErrorIs(t, err, namedlock.ErrTxEnded)
		require.NoError(t, l.WithLockTx(t.Context(), newName(), 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES (2)")
			return err
		}))
	})
}

// Shutdown ends a statement of the code under the lock, whatever the context of
// the statement is.
func TestShutdownCuts(t *testing.T) {
	everyWrapper(t, func(t *testing.T, at stand) {
		l, name := at.locker(t), newName()
		ended := make(chan error, 1)
		go func() {
			ended <- l.WithLockTx(t.Context(), name, 0, nil, func(_ context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(context.Background(), "DO SLEEP(5) /* under "+name+" */")
				return err
			})
		}()
		require.Eventually(t, func() bool {
			var n int
			err := at.admin.QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND INFO LIKE ?", "%under "+name+" %").Scan(&n)
			return err == nil && n == 1
		}, patience, 5*time.Millisecond, "the statement runs")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var took time.Duration
		late := lateness.Of(func() {
			begun := time.Now()
			require.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
			select {
			case err := <-ended:
				require.ErrorIs(t, err, namedlock.ErrLost)
			case <-time.After(patience):
				t.Error("the call does not end")
			}
			took = time.Since(begun)
		})
		assert.LessOrEqual(t, took, 500*time.Millisecond+late)
	})
}

// If the client sends COM_QUIT, a Router with a pool of connections keeps the
// session, with its locks. Therefore a discarded session ends without COM_QUIT.
func TestRouterWithAPool(t *testing.T) {
	srv := servers.ForTest(t, servers.MySQL)
	router, err := servers.StartProxy(servers.RouterPool, servers.Backend{Addr: srv.Addr()})
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() { assert.NoError(t, router.Stop()) })
	t.Run("a lock that was not held to the end", func(t *testing.T) {
		behindEach(t, srv, srv.DSNAt(router.Addr()), func(t *testing.T, at stand) {
			l, gone, other := at.locker(t), newName(), newName()
			err := l.WithLockTx(t.Context(), other, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
				return l.WithLock(ctx, gone, 0, func(ctx context.Context) error {
					_, err := tx.ExecContext(ctx, "DO RELEASE_LOCK(?)", gone)
					return err
				})
			})
			require.ErrorIs(t, err, namedlock.ErrLost)
			at.requireFree(t, other, time.Second)
		})
	})
	t.Run("Shutdown", func(t *testing.T) {
		behindEach(t, srv, srv.DSNAt(router.Addr()), func(t *testing.T, at stand) {
			l, name := at.locker(t), newName()
			lock, err := l.Acquire(t.Context(), name, 0)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, l.Shutdown(ctx), context.DeadlineExceeded)
			at.requireFree(t, name, time.Second)
			require.ErrorIs(t, lock.Release(), namedlock.ErrLost)
		})
	})
}
