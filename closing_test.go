package namedlock_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// A Shutdown whose ctx has ended gives up every lock: nobody is granted one after that. Callers come at every moment.
func TestShutdownAtOnceLeavesNothingHeld(t *testing.T) {
	for try := range 50 {
		locks := locktest.New()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		stop := make(chan struct{})
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				for turn := 0; ; turn++ {
					err := locks.WithLock(context.Background(), string(rune('a'+i)), time.Minute, func(ctx context.Context) error {
						if turn < 3 {
							return nil
						}
						select {
						case <-ctx.Done():
						case <-stop:
							t.Error("a lock was held after Shutdown")
						}
						return nil
					})
					if errors.Is(err, namedlock.ErrClosed) {
						return
					}
				}
			})
		}
		for range 4 * try {
			runtime.Gosched()
		}
		_ = locks.Shutdown(ended) // an error only if something was held
		told := time.AfterFunc(10*time.Second, func() { close(stop) })
		callers.Wait()
		told.Stop()
		require.NoError(t, locks.Close())
		if t.Failed() {
			return
		}
	}
}

// Close ends a Lead that sits out an outage, too.
func TestCloseEndsALeadInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		locks.Fail(errOwn)
		led := make(chan error, 1)
		go func() { led <- locks.Lead(context.Background(), "x", untilEnd) }()
		time.Sleep(30 * time.Second)
		start := time.Now()
		require.NoError(t, locks.Close())
		assert.ErrorIs(t, <-led, namedlock.ErrClosed)
		assert.Zero(t, time.Since(start))
	})
}

// The log has the cause of each outage once: of one at the start, one that ends a term, and one that ends a wait.
func TestLeadTellsOfEachOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		const outage = "cannot stand for leader"
		breaks := func() {
			synctest.Wait()
			log.Reset()
			locks.Fail(errOwn)
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Equal(t, 1, strings.Count(log.String(), outage), log.String())
			assert.Contains(t, log.String(), errOwn.Error())
			locks.Fail(nil)
		}
		ctx, cancel := context.WithCancel(t.Context())
		led := make(chan error, 1)
		leads := make(chan struct{}, 10)
		go func() {
			led <- locks.Lead(ctx, "x", func(ctx context.Context, _ *namedlock.Term) error {
				leads <- struct{}{}
				<-ctx.Done()
				return nil
			})
		}()
		<-leads
		breaks()
		<-leads
		breaks()
		<-leads
		cancel()
		<-led

		defer locks.HoldElsewhere("y")()
		ctx, cancel = context.WithCancel(t.Context())
		go func() { led <- locks.Lead(ctx, "y", untilEnd) }()
		synctest.Wait()
		breaks()
		cancel()
		<-led
		require.NoError(t, locks.Close())
	})
}

// fn that breaks its session in each term does so in pauses, and what it returns is in the log, also where only the release has found the loss.
func TestLeadPausesBetweenTermsThatAreLostSoon(t *testing.T) {
	for _, told := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			locks := locktest.New(namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			const last = 15
			var terms []time.Time
			err := locks.Lead(ctx, "x", func(ctx context.Context, _ *namedlock.Term) error {
				terms = append(terms, time.Now())
				locks.Lose("x")
				if told || len(terms) == last {
					<-ctx.Done()
				}
				if len(terms) == last { // an end of ctx that came before fn is told of the loss would have its error count
					cancel()
				}
				return errOwn
			})
			assert.ErrorIs(t, err, context.Canceled)
			assert.NotErrorIs(t, err, errOwn)
			require.Len(t, terms, last)
			assert.Less(t, terms[1].Sub(terms[0]), 50*time.Millisecond, "the first loss costs no pause")
			assert.GreaterOrEqual(t, terms[2].Sub(terms[1]), 50*time.Millisecond, "the second costs one")
			assert.Greater(t, terms[last-1].Sub(terms[last-2]), 2*time.Second, "the pause grows")
			require.NoError(t, locks.Close())
			assert.Equal(t, last, strings.Count(log.String(), `the leader returned after it had lost the lock" name=x returned=`+errOwn.Error()), "told: %v", told)
		})
	}
}

// An error that == cannot compare.
type several []error

func (several) Error() string { return "several" }

func TestWithLocksReturnsAnErrorThatDoesNotCompare(t *testing.T) {
	var released atomic.Int64
	locks := locktest.New(namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) {
		assert.NoError(t, e.Err)
		released.Add(1)
	}}))
	err := locks.WithLocks(t.Context(), []string{"a", "b"}, 0, func(context.Context) error { return several{errOwn} })
	assert.Equal(t, several{errOwn}, err)
	assert.EqualValues(t, 1, released.Load())
	require.NoError(t, locks.Close())
}

// A unit test of a leader without a db for its transactions is told so, and the term goes on.
func TestLocktestLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		lead := func(ctx context.Context, term *namedlock.Term) error {
			assert.ErrorContains(t, term.WithTx(ctx, nil, nothingInTx), "give it to TxFrom")
			return ctx.Err()
		}
		require.NoError(t, locks.Lead(t.Context(), "x", lead))
		assert.ErrorContains(t, locks.WithLockTx(t.Context(), "x", 0, nil, nothingInTx), "give it to TxFrom")

		db, mock, err := sqlmock.New()
		require.NoError(t, err)
		mock.ExpectBegin()
		mock.ExpectCommit()
		locks.TxFrom(db)
		require.NoError(t, locks.WithLockTx(t.Context(), "x", 0, nil, nothingInTx))
		for _, failure := range []error{namedlock.ErrInTransaction, namedlock.ErrCommitUnknown, errors.New("other")} {
			locks.FailNextAcquire(failure)
			err := locks.Lead(t.Context(), "x", lead)
			require.ErrorIs(t, err, failure)
			assert.Equal(t, failure.Error() == "other", errors.Is(err, namedlock.ErrUnavailable))
		}
		var methods []string
		for _, c := range locks.Calls() {
			methods = append(methods, c.Method)
		}
		assert.Equal(t, []string{"Lead", "WithLockTx", "WithLockTx", "Lead", "Lead", "Lead"}, methods)
		assert.True(t, locks.Calls()[0].Acquired)
		require.NoError(t, locks.Close())
		mock.ExpectClose()
		require.NoError(t, db.Close())
	})
}

func nothingInTx(context.Context, *sql.Tx) error { return nil }
