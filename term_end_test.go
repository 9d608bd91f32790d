package namedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// The end of the caller's context is not a loss of the lock, for a transaction
// that begins after it and for one that waits for its turn.
func TestTermWithTxAfterTheEndOfTheContext(t *testing.T) {
	inBubble(t, func(b *bubble) {
		t, locker := b.T, b.locker
		stop, why := errors.New("SIGTERM"), context.CancelCauseFunc(nil)
		requireStopped := func(err error) {
			t.Helper()
			require.ErrorIs(t, err, stop)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, namedlock.ErrLost)
			requireOutcome(t, err, namedlock.TxNone)
		}
		var after *namedlock.Term
		body := func(ctx context.Context, term *namedlock.Term) error {
			after = term
			waits := make(chan error)
			go func() {
				_ = term.WithTx(ctx, nil, func(ctx context.Context, _ *sql.Tx) error {
					time.Sleep(time.Second)
					why(stop)
					time.Sleep(time.Second)
					return nil
				})
			}()
			synctest.Wait()
			go func() { waits <- term.WithTx(ctx, nil, unexpectedTx(t)) }()
			requireStopped(<-waits)
			return term.WithTx(ctx, nil, unexpectedTx(t))
		}
		caller, cancel := context.WithCancelCause(ctx)
		why = cancel
		err := locker.WithTerm(caller, "x", 0, body)
		requireStopped(err)
		assert.Equal(t, "canceled", namedlock.ErrorType(err))
		require.ErrorIs(t, after.WithTx(ctx, nil, unexpectedTx(t)), namedlock.ErrLost, "fn has returned")

		caller, cancel = context.WithCancelCause(ctx)
		why = cancel
		err = locker.Lead(caller, "x", body)
		require.ErrorIs(t, err, stop)
		require.NotErrorIs(t, err, namedlock.ErrLost)
		assert.Zero(t, locker.Stats().Lost)
	})
}
