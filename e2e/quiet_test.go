package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quietLogger fails the test if a warning or an error is logged.
func quietLogger(t *testing.T) *slog.Logger { return slog.New(alarm{slog.DiscardHandler, t}) }

type alarm struct {
	slog.Handler
	t *testing.T
}

func (alarm) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (a alarm) Handle(_ context.Context, r slog.Record) error {
	message := r.Message
	r.Attrs(func(attr slog.Attr) bool {
		message += " " + attr.String()
		return true
	})
	a.t.Errorf("logged: %s", message)
	return nil
}

// A release is never taken for a loss. Locks are acquired and released, some
// while the watch checks their sessions, and nothing is logged.
func TestPromise11_AThousandQuietReleases(t *testing.T) {
	t.Parallel()
	const workers, rounds = 8, 130
	eager := []namedlock.Option{namedlock.WithProbe(100 * time.Microsecond), namedlock.WithKeepAlive(calm())}
	everyWay(t, func(t *testing.T, at setup) {
		for _, opts := range [][]namedlock.Option{nil, eager} {
			l := at.locker(t, append(opts, namedlock.WithLogger(quietLogger(t)))...)
			var all sync.WaitGroup
			for worker := range workers {
				all.Go(func() {
					name := newName("quiet")
					for round := range rounds {
						var under context.Context
						work := func(ctx context.Context) error {
							under = ctx
							if round%20 == worker {
								<-time.After(30 * time.Millisecond)
							}
							return context.Cause(ctx)
						}
						if round%2 == 0 {
							assert.NoError(t, l.WithLock(t.Context(), name, patience, work))
						} else {
							lock, err := l.Acquire(t.Context(), name, patience)
							if !assert.NoError(t, err) {
								return
							}
							assert.NoError(t, work(lock.Context()))
							assert.NoError(t, lock.Release())
						}
						<-under.Done()
						assert.Equal(t, context.Canceled, context.Cause(under))
					}
				})
			}
			all.Wait()
			require.NoError(t, l.Close())
		}
	})
}

// smallRows and largeRows are queries with results of different sizes.
const (
	smallRows = "SELECT 1 UNION SELECT 2 UNION SELECT 3"
	largeRows = "SELECT REPEAT('x', 20000) FROM (" + smallRows + ") a, (" + smallRows + ") b, (" + smallRows + ") c, (" +
		smallRows + ") d, (" + smallRows + ") e, (" + smallRows + ") f" // 15 MB
)

// The code under the lock may use the connection that it gave to New. That is
// not a loss, although the watch cannot use the connection then. The code
// leaves rows unread, runs long statements, or has a transaction open.
func TestPromise11_OwnUseOfTheConnectionIsNoLoss(t *testing.T) {
	t.Parallel()
	pause := calm() + calm()/4 // longer than the interval of the keep-alives
	long := fmt.Sprintf("SELECT SLEEP(%f)", pause.Seconds())
	read := func(query string, args ...any) func(*testing.T, context.Context, *sql.Conn) {
		return func(t *testing.T, ctx context.Context, conn *sql.Conn) {
			rows, err := conn.QueryContext(ctx, query, args...)
			require.NoError(t, err)
			defer rows.Close()
			for range 2 {
				<-time.After(pause)
				require.True(t, rows.Next())
				var s string
				require.NoError(t, rows.Scan(&s))
			}
			for rows.Next() {
			}
			require.NoError(t, rows.Err())
		}
	}
	manyStatements := func(t *testing.T, ctx context.Context, conn *sql.Conn) {
		for end := time.Now().Add(pause); time.Now().Before(end); {
			var n int
			require.NoError(t, conn.QueryRowContext(ctx, "SELECT ?", 7).Scan(&n))
		}
	}
	uses := map[string]func(*testing.T, context.Context, *sql.Conn){
		"small result":           read(smallRows),
		"small result, prepared": read(smallRows+" UNION SELECT ?", 4),
		"large result":           read(largeRows),
		"large result, prepared": read(largeRows+" WHERE ?", 1),
		"result closed early": func(t *testing.T, ctx context.Context, conn *sql.Conn) {
			rows, err := conn.QueryContext(ctx, largeRows)
			require.NoError(t, err)
			require.True(t, rows.Next())
			<-time.After(pause)
			require.NoError(t, rows.Close())
		},
		"long statement": func(t *testing.T, ctx context.Context, conn *sql.Conn) {
			_, err := conn.ExecContext(ctx, long)
			require.NoError(t, err)
		},
		"long statement under no context": func(t *testing.T, _ context.Context, conn *sql.Conn) {
			_, err := conn.ExecContext(background, long)
			require.NoError(t, err)
		},
		"transaction": func(t *testing.T, ctx context.Context, conn *sql.Conn) {
			tx, err := conn.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, long)
			require.NoError(t, err)
			<-time.After(pause)
			require.NoError(t, tx.Commit())
		},
		"many statements": manyStatements,
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, use := range uses {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				l := setup{srv, byNew}.locker(t, namedlock.WithKeepAlive(calm()), namedlock.WithLogger(quietLogger(t)))
				f, name := srv.foreign(t), newName("own-use")
				c, ctx := hold(t, t.Context(), l, name)
				use(t, ctx, l.conn)
				requireHeld(t, ctx)
				<-time.After(calm())
				requireHeld(t, ctx)
				assert.NotZero(t, f.holder(name))
				c.release(t)
				assert.Equal(t, context.Canceled, context.Cause(ctx))
			})
		}
		// The rows stay in the socket, and not in the driver.
		t.Run("rows that come one by one", func(t *testing.T) {
			t.Parallel()
			network, name := srv.network(t), newName("own-use")
			l := setup{srv, byNew}.lockerBehind(t, network, nil, namedlock.WithKeepAlive(calm()), namedlock.WithLogger(quietLogger(t)))
			c, ctx := hold(t, t.Context(), l, name)
			network.Pace(100 * time.Millisecond)
			read(smallRows)(t, ctx, l.conn)
			network.Pace(0)
			requireHeld(t, ctx)
			<-time.After(calm())
			requireHeld(t, ctx)
			c.release(t)
		})
		// The keep-alives take long.
		t.Run("many statements, many locks", func(t *testing.T) {
			t.Parallel()
			for range 2 {
				l := setup{srv, byNew}.locker(t, namedlock.WithKeepAlive(calm()), namedlock.WithLogger(quietLogger(t)))
				var held [300]*namedlock.Lock
				for i := range held {
					var err error
					held[i], err = l.Acquire(t.Context(), newName("own-use"), 0)
					require.NoError(t, err)
				}
				manyStatements(t, held[0].Context(), l.conn)
				for _, lock := range held {
					require.NoError(t, lock.Release())
				}
			}
		})
	})
}

// A KILL is detected while the code under the lock uses the connection that was
// given to New. If no statement runs, it is detected at once. Otherwise the
// statement fails, and the watch detects that.
func TestPromise11_KillDuringOwnUseOfTheConnection(t *testing.T) {
	t.Parallel()
	type use func(ctx context.Context, conn *sql.Conn, running chan<- struct{}) error
	sleep := func(ctx context.Context, q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	}, running chan<- struct{}) error {
		time.AfterFunc(often()/2, func() { close(running) })
		_, err := q.ExecContext(ctx, "SELECT SLEEP(60)")
		return err
	}
	read := func(query string) use {
		return func(ctx context.Context, conn *sql.Conn, running chan<- struct{}) error {
			rows, err := conn.QueryContext(ctx, query)
			if err != nil {
				return err
			}
			defer rows.Close()
			rows.Next()
			close(running)
			<-time.After(often()) // during the pause the session is killed
			for rows.Next() {
			}
			return rows.Err()
		}
	}
	uses := map[string]use{
		"statement under fn's context": func(ctx context.Context, conn *sql.Conn, running chan<- struct{}) error {
			return sleep(ctx, conn, running)
		},
		"statement under another": func(_ context.Context, conn *sql.Conn, running chan<- struct{}) error {
			return sleep(background, conn, running)
		},
		"statement in a transaction": func(ctx context.Context, conn *sql.Conn, running chan<- struct{}) error {
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			return sleep(ctx, tx, running)
		},
		"idle transaction": func(_ context.Context, conn *sql.Conn, running chan<- struct{}) error {
			tx, err := conn.BeginTx(background, nil)
			if err != nil {
				return err
			}
			close(running)
			<-time.After(often())
			return tx.Rollback()
		},
		"small result": read(smallRows),
		"large result": read(largeRows),
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, use := range uses {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				f := srv.foreign(t)
				requireNoticed(t, often()+twoIntervals(), func() victim {
					l := setup{srv, byNew}.locker(t, namedlock.WithKeepAlive(often()))
					v := l.victim(t, f, func(_ string, session int64) { f.kill(session) })
					running := make(chan struct{})
					used := inBackground(func() error { return use(v.ctx, l.conn, running) })
					<-running
					then := v.then
					v.then = func() {
						t.Helper()
						receive(t, used, "the code has stopped using the connection")
						then()
					}
					return v
				})
			})
		}
	})
}

// A held lock has no goroutine, and a released lock leaves none behind.
//
// This test counts the goroutines of the process, so it runs alone.
func TestPromise19_Goroutines(t *testing.T) {
	const locks, sessions, few = 1000, 4, 20 // of each Locker
	type heap struct {
		*locker
		f    *foreign
		held [locks]*namedlock.Lock
	}
	var heaps []*heap
	for _, kind := range on().Kinds {
		srv, err := shared[kind]()
		if err != nil {
			servers.SkipOrFail(t, err)
		}
		for _, way := range []string{byOpen, byNew} {
			f, db := srv.foreign(t), srv.open(t)
			db.SetMaxIdleConns(-1) // the driver has a goroutine for each connection
			opts := []namedlock.Option{namedlock.WithKeepAlive(calm())}
			if way == byOpen {
				opts = append(opts, namedlock.WithMaxSessions(sessions))
				require.NoError(t, db.PingContext(t.Context()))
			}
			heaps = append(heaps, &heap{locker: setup{srv, way}.lockerOn(t, db, opts...), f: f})
		}
	}
	before := settled()
	back := func(when string) {
		t.Helper()
		eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "%d goroutines are back %s; there are %d",
			before, when, runtime.NumGoroutine())
	}

	var err error
	for _, h := range heaps {
		for i := range h.held {
			h.held[i], err = h.Acquire(t.Context(), newName("goroutine"), 0)
			require.NoError(t, err)
		}
	}
	for range 12 {
		<-time.After(calm() / 8) // in all, this takes longer than an interval
		assert.LessOrEqual(t, runtime.NumGoroutine()-before, len(heaps)*(few+sessions))
	}
	for _, h := range heaps {
		for _, lock := range h.held {
			require.NoError(t, lock.Release())
		}
	}
	back("after the last release")

	for _, h := range heaps {
		name := newName("lost")
		c, ctx := hold(t, t.Context(), h.locker, name)
		h.f.kill(h.f.holder(name))
		receive(t, ctx.Done(), "the loss is noticed")
		c.finish(nil)
		require.ErrorIs(t, c.err(t), namedlock.ErrLost)
		back("after a loss")
		require.NoError(t, h.Close())
		back("after Close")
	}
}

// settled returns the number of goroutines after those that are about to end
// have ended.
func settled() int {
	n := runtime.NumGoroutine()
	for same := 0; same < 10; same++ {
		<-time.After(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now < n {
			n, same = now, 0
		}
	}
	return n
}
