package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// A service makes calls of every kind on one db of a usual size: leaders,
// transactions, and locks whose code needs a connection of the same db. All
// names are free, so all calls succeed.
func TestPromise48_EveryCallOfAService(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, c := range []struct{ connections, leads, callers, rounds int }{{10, 3, 20, 15}, {4, 0, 20, 8}, {4, 2, 10, 4}, {3, 1, 6, 4}, {2, 0, 6, 4}} {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				t.Parallel()
				db := srv.open(t)
				db.SetMaxOpenConns(c.connections)
				l, table := setup{srv, byOpen}.lockerOn(t, db), srv.table(t, "n INT")
				ctx, cancel := context.WithCancel(t.Context())
				var leads, callers sync.WaitGroup
				var terms atomic.Int64
				for i := range c.leads {
					leads.Go(func() {
						err := l.Lead(ctx, newName(fmt.Sprint("lead", i)), func(ctx context.Context, term *namedlock.Term) error {
							assert.NoError(t, term.WithTx(ctx, nil, insert(table)))
							terms.Add(1)
							<-ctx.Done()
							return nil
						})
						assert.ErrorIs(t, err, context.Canceled)
					})
				}
				for range c.callers {
					callers.Go(func() {
						name := newName("tx")
						for range c.rounds {
							assert.NoError(t, l.WithLockTx(t.Context(), name, patience, nil, insert(table)))
						}
					})
					callers.Go(func() {
						name := newName("lock")
						for range c.rounds {
							assert.NoError(t, l.WithLock(t.Context(), name, patience, func(ctx context.Context) error {
								_, err := db.ExecContext(ctx, "INSERT INTO "+table+" VALUES (1)")
								return err
							}))
						}
					})
				}
				callers.Wait()
				eventually(t, func() bool { return terms.Load() == int64(c.leads) }, "all lead")
				cancel()
				leads.Wait()
				assert.Equal(t, c.leads+2*c.callers*c.rounds, srv.count(t, table))
			})
		}
	})
}

// Several Lockers of one db together leave one connection free.
func TestPromise48_SeveralLockersOfOneDB(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(4)
		at := setup{srv, byOpen}
		one, two := at.lockerOn(t, db), at.lockerOn(t, db)
		var held, all sync.WaitGroup
		held.Add(4)
		for _, l := range []*locker{one, one, two, two} {
			all.Go(func() {
				assert.NoError(t, l.WithLock(t.Context(), newName("both"), patience, func(ctx context.Context) error {
					held.Done()
					held.Wait() // all four have their locks now
					return db.PingContext(ctx)
				}))
			})
		}
		all.Wait()
		// A connection that one Locker does not use any more is available to the
		// other at once.
		var locks []*namedlock.Lock
		for range 3 {
			lock, err := two.Acquire(t.Context(), newName("all"), patience)
			require.NoError(t, err)
			locks = append(locks, lock)
		}
		for _, lock := range locks {
			require.NoError(t, lock.Release())
		}
	})
}

// Transactions under locks: beyond the limit the call chains share sessions. No
// chain waits for another indefinitely.
func TestPromise48_TransactionsUnderLocks(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, c := range []struct{ connections, callers int }{{10, 4}, {10, 20}, {4, 20}, {2, 4}} {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				t.Parallel()
				db := srv.open(t)
				db.SetMaxOpenConns(c.connections)
				l, table := setup{srv, byOpen}.lockerOn(t, db), srv.table(t, "n INT")
				var held, all sync.WaitGroup
				held.Add(c.callers)
				for range c.callers {
					all.Go(func() {
						assert.NoError(t, l.WithLock(t.Context(), newName("outer"), patience, func(ctx context.Context) error {
							held.Done()
							held.Wait()
							return l.WithLockTx(ctx, newName("inner"), patience, nil, insert(table))
						}))
					})
				}
				all.Wait()
				assert.Equal(t, c.callers, srv.count(t, table))
			})
		}
	})
}

// If the db is too small for a Lead, Lead returns an error at once. The error
// contains the number of connections that is enough.
func TestPromise48_TooManyLeads(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(4)
		l := setup{srv, byOpen}.lockerOn(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		lead := func(ctx context.Context, _ *namedlock.Term) error { <-ctx.Done(); return nil }
		var leads []<-chan error
		for range 2 {
			leads = append(leads, inBackground(func() error { return l.Lead(ctx, newName("lead"), lead) }))
		}
		eventually(t, func() bool { return l.Stats().Held == 2 }, "two lead")
		err := l.Lead(ctx, newName("lead"), lead)
		require.ErrorIs(t, err, namedlock.ErrUnsupported)
		assert.ErrorContains(t, err, "allow at least 5")
		require.NoError(t, l.WithLock(t.Context(), newName("free"), 0, func(ctx context.Context) error { return db.PingContext(ctx) }))
		cancel()
		for _, done := range leads {
			assert.ErrorIs(t, receive(t, done, "a Lead ends"), context.Canceled)
		}
	})
}

// A wait for a session is not a wait for a lock, and the error says so.
func TestPromise48_NoSession(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(2)
		l := setup{srv, byOpen}.lockerOn(t, db)
		require.NoError(t, l.WithLockTx(t.Context(), newName("holds"), 0, nil, func(ctx context.Context, _ *sql.Tx) error {
			err := l.WithLockTx(t.Context(), newName("free"), 100*time.Millisecond, nil, insert("nowhere"))
			requireTx(t, err, namedlock.ErrNoSession, namedlock.TxNone)
			assert.ErrorIs(t, err, namedlock.ErrTimeout)
			assert.ErrorContains(t, err, "2 connections")
			assert.ErrorIs(t, l.WithLock(t.Context(), newName("free"), 0, unexpected(t)), namedlock.ErrNoSession)

			waits := inBackground(func() error {
				return l.WithLock(t.Context(), newName("free"), 10*patience, func(context.Context) error { return nil })
			})
			eventually(t, func() bool { return l.Stats().WaitingForSession == 1 }, "a call waits for a session")
			assert.Equal(t, 1, l.Stats().MaxSessions)
			t.Cleanup(func() { assert.NoError(t, receive(t, waits, "the call has a session")) })
			return nil
		}))
		// A full pool does not mean that the server is unavailable.
		var all []*sql.Conn
		for range 2 {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			all = append(all, conn)
		}
		err := l.Check(t.Context())
		require.ErrorIs(t, err, namedlock.ErrNoSession)
		assert.NotErrorIs(t, err, namedlock.ErrUnavailable)
		assert.ErrorContains(t, err, "SetMaxOpenConns")
		for _, conn := range all {
			require.NoError(t, conn.Close())
		}
	})
}

// If the db cannot provide the requested number of sessions, Open returns an
// error. It does not choose a smaller number.
func TestPromise48_CapBeyondTheDB(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		db.SetMaxOpenConns(10)
		_, err := namedlock.Open(db, namedlock.WithMaxSessions(32))
		assert.ErrorContains(t, err, "at most 9")
		l, err := namedlock.Open(db, namedlock.WithMaxSessions(9))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	})
}
