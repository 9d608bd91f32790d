package e2e

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An invalid argument costs no SQL and no connection, and fn does not run.
func TestPromise01_BadArgumentsCostNoSQL(t *testing.T) {
	t.Parallel()
	cause := errors.New("the caller's own reason")
	canceled, cancel := context.WithCancelCause(background)
	cancel(cause)
	expired, cancelExpired := context.WithTimeoutCause(background, -time.Second, cause)
	defer cancelExpired()

	everyWay(t, func(t *testing.T, at setup) {
		l := at.spied(t)
		namespaced := at.spied(t, namedlock.WithNamespace("tenth/"))
		closed := at.spied(t)
		require.NoError(t, closed.Close())

		tests := map[string]struct {
			on      *locker
			ctx     context.Context
			name    string
			timeout time.Duration
			fn      func(context.Context) error
			want    []error
		}{
			"empty name":                {l, background, "", 0, nothing, []error{namedlock.ErrInvalidName}},
			"65 characters":             {l, background, strings.Repeat("é", 65), 0, nothing, []error{namedlock.ErrInvalidName}},
			"65 with the namespace":     {namespaced, background, strings.Repeat("n", 59), 0, nothing, []error{namedlock.ErrInvalidName}},
			"NUL":                       {l, background, "a\x00b", 0, nothing, []error{namedlock.ErrInvalidName}},
			"emoji":                     {l, background, "a😀", 0, nothing, []error{namedlock.ErrInvalidName}},
			"invalid UTF-8":             {l, background, "a\xff", 0, nothing, []error{namedlock.ErrInvalidName}},
			"a surrogate's bytes":       {l, background, "a\xed\xa0\x80", 0, nothing, []error{namedlock.ErrInvalidName}},
			"negative timeout":          {l, background, "name", -1, nothing, []error{namedlock.ErrInvalidTimeout}},
			"very negative timeout":     {l, background, "name", -1 << 63, nothing, []error{namedlock.ErrInvalidTimeout}},
			"cancelled context":         {l, canceled, "name", namedlock.Forever, nothing, []error{context.Canceled, cause}},
			"context past its deadline": {l, expired, "name", 0, nothing, []error{context.DeadlineExceeded, cause}},
			"no function":               {l, background, "name", 0, nil, nil},
			"no context":                {l, nil, "name", 0, nothing, nil},
			"closed Locker":             {closed, background, "name", 0, nothing, []error{namedlock.ErrClosed}},
		}
		for what, test := range tests {
			t.Run(what, func(t *testing.T) {
				sent, opened := len(test.on.spy.Statements()), test.on.spy.Opened()
				fn := test.fn
				if fn != nil {
					fn = unexpected(t)
				}
				err := test.on.WithLock(test.ctx, test.name, test.timeout, fn)
				require.Error(t, err)
				for _, want := range test.want {
					assert.ErrorIs(t, err, want)
				}
				assert.NotErrorIs(t, err, namedlock.ErrTimeout)
				var e *namedlock.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, "acquire", e.Op)
				assert.Equal(t, test.name, e.Name)

				if fn != nil {
					lock, err := test.on.Acquire(test.ctx, test.name, test.timeout)
					require.Error(t, err)
					assert.Nil(t, lock)
					for _, want := range test.want {
						assert.ErrorIs(t, err, want)
					}
				}
				assert.Len(t, test.on.spy.Statements(), sent, "SQL was sent")
				assert.Equal(t, opened, test.on.spy.Opened(), "a connection was opened")
			})
		}
	})
}

func TestPromise01_NewAndOpenDoNoIO(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.spied(t)
		assert.Empty(t, l.spy.Statements())
		if at.way == byOpen {
			assert.Zero(t, l.spy.Opened())
		}
	})
}

// The timeout also bounds the wait for a connection of the db, if other code
// uses all connections.
func TestPromise02_BoundsTheWaitForAConnection(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(2)
		l := setup{srv, byOpen}.lockerOn(t, db)
		name := newName("crowded")
		for range 2 {
			taken, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer taken.Close()
		}
		for _, timeout := range []time.Duration{0, timeout} {
			prompt(t, timeout+100*time.Millisecond, "the end of a wait for a connection", func() time.Duration {
				start := time.Now()
				requireError(t, l.WithLock(t.Context(), name, timeout, unexpected(t)), namedlock.ErrNoSession, name)
				took := time.Since(start)
				assert.GreaterOrEqual(t, took, timeout)
				return took
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		c := begin(t, ctx, l, name, namedlock.Forever)
		c.queued(t)
		cancel()
		requireError(t, c.err(t), context.Canceled, name)
	})
}

// Opening a session, however long it takes, does not count as a wait for the
// lock.
func TestPromise02_OpeningIsNoWaitForOthers(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byOpen}.spied(t)
		l.spy.OnConnect(func(ctx context.Context) error {
			select {
			case <-time.After(200 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		for _, timeout := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond} {
			// The call below needs a session of its own.
			holder, ctx := hold(t, t.Context(), l, newName("outer"))
			require.NoError(t, l.WithLock(t.Context(), newName("slow"), timeout, nothing), "timeout %v", timeout)
			require.NoError(t, ctx.Err())
			holder.release(t)
			l.db.SetMaxIdleConns(0)
			eventually(t, func() bool { return l.db.Stats().OpenConnections == 0 }, "the idle sessions are gone")
		}
	})
}

// The time of opening a session is bounded: by ctx, and by 5 s.
func TestPromise02_OpeningIsBounded(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byOpen}.spied(t), srv.foreign(t), newName("hangs")
		l.spy.OnConnect(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		prompt(t, 100*time.Millisecond, "the return after a cancel", func() time.Duration {
			ctx, cancel := context.WithCancel(t.Context())
			c := begin(t, ctx, l, name, namedlock.Forever)
			c.queued(t)
			start := time.Now()
			cancel()
			requireError(t, c.err(t), context.Canceled, name)
			return time.Since(start)
		})
		for _, timeout := range []time.Duration{0, namedlock.Forever} {
			requireError(t, l.WithLock(t.Context(), name, timeout, unexpected(t)), namedlock.ErrUnavailable, name)
		}
		l.spy.OnConnect(nil)
		require.NoError(t, l.WithLock(t.Context(), name, 0, nothing))
		f.free(name)
	})
}

// A free name can be acquired at once, however many callers wait for other
// names.
func TestPromise02_TryOnceWhileOthersWait(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t, namedlock.WithMaxSessions(3)), at.foreign(t)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting []*call
		for range 10 {
			name := newName("taken")
			f.lock(name)
			waiting = append(waiting, begin(t, ctx, l, name, namedlock.Forever))
		}
		for _, c := range waiting {
			c.queued(t)
		}
		for range 20 {
			require.NoError(t, l.WithLock(t.Context(), newName("free"), 0, nothing))
		}
		cancel()
		for _, c := range waiting {
			require.ErrorIs(t, c.err(t), context.Canceled)
		}
	})
}

// KILL QUERY of a waiter means nothing for the lock: the call returns
// ErrInterrupted.
func TestPromise07_KilledQueryIsErrInterrupted(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, killer, name := at.locker(t), at.foreign(t), at.foreign(t), newName("interrupted")
		f.lock(name)
		c := begin(t, t.Context(), l, name, time.Minute)
		var err error
		eventually(t, func() bool {
			for _, waiter := range at.waiters(t, name) {
				killer.killQuery(waiter)
			}
			select {
			case err = <-c.done:
				return true
			default:
				return false
			}
		}, "the killed wait ends")
		requireError(t, err, namedlock.ErrInterrupted, name)
		f.unlock(name)
		f.free(name)
		requireUsable(t, l)
	})
}

// If the session of a waiter is killed, the call waits on another session.
func TestPromise07_KilledConnectionGoesOnWaiting(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, killer, name := setup{srv, byOpen}.locker(t), srv.foreign(t), srv.foreign(t), newName("killed")
		f.lock(name)
		c := begin(t, t.Context(), l, name, time.Minute)
		first := srv.awaitWaiter(t, name)
		killer.kill(first)
		eventually(t, func() bool {
			waiters := srv.waiters(t, name)
			return len(waiters) == 1 && waiters[0] != first
		}, "a fresh session waits")
		c.waits(t)
		f.unlock(name)
		c.holds(t)
		c.release(t)
		f.free(name)
	})
}

// With New there is no other session. When the connection is gone, each call
// returns ErrUnavailable, as does a call that is waiting.
func TestPromise07_NewOnAConnectionThatIsGone(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, killer, name := setup{srv, byNew}.locker(t), srv.foreign(t), srv.foreign(t), newName("gone")
		f.lock(name)
		c := begin(t, t.Context(), l, name, time.Minute)
		killer.kill(srv.awaitWaiter(t, name))
		requireError(t, c.err(t), namedlock.ErrUnavailable, name)
		for range 3 {
			requireError(t, l.WithLock(t.Context(), name, time.Minute, unexpected(t)), namedlock.ErrUnavailable, name)
		}
		_, err := l.Acquire(t.Context(), name, 0)
		requireError(t, err, namedlock.ErrUnavailable, name)
		f.unlock(name)
		f.lockSoon(name) // the server may grant the lock to the killed session before that ends
	})
}

// The death of an idle session does not make a call fail, since the session
// held nothing.
func TestPromise07_KilledIdleSession(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byOpen}.locker(t), srv.foreign(t), newName("idle")
		for range 5 {
			var id int64
			require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
				id = f.holder(name)
				return nil
			}))
			f.kill(id)
			require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
				assert.NotEqual(t, id, f.holder(name))
				return nil
			}))
		}
	})
}

// A try that fails together with its connection is repeated on a fresh one,
// since nothing was held.
func TestPromise07_FailedTryIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	failures := map[string]spy.Fault{
		"before it is sent":    spy.FailBefore(errors.New("injected")),
		"after it was sent":    spy.FailAfter(errors.New("injected")),
		"bad connection":       spy.FailBefore(driver.ErrBadConn),
		"bad connection after": spy.FailAfter(driver.ErrBadConn),
		"broken":               spy.FailAfter(mysql.ErrInvalidConn),
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		for what, fault := range failures {
			for cycles := range 3 {
				t.Run(fmt.Sprint(what, " after ", cycles), func(t *testing.T) {
					l, f, name := setup{srv, byOpen}.spied(t), srv.foreign(t), newName("again")
					for range cycles {
						requireUsable(t, l)
					}
					l.spy.Once("SELECT "+locksql.GetLock, fault)
					ran := 0
					// "After it was sent": the first session may hold the lock for a moment.
					require.NoError(t, l.WithLock(t.Context(), name, patience, func(context.Context) error {
						ran++
						return nil
					}))
					assert.Equal(t, 1, ran)
					assert.Equal(t, 1, l.spy.Closed(), "the broken connection is not pooled")
					f.lockSoon(name)
					f.unlock(name)

					// The same holds for a wait: the try returns 0, and then the wait fails.
					f.lock(name)
					l.spy.Nth(2, locksql.GetLock, fault)
					c := begin(t, t.Context(), l, name, time.Minute)
					srv.awaitWaiter(t, name)
					f.unlock(name)
					c.holds(t)
					c.release(t)
					f.lockSoon(name)
				})
			}
		}
	})
}

// If the second try fails, the call returns its error.
func TestPromise07_FailsTwice(t *testing.T) {
	t.Parallel()
	injected := errors.New("injected")
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name := setup{srv, byOpen}.spied(t), srv.foreign(t), newName("twice")
		l.spy.Always(locksql.GetLock, spy.FailAfter(injected))
		for _, timeout := range []time.Duration{0, time.Second, namedlock.Forever} {
			err := l.WithLock(t.Context(), name, timeout, unexpected(t))
			requireError(t, err, namedlock.ErrUnavailable, name)
			assert.ErrorIs(t, err, injected, "the driver's error is inside")
		}
		assert.Equal(t, l.spy.Opened(), l.spy.Closed())
		f.lockSoon(name)
	})
}

// A db or a connection that its owner has closed makes calls return
// ErrUnavailable, and does not delay Close.
func TestPromise07_ClosedByItsOwner(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, used := range []bool{false, true} {
			l, name := at.locker(t), newName("closed")
			if used {
				requireUsable(t, l)
			}
			if at.way == byNew {
				require.NoError(t, l.conn.Close())
			} else if !used {
				require.NoError(t, l.db.Close())
			} else {
				eventually(t, func() bool { return l.db.Stats().InUse == 0 }, "the idle session goes back")
				require.NoError(t, l.db.Close())
			}
			for _, timeout := range []time.Duration{0, namedlock.Forever} {
				requireError(t, l.WithLock(t.Context(), name, timeout, unexpected(t)), namedlock.ErrUnavailable, name)
			}
			require.NoError(t, receive(t, inBackground(l.Close), "Close"))
		}
	})
}

func TestPromise07_UnavailableServer(t *testing.T) {
	t.Parallel()
	port, err := servers.FreePort()
	require.NoError(t, err)
	nobody := servers.Server{}
	db, err := openDB(nobody.DSNAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))))
	require.NoError(t, err)
	defer db.Close()
	l, err := namedlock.Open(db)
	require.NoError(t, err)
	defer l.Close()
	for _, timeout := range []time.Duration{0, time.Second, namedlock.Forever} {
		err = l.WithLock(t.Context(), "name", timeout, unexpected(t))
		requireError(t, err, namedlock.ErrUnavailable, "name")
		var dial *net.OpError
		assert.ErrorAs(t, err, &dial, "the driver's error is inside")
	}
}

// The crash of a server ends the waits. When the server is back, the Locker
// uses it again.
func TestPromise07_ServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		l, f, waited, held := setup{srv, byOpen}.locker(t), srv.foreign(t), newName("waited"), newName("held")
		f.lock(waited)
		waiter := begin(t, t.Context(), l, waited, namedlock.Forever)
		srv.awaitWaiter(t, waited)
		holder, _ := hold(t, t.Context(), l, held)

		require.NoError(t, srv.Kill())
		requireError(t, waiter.err(t), namedlock.ErrUnavailable, waited)
		requireError(t, l.WithLock(t.Context(), waited, 0, unexpected(t)), namedlock.ErrUnavailable, waited)
		holder.finish(nil)
		require.ErrorIs(t, holder.err(t), namedlock.ErrLost)

		require.NoError(t, srv.Restart())
		require.NoError(t, l.WithLock(t.Context(), held, 0, nothing))
		require.NoError(t, l.WithLock(t.Context(), waited, 0, nothing))
	})
}
