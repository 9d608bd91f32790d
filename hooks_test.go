package namedlock_test

import (
	"bytes"
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A panic of the hook Opened, too, is logged and goes no further.
func TestAHookThatPanicsInOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := memserver.New().Open()
		defer db.Close()
		var log bytes.Buffer
		var r record
		bad := namedlock.Hooks{
			Opened: func(*namedlock.Locker) error { panic("no registry") },
			Closed: func(*namedlock.Locker) { panic("not registered") },
		}
		locker, err := namedlock.Open(db, namedlock.WithLogger(textLogger(&log)), namedlock.WithHooks(bad), namedlock.WithHooks(r.hooks("")))
		require.NoError(t, err)
		require.NoError(t, locker.WithLock(ctx, "x", 0, nothing))
		require.NoError(t, locker.Close())
		assert.Contains(t, log.String(), "no registry")
		assert.Contains(t, log.String(), "not registered")
		assert.Equal(t, []string{"opened", "started", "acquired", "released", "closed"}, r.kinds)
	})
}

// After a panic in a transaction, the hook Released gets an outcome, too: the
// transaction was rolled back, and there was one.
func TestTheReleasedHookSeesTheOutcomeOfAPanic(t *testing.T) {
	for want, end := range map[namedlock.TxOutcome]func(tx *sql.Tx) error{
		namedlock.TxNotCommitted: func(*sql.Tx) error { return nil },
		namedlock.TxUnknown:      (*sql.Tx).Commit,
	} {
		var seen namedlock.Event
		inBubble(t, func(b *bubble) {
			t := b.T
			b.server.Once("RELEASE_LOCK(", &memserver.Reply{Drop: true})
			assert.PanicsWithValue(t, "fn", func() {
				_ = b.locker.WithLockTx(ctx, "x", 0, nil, func(_ context.Context, tx *sql.Tx) error {
					require.NoError(t, end(tx))
					panic("fn")
				})
			})
			require.ErrorIs(t, seen.Err, namedlock.ErrLost)
			assert.Equal(t, want, seen.Err.(*namedlock.Error).Tx)
		}, namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) { seen = e }}))
	}
}

// The hook Failed gets an error, or is not called.
func TestTheFailedHookGetsAnError(t *testing.T) {
	for after := range 20 {
		inBubble(t, func(b *bubble) {
			locker := b.locker
			for _, call := range []func(ctx context.Context){
				func(ctx context.Context) { _ = locker.WithLock(ctx, "x", time.Second, nothing) },
				func(ctx context.Context) { _ = locker.WithLocks(ctx, []string{"x", "y"}, time.Second, nothing) },
			} {
				left := after
				func() {
					defer func() { _ = recover() }()
					call(panickyContext{ctx, "Value", &left})
				}()
			}
		}, namedlock.WithHooks(namedlock.Hooks{Failed: func(_ context.Context, e namedlock.Event) {
			assert.Error(t, e.Err, "%s, a panic after %d", e.Method, after)
		}}))
	}
}
