package namedlock_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
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

var (
	errOwn = errors.New("own")
	none   context.Context
)

func untilEnd(ctx context.Context, _ *namedlock.Term) error {
	<-ctx.Done()
	return ctx.Err()
}

// However fn ends, the lock is released; and while it led that is a resignation.
func TestLeadResigns(t *testing.T) {
	for what, end := range map[string]func() error{
		"nil":    func() error { return nil },
		"error":  func() error { return errOwn },
		"panic":  func() error { panic(errOwn) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(what, func(t *testing.T) {
			locker, mock, db := mocked(t)
			expectLock(mock, "report")
			expectUnlock(mock, "report")
			var err error
			var value any
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { value = recover() }()
				err = locker.Lead(ctx, "report", func(context.Context, *namedlock.Term) error { return end() })
			}()
			<-done
			switch what {
			case "error":
				assert.Equal(t, errOwn, err, "as it is")
			case "panic":
				assert.Equal(t, errOwn, value, "as it is")
			default:
				assert.NoError(t, err)
			}
			assertPooled(t, db)
		})
	}
}

// Where ctx ends while an attempt fails, the error says so, too.
func TestLeadEndsWithItsContextWhileAnAttemptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Drop: true} })
		db := server.Open()
		defer db.Close()
		cause := errors.New("a deploy")
		ctx, cancel := context.WithCancelCause(t.Context())
		locker, err := namedlock.Open(db, namedlock.WithHooks(namedlock.Hooks{
			Failed: func(context.Context, namedlock.Event) { cancel(cause) },
		}))
		require.NoError(t, err)
		err = locker.Lead(ctx, "report", untilEnd)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, cause)
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "report", e.Name)
		require.NoError(t, locker.Close())
	})
}

// Lead ends with ctx, when fn has returned; the error says so, and what fn returned if that is another.
func TestLeadEndsWithItsContext(t *testing.T) {
	for _, own := range []error{nil, context.Canceled, errOwn} {
		locker, mock, _ := mocked(t)
		expectLock(mock, "report")
		expectUnlock(mock, "report")
		cause := errors.New("a deploy")
		ctx, cancel := context.WithCancelCause(ctx)
		err := locker.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error {
			cancel(cause)
			<-ctx.Done()
			return own
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, cause)
		assert.Equal(t, own == errOwn, errors.Is(err, errOwn))
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "report", e.Name)
	}
}

func TestLeadBadArgumentsCostNoSQL(t *testing.T) {
	locker, _, _ := mocked(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorContains(t, locker.Lead(ctx, "report", nil), "function")
	assert.ErrorContains(t, locker.Lead(none, "report", untilEnd), "context is nil")
	assert.ErrorIs(t, locker.Lead(ctx, "", untilEnd), namedlock.ErrInvalidName)
	assert.ErrorIs(t, locker.Lead(ended, "report", untilEnd), context.Canceled)
	assert.Error(t, new(namedlock.Locker).Lead(ctx, "report", untilEnd))
	require.NoError(t, locker.Close())
	assert.ErrorIs(t, locker.Lead(ctx, "report", untilEnd), namedlock.ErrClosed)
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

// A leader is one at a time. Who has lost the lock waits again, whatever fn has returned.
func TestLeadGoesOnAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := locktest.New()
		defer one.Close()
		two := one.Peer()
		defer two.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var terms []string
		var leaders sync.WaitGroup
		lead := func(l *locktest.Locker, who string) {
			leaders.Go(func() {
				err := l.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error {
					mu.Lock()
					terms = append(terms, who)
					mu.Unlock()
					<-ctx.Done()
					return errOwn
				})
				assert.ErrorIs(t, err, context.Canceled)
			})
			synctest.Wait()
		}
		lead(one, "one")
		lead(two, "two")
		one.Lose("report")
		time.Sleep(time.Second)
		two.Lose("report")
		time.Sleep(time.Second)
		cancel()
		leaders.Wait()
		assert.Equal(t, []string{"one", "two", "one"}, terms)
	})
}

// A loss that only the release finds is one: fn has not led to its end.
func TestLeadGoesOnAfterALossThatTheReleaseFinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		locks.FailNextRelease(errOwn)
		terms := 0
		require.NoError(t, locks.Lead(t.Context(), "report", func(context.Context, *namedlock.Term) error {
			terms++
			return nil
		}))
		assert.Equal(t, 2, terms)
	})
}

// A deposed leader commits nothing, also where it has not been told.
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

// The code of a term's transaction is told of the loss, also under a context that knows of no lock.
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

// An outage is sat out in pauses that grow, and logged once.
func TestLeadSitsOutAnOutage(t *testing.T) {
	for what, begin := range map[string]func(*memserver.Server) (end func()){
		"connections are dropped": func(s *memserver.Server) func() {
			s.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Drop: true} })
			return func() { s.Script(nil) }
		},
		"too many connections": func(s *memserver.Server) func() {
			s.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Number: 1040} })
			return func() { s.Script(nil) }
		},
		"read-only": func(s *memserver.Server) func() {
			s.SetReadOnly(true)
			return func() { s.SetReadOnly(false) }
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, log := memserver.New(), new(bytes.Buffer)
				db := server.Open()
				defer db.Close()
				l, err := namedlock.Open(db, namedlock.WithLogger(textLogger(log)))
				require.NoError(t, err)
				end := begin(server)
				ctx, cancel := context.WithCancel(t.Context())
				led := make(chan time.Time, 1)
				go func() {
					_ = l.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error {
						led <- time.Now()
						return untilEnd(ctx, nil)
					})
					close(led)
				}()
				time.Sleep(time.Minute)
				tries := len(server.Sent("VERSION()"))
				assert.Greater(t, tries, 12, "5 s apart at most")
				assert.Less(t, tries, 60, "in pauses that grow")
				end()
				back := time.Now()
				assert.LessOrEqual(t, (<-led).Sub(back), 5*time.Second)
				cancel()
				<-led
				require.NoError(t, l.Close())
				assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log)
				assert.Contains(t, log.String(), "goes on trying")
			})
		})
	}
}

// What no waiting mends is returned.
func TestLeadReturnsWhatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		db := server.Open()
		defer db.Close()
		l, err := namedlock.Open(db)
		require.NoError(t, err)
		db.SetMaxOpenConns(1)
		assert.ErrorIs(t, l.Lead(t.Context(), "report", untilEnd), namedlock.ErrUnsupported, "a db that is too small")
		require.NoError(t, l.Close())
		db.SetMaxOpenConns(3)

		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		l, err = namedlock.New(conn)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		assert.ErrorIs(t, l.Lead(t.Context(), "report", untilEnd), namedlock.ErrUnavailable, "the connection has gone for good")
		require.NoError(t, l.Close())
	})
}

// Close ends a Lead that waits, without a word about its long wait, and waits for one that leads.
func TestLeadAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(bytes.Buffer)
		one := locktest.New(namedlock.WithLogger(textLogger(log)))
		two := one.Peer()
		ctx, cancel := context.WithCancel(t.Context())
		led, waited := make(chan error, 1), make(chan error, 1)
		go func() { led <- one.Lead(ctx, "report", untilEnd) }()
		synctest.Wait()
		go func() { waited <- two.Lead(ctx, "report", untilEnd) }()
		time.Sleep(2 * time.Minute)
		require.NoError(t, two.Close())
		assert.ErrorIs(t, <-waited, namedlock.ErrClosed)
		assert.NotContains(t, log.String(), "WARN")
		cancel()
		require.NoError(t, one.Close())
		assert.ErrorIs(t, <-led, context.Canceled)
	})
}

// An outage that hits a leader, or one who waits, is two lines in the log, however long it lasts: the end of the session, and the cause.
func TestLeadLogsAnOutageOnce(t *testing.T) {
	for _, leads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			log := new(bytes.Buffer)
			l := locktest.New(namedlock.WithLogger(textLogger(log)))
			if !leads {
				defer l.HoldElsewhere("report")()
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Lead(ctx, "report", untilEnd) }()
			time.Sleep(time.Minute)
			l.Fail(errors.New("connection refused"))
			time.Sleep(10 * time.Minute)
			l.Fail(nil)
			time.Sleep(time.Minute)
			cancel()
			<-done
			require.NoError(t, l.Close())
			assert.Equal(t, 2, strings.Count(log.String(), "level=WARN")+strings.Count(log.String(), "level=ERROR"), "%v: %s", leads, log)
		})
	}
}
