package e2e

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// The lock stays held between the transactions of a term: no other caller finds
// that only some of them are committed.
func TestPromise49_TheLockStaysBetweenTheTransactions(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		name, table := newName("term"), at.table(t, "n INT")
		const callers, terms, perTerm = 3, 5, 3
		var work sync.WaitGroup
		for range callers {
			l := at.locker(t)
			work.Go(func() {
				for range terms {
					assert.NoError(t, l.WithTerm(t.Context(), name, patience, func(ctx context.Context, term *namedlock.Term) error {
						for range perTerm {
							if err := term.WithTx(ctx, nil, insert(table)); err != nil {
								return err
							}
						}
						return nil
					}))
				}
			})
			work.Go(func() {
				for range terms {
					assert.NoError(t, l.WithLock(t.Context(), name, patience, func(context.Context) error {
						assert.Zero(t, at.count(t, table)%perTerm, "a part of a term's transactions")
						return nil
					}))
				}
			})
		}
		work.Wait()
		assert.Equal(t, callers*terms*perTerm, at.count(t, table))
		assert.Zero(t, at.foreign(t).holder(name))
	})
}

// If the lock is lost during a transaction, the transaction is not committed,
// no transaction begins after that, and WithTerm reports the loss.
func TestPromise49_NothingIsCommittedAfterALoss(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, table := at.locker(t), at.foreign(t), newName("term"), at.table(t, "n INT")
		requireError(t, l.WithTerm(t.Context(), name, 0, func(ctx context.Context, term *namedlock.Term) error {
			require.NoError(t, term.WithTx(ctx, nil, insert(table)))
			requireError(t, term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				require.NoError(t, insert(table)(ctx, tx))
				f.kill(f.holder(name))
				f.lockSoon(name)
				receive(t, ctx.Done(), "the transaction is told")
				return nil
			}), namedlock.ErrLost, name)
			receive(t, ctx.Done(), "the term is told")
			require.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			requireError(t, term.WithTx(background, nil, insert(table)), namedlock.ErrLost, name)
			return nil
		}), namedlock.ErrLost, name)
		assert.EqualValues(t, 1, f.number("SELECT COUNT(*) FROM "+table), "only the first transaction is committed")
	})
}

// A row of a table with an AUTO_INCREMENT column, inserted in the first
// transaction of each term, numbers the terms in their order. The number is a
// fencing token.
func TestPromise49_FencingTokens(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		if at.way == byNew {
			t.Skip("one session has one term")
		}
		f, name, table := at.foreign(t), newName("term"), at.table(t, "token BIGINT AUTO_INCREMENT PRIMARY KEY")
		token := func(ctx context.Context, term *namedlock.Term) (token int64) {
			require.NoError(t, term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				result, err := tx.ExecContext(ctx, "INSERT INTO "+table+" VALUES ()")
				if err == nil {
					token, err = result.LastInsertId()
				}
				return err
			}))
			return token
		}
		first, second := at.locker(t), at.locker(t)
		requireError(t, first.WithTerm(t.Context(), name, 0, func(ctx context.Context, term *namedlock.Term) error {
			mine := token(ctx, term)
			f.kill(f.holder(name))
			require.NoError(t, second.WithTerm(t.Context(), name, patience, func(ctx context.Context, term *namedlock.Term) error {
				assert.Greater(t, token(ctx, term), mine)
				return nil
			}))
			requireError(t, term.WithTx(background, nil, insert(table)), namedlock.ErrLost, name)
			return nil
		}), namedlock.ErrLost, name)
	})
}
