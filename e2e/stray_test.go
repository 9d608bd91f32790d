package e2e

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Code leaves goroutines behind that call tx.Rollback or tx.Commit, or run a
// statement, when it returns. They do not end the next caller's transaction,
// which is on the same session.
func TestPromise43_GoroutineLeftBehind(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, name, table := at.locker(t), newName("stray"), at.table(t, "n INT")
		var left sync.WaitGroup
		defer left.Wait()
		moment := func() time.Duration { return rand.N(300 * time.Microsecond) }
		for i := range 300 {
			err := l.WithLockTx(t.Context(), name, patience, nil, func(_ context.Context, tx *sql.Tx) error {
				end := tx.Rollback
				if i%2 == 0 {
					end = tx.Commit
				}
				left.Go(func() { _, _ = tx.Exec("DO SLEEP(0.002)") })
				at := moment()
				left.Go(func() {
					time.Sleep(at)
					_ = end()
				})
				time.Sleep(moment())
				return nil
			})
			if err != nil {
				require.ErrorIs(t, err, sql.ErrTxDone)
			}
			own := errors.New("own")
			err = l.WithLockTx(t.Context(), name, patience, nil, func(ctx context.Context, tx *sql.Tx) error {
				for range 3 {
					require.NoError(t, insert(table)(ctx, tx))
				}
				return own
			})
			require.Equal(t, own, err, "after %d", i)
		}
		assert.Zero(t, at.count(t, table))
	})
}
