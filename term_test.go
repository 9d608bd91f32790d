package namedlock_test

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/locktest"
)

// However fn ends, the lock is released, after the transactions of the term.
func TestWithTermSendsItsStatements(t *testing.T) {
	for what, end := range map[string]func() error{
		"nil":    func() error { return nil },
		"error":  func() error { return errOwn },
		"panic":  func() error { panic(errOwn) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			mock.ExpectBegin()
			expectWrite(mock)
			mock.ExpectCommit()
			mock.ExpectBegin()
			expectWrite(mock)
			mock.ExpectRollback()
			expectUnlock(mock, "report")
			var err error
			var value any
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { value = recover() }()
				err = locker.WithTerm(ctx, "report", time.Second, func(ctx context.Context, term *namedlock.Term) error {
					require.NoError(t, term.WithTx(ctx, nil, write))
					require.Equal(t, errOwn, term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
						require.NoError(t, write(ctx, tx))
						return errOwn
					}))
					return end()
				})
			}()
			<-done
			switch what {
			case "error":
				assert.Equal(t, errOwn, err, "unchanged")
			case "panic":
				assert.Equal(t, errOwn, value, "unchanged")
			default:
				assert.NoError(t, err)
			}
			assertPooled(t, db)
		})
	}
}

func TestWithTermBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	unexpected := func(context.Context, *namedlock.Term) error {
		t.Error("fn ran")
		return nil
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, locker.WithTerm(ctx, "", 0, unexpected), namedlock.ErrInvalidName)
	assert.ErrorIs(t, locker.WithTerm(ctx, "report", -1, unexpected), namedlock.ErrInvalidTimeout)
	assert.ErrorIs(t, locker.WithTerm(ended, "report", 0, unexpected), context.Canceled)
	assert.ErrorContains(t, locker.WithTerm(none, "report", 0, unexpected), "context is nil")
	assert.ErrorContains(t, locker.WithTerm(ctx, "report", 0, nil), "function")
	assert.Error(t, new(namedlock.Locker).WithTerm(ctx, "report", 0, unexpected))
	require.NoError(t, locker.Close())
	assert.ErrorIs(t, locker.WithTerm(ctx, "report", 0, unexpected), namedlock.ErrClosed)
}

func TestWithTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		defer db.Close()
		locks := locktest.New()
		defer locks.Close()
		other := locks.Peer()
		defer other.Close()
		locks.TxFrom(db)
		unexpected := unexpectedTx(t)
		nobody := func(context.Context, *namedlock.Term) error {
			t.Error("fn ran")
			return nil
		}

		for range 2 {
			mock.ExpectBegin()
			mock.ExpectCommit()
		}
		mock.ExpectBegin()
		mock.ExpectRollback()
		err = locks.WithTerm(ctx, "report", time.Minute, func(ctx context.Context, term *namedlock.Term) error {
			busy := func() {
				assert.ErrorIs(t, other.WithLock(ctx, "report", time.Second, nothing), namedlock.ErrTimeout)
				assert.ErrorIs(t, other.WithTerm(ctx, "report", time.Second, nobody), namedlock.ErrTimeout)
			}
			for range 2 {
				busy()
				require.NoError(t, term.WithTx(ctx, nil, func(context.Context, *sql.Tx) error {
					busy()
					return nil
				}))
				busy()
			}
			assert.ErrorIs(t, locks.WithTerm(ctx, "report", 0, nobody), namedlock.ErrReentrant)
			assert.ErrorIs(t, locks.WithTerm(ctx, "another", 0, nobody), namedlock.ErrInTransaction)
			assert.ErrorIs(t, locks.Lead(ctx, "another", nobody), namedlock.ErrInTransaction)
			err := locks.WithLockTx(ctx, "another", 0, nil, unexpected)
			assert.ErrorIs(t, err, namedlock.ErrInTransaction)
			assert.ErrorContains(t, err, "already in a term, which has a session of its own; use Term.WithTx for a transaction")
			assert.NoError(t, locks.WithLock(ctx, "another", 0, nothing), "a lock nests")

			err = term.WithTx(ctx, nil, func(context.Context, *sql.Tx) error {
				locks.Lose("report")
				return nil
			})
			assert.ErrorIs(t, err, namedlock.ErrLost)
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			assert.ErrorIs(t, term.WithTx(context.Background(), nil, unexpected), namedlock.ErrLost)
			assert.NoError(t, other.WithTerm(context.Background(), "report", 0, func(context.Context, *namedlock.Term) error { return nil }))
			return errOwn
		})
		assert.ErrorIs(t, err, errOwn)
		assert.ErrorIs(t, err, namedlock.ErrLost, "reported beside fn's error")
		require.NoError(t, mock.ExpectationsWereMet())
	})
}

// WithTerm does not return before a transaction that is still running has
// ended.
func TestWithTermWaitsForItsTransactions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		defer db.Close()
		locks := locktest.New()
		defer locks.Close()
		locks.TxFrom(db)
		mock.ExpectBegin()
		mock.ExpectRollback()
		ended := make(chan error, 1)
		require.NoError(t, locks.WithTerm(ctx, "report", 0, func(ctx context.Context, term *namedlock.Term) error {
			begun := make(chan struct{})
			go func() {
				ended <- term.WithTx(ctx, nil, func(ctx context.Context, _ *sql.Tx) error {
					close(begun)
					<-ctx.Done()
					time.Sleep(time.Minute)
					locktest.AssertHeld(t, ctx, locks, "report")
					return nil
				})
			}()
			<-begun
			return nil
		}))
		assert.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, mock.ExpectationsWereMet())
	})
}

// A value does not survive the rollback of its transaction.
func TestDoTx(t *testing.T) {
	five := func(err error) func(context.Context, *sql.Tx) (int, error) {
		return func(context.Context, *sql.Tx) (int, error) { return 5, err }
	}
	timeout := &namedlock.Error{Op: namedlock.OpAcquire, Name: "report", Err: namedlock.ErrTimeout}
	for what, c := range map[string]struct {
		begin, commit error // of the transaction
		fn            func(context.Context, *sql.Tx) (int, error)
		value         int
		err           error
	}{
		"committed":        {fn: five(nil), value: 5},
		"fn's error":       {fn: five(errOwn), err: errOwn},
		"a nested error":   {fn: five(timeout), err: namedlock.ErrTimeout},
		"BEGIN is refused": {begin: errOwn, fn: five(nil), err: errOwn},
		"not committed":    {commit: &namedlock.Error{Op: namedlock.OpCommit, Tx: namedlock.TxNotCommitted, Err: errOwn}, fn: five(nil), err: errOwn},
		"may be committed": {commit: &namedlock.Error{Op: namedlock.OpCommit, Tx: namedlock.TxUnknown, Err: namedlock.ErrCommitUnknown}, fn: five(nil), value: 5, err: namedlock.ErrCommitUnknown},
		"then lost":        {commit: &namedlock.Error{Op: namedlock.OpRelease, Tx: namedlock.TxCommitted, Err: namedlock.ErrLost}, fn: five(nil), value: 5, err: namedlock.ErrLost},
		"fn ended it":      {commit: sql.ErrTxDone, fn: five(nil), value: 5, err: sql.ErrTxDone},
		"no function":      {err: namedlock.ErrUnsupported},
	} {
		t.Run(what, func(t *testing.T) {
			value, err := namedlock.DoTx(ctx, txDouble{c.begin, c.commit}, "report", 0, nil, c.fn)
			assert.Equal(t, c.value, value)
			switch {
			case c.fn == nil:
				assert.ErrorContains(t, err, "function")
			case c.err == nil:
				assert.NoError(t, err)
			default:
				assert.ErrorIs(t, err, c.err)
			}
		})
	}
}

// A txDouble runs fn, and returns commit if fn returns nil.
type txDouble struct{ begin, commit error }

func (d txDouble) WithLockTx(ctx context.Context, _ string, _ time.Duration, _ *sql.TxOptions, fn func(context.Context, *sql.Tx) error) error {
	if d.begin != nil {
		return d.begin
	}
	if err := fn(ctx, nil); err != nil {
		return err
	}
	return d.commit
}

// A timeout of 5 is 5 nanoseconds, and the text of its error says so.
func TestATimeoutWithoutAUnit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		other := locks.Peer()
		defer other.Close()
		require.NoError(t, other.WithLock(ctx, "report", 0, func(context.Context) error {
			err := locks.WithLock(ctx, "report", 5, nothing)
			assert.ErrorIs(t, err, namedlock.ErrTimeout)
			assert.ErrorContains(t, err, "not acquired within 5ns (a time.Duration without a unit counts nanoseconds: for 5 seconds write 5*time.Second)")
			err = locks.WithLock(ctx, "report", time.Microsecond, nothing)
			assert.ErrorIs(t, err, namedlock.ErrTimeout)
			assert.NotContains(t, err.Error(), "unit")
			return nil
		}))
	})
}

// Transactions of a term are on its session, one after the other.
func TestTermWithTxSendsItsStatements(t *testing.T) {
	locker, mock, db := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	expectWrite(mock)
	mock.ExpectCommit()
	mock.ExpectBegin()
	expectWrite(mock)
	mock.ExpectRollback()
	mock.ExpectBegin()
	mock.ExpectRollback()
	expectUnlock(mock, "report")
	require.NoError(t, locker.Lead(ctx, "report", func(leading context.Context, term *namedlock.Term) error {
		require.NoError(t, term.WithTx(leading, nil, write))
		require.Equal(t, errOwn, term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
			require.NoError(t, write(ctx, tx))
			return errOwn
		}), "under a context that knows of no lock, too")
		require.PanicsWithValue(t, "own", func() {
			_ = term.WithTx(leading, nil, func(context.Context, *sql.Tx) error { panic("own") })
		})
		return nil
	}))
	assertPooled(t, db)
}

func TestTermBadArgumentsCostNoSQL(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	mock.ExpectBegin()
	mock.ExpectCommit()
	expectUnlock(mock, "report")
	var term *namedlock.Term
	unexpected := unexpectedTx(t)
	require.NoError(t, locker.Lead(ctx, "report", func(leading context.Context, led *namedlock.Term) error {
		term = led
		ended, cancel := context.WithCancel(leading)
		cancel()
		assert.ErrorContains(t, term.WithTx(leading, nil, nil), "function")
		assert.ErrorContains(t, term.WithTx(none, nil, unexpected), "context is nil")
		assert.ErrorIs(t, term.WithTx(ended, nil, unexpected), context.Canceled)
		assert.ErrorContains(t, term.WithTx(leading, &sql.TxOptions{Isolation: sql.LevelLinearizable}, unexpected), "isolation level Linearizable")
		err := locker.WithLockTx(leading, "another", 0, nil, unexpected)
		assert.ErrorIs(t, err, namedlock.ErrInTransaction)
		assert.ErrorContains(t, err, "use Term.WithTx")
		assert.ErrorIs(t, locker.Lead(leading, "another", untilEnd), namedlock.ErrInTransaction)
		assert.ErrorIs(t, locker.Lead(leading, "report", untilEnd), namedlock.ErrReentrant)
		return term.WithTx(leading, nil, func(ctx context.Context, tx *sql.Tx) error {
			assert.ErrorIs(t, term.WithTx(ctx, nil, unexpected), namedlock.ErrInTransaction)
			assert.ErrorIs(t, locker.WithLockTx(ctx, "another", 0, nil, unexpected), namedlock.ErrInTransaction)
			return nil
		})
	}))
	assert.ErrorIs(t, term.WithTx(ctx, nil, unexpected), namedlock.ErrLost, "the term is over")
	assert.Error(t, new(namedlock.Term).WithTx(ctx, nil, unexpected))
}

// A deposed leader commits nothing, even if it has not been told.
func TestTermDeposedCommitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		defer db.Close()
		locks := locktest.New()
		defer locks.Close()
		locks.TxFrom(db)
		mock.ExpectBegin()
		mock.ExpectRollback()
		terms := 0
		require.NoError(t, locks.Lead(t.Context(), "report", func(ctx context.Context, term *namedlock.Term) error {
			if terms++; terms == 2 {
				return nil
			}
			err := term.WithTx(ctx, nil, func(context.Context, *sql.Tx) error {
				locks.Lose("report")
				return nil
			})
			assert.ErrorIs(t, err, namedlock.ErrLost)
			assert.ErrorIs(t, term.WithTx(context.Background(), nil, unexpectedTx(t)), namedlock.ErrLost)
			return nil
		}))
		assert.Equal(t, 2, terms)
		require.NoError(t, mock.ExpectationsWereMet())
	})
}

// The code of a term's transaction is told of the loss, even under a context
// that carries no lock.
func TestTermTransactionIsToldOfTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		defer db.Close()
		locks := locktest.New()
		defer locks.Close()
		locks.TxFrom(db)
		mock.ExpectBegin()
		mock.ExpectRollback()
		terms := 0
		require.NoError(t, locks.Lead(t.Context(), "report", func(_ context.Context, term *namedlock.Term) error {
			if terms++; terms == 2 {
				return nil
			}
			assert.ErrorIs(t, term.WithTx(context.Background(), nil, func(ctx context.Context, _ *sql.Tx) error {
				locks.Lose("report")
				select {
				case <-ctx.Done():
					assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
				case <-time.After(time.Minute):
					t.Error("not told")
				}
				return nil
			}), namedlock.ErrLost)
			return nil
		}))
		require.NoError(t, mock.ExpectationsWereMet())
	})
}

// Transactions of a term take turns, and the lock outlasts the last of them.
func TestTermTransactionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		defer db.Close()
		locks := locktest.New()
		defer locks.Close()
		locks.TxFrom(db)
		mock.ExpectBegin()
		mock.ExpectRollback()
		var term *namedlock.Term
		var running sync.WaitGroup
		ended := false
		require.NoError(t, locks.Lead(t.Context(), "report", func(ctx context.Context, led *namedlock.Term) error {
			term = led
			running.Go(func() {
				assert.ErrorIs(t, term.WithTx(ctx, nil, func(ctx context.Context, _ *sql.Tx) error {
					<-ctx.Done()
					time.Sleep(time.Minute)
					locktest.AssertHeld(t, ctx, locks, "report")
					ended = true
					return nil
				}), context.Canceled)
			})
			synctest.Wait()
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			assert.ErrorIs(t, term.WithTx(short, nil, unexpectedTx(t)), context.DeadlineExceeded)
			running.Go(func() {
				assert.ErrorIs(t, term.WithTx(context.Background(), nil, unexpectedTx(t)), namedlock.ErrLost, "the term is over")
			})
			synctest.Wait()
			return nil
		}))
		assert.True(t, ended, "Lead has waited for the transaction")
		running.Wait()
		require.NoError(t, mock.ExpectationsWereMet())
	})
}

// A KILL at the beginning of a leader's transaction is the loss of its term. A
// context of another lock is refused. A panic of a deposed leader is only
// logged.
func TestTermOddEnds(t *testing.T) {
	inBubble(t, func(b *bubble) {
		none := func(context.Context, *sql.Tx) error { return nil }
		ctx, cancel := context.WithCancel(b.Context())
		_ = b.locker.Lead(ctx, "report", func(leading context.Context, term *namedlock.Term) error {
			defer cancel()
			require.NoError(b, b.locker.WithLock(b.Context(), "another", 0, func(ctx context.Context) error {
				assert.ErrorContains(b, term.WithTx(ctx, nil, none), "a different lock")
				return nil
			}))
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if st.Text != "START TRANSACTION" {
					return nil
				}
				time.Sleep(time.Second)
				return &memserver.Reply{Drop: true}
			})
			err := term.WithTx(leading, nil, none)
			require.ErrorIs(b, err, namedlock.ErrLost)
			requireOutcome(b.T, err, namedlock.TxNone)
			b.server.Script(nil)
			return nil
		})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			defer func() { _ = recover() }()
			_ = b.locker.Lead(b.Context(), "report", func(context.Context, *namedlock.Term) error {
				b.server.Kill(b.server.Holder("report"))
				panic(errOwn)
			})
		}()
		<-gone
		assert.Contains(b, b.logged(), "already lost when its function panicked")
	})
}
