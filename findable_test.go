package namedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// A detailed is an error that cannot be compared.
type detailed []string

func (d detailed) Error() string { return fmt.Sprint([]string(d)) }

// Whatever fn returns can be found in the error of the call, and so can a loss,
// however it was noticed.
func TestFnsErrorAndTheLossAreFound(t *testing.T) {
	own := errors.New("own")
	fromFn := map[string]error{
		"nil":                      nil,
		"own":                      own,
		"joined":                   errors.Join(own, context.Canceled),
		"not comparable":           detailed{"a"},
		"another lock's loss":      &namedlock.Error{Op: namedlock.OpRelease, Name: "another", Err: namedlock.ErrLost},
		"another call's outcome":   &namedlock.Error{Op: namedlock.OpCommit, Name: "another", Tx: namedlock.TxUnknown, Err: namedlock.ErrCommitUnknown},
		"another call's end":       &namedlock.Error{Op: namedlock.OpCommit, Name: "another", Tx: namedlock.TxUnknown, Err: namedlock.ErrTxEnded},
		"another call's timeout":   &namedlock.Error{Op: namedlock.OpAcquire, Name: "another", Err: namedlock.ErrTimeout},
		"database/sql's ErrTxDone": sql.ErrTxDone,
	}
	faults := map[string]func(ctx context.Context, l *locktest.Locker, cancel func()){
		"none":   func(context.Context, *locktest.Locker, func()) {},
		"cancel": func(_ context.Context, _ *locktest.Locker, cancel func()) { cancel() },
		"loss that is noticed": func(ctx context.Context, l *locktest.Locker, _ func()) {
			l.Lose(l.HeldNames()[0])
			<-ctx.Done()
		},
		"loss that the release finds": func(_ context.Context, l *locktest.Locker, _ func()) { l.FailNextRelease(errors.New("reset")) },
		"loss after a cancel": func(_ context.Context, l *locktest.Locker, cancel func()) {
			cancel()
			l.FailNextRelease(errors.New("reset"))
		},
	}
	calls := map[string]func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error{
		"WithLock": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithLock(ctx, "x", time.Second, fn)
		},
		"Do": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			_, err := namedlock.Do(ctx, l, "x", time.Second, func(ctx context.Context) (int, error) { return 1, fn(ctx) })
			return err
		},
		"WithLocks": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithLocks(ctx, []string{"x", "y"}, time.Second, fn)
		},
		"WithSlot": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithSlot(ctx, "x", 2, time.Second, func(ctx context.Context, _ int) error { return fn(ctx) })
		},
		"WithTerm": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithTerm(ctx, "x", time.Second, func(ctx context.Context, _ *namedlock.Term) error { return fn(ctx) })
		},
		"WithLockTx": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithLockTx(ctx, "x", time.Second, nil, func(ctx context.Context, _ *sql.Tx) error { return fn(ctx) })
		},
		"WithLockTx that has ended": func(ctx context.Context, l *locktest.Locker, fn func(context.Context) error) error {
			return l.WithLockTx(ctx, "x", time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
				assert.NoError(t, tx.Rollback())
				return fn(ctx)
			})
		},
	}
	for method, call := range calls {
		for of, returned := range fromFn {
			for fault, inject := range faults {
				t.Run(method+"/"+of+"/"+fault, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var told namedlock.Event
						locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) { told = e }}))
						db, mock, err := sqlmock.New()
						require.NoError(t, err)
						mock.MatchExpectationsInOrder(false)
						mock.ExpectBegin()
						mock.ExpectCommit()
						mock.ExpectRollback()
						locks.TxFrom(db)
						ctx, cancel := context.WithCancel(t.Context())
						err = call(ctx, locks, func(ctx context.Context) error {
							inject(ctx, locks, cancel)
							return returned
						})
						lost := locks.Stats().Lost > 0
						if d, ok := returned.(detailed); ok {
							var found detailed
							if assert.ErrorAs(t, err, &found) {
								assert.Equal(t, d, found)
							}
						} else if returned != nil {
							assert.ErrorIs(t, err, returned)
						}
						if lost {
							assert.ErrorIs(t, err, namedlock.ErrLost)
							assert.ErrorIs(t, told.Err, namedlock.ErrLost)
							var e *namedlock.Error
							if assert.ErrorAs(t, err, &e) && method == "WithLockTx" {
								assert.Equal(t, "x", e.Name, "the first Error is that of the call")
							}
						} else {
							assert.NoError(t, told.Err)
						}
						assert.Empty(t, locks.HeldNames())
						cancel()
						require.NoError(t, locks.Close())
						mock.ExpectClose()
						_ = db.Close()
					})
				})
			}
		}
	}
}
