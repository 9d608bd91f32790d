package namedlock_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/inside"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A bubble is a Locker on a server in memory that speaks the protocol, in a
// test whose clock jumps.
type bubble struct {
	*testing.T
	server *memserver.Server
	db     *sql.DB
	locker *namedlock.Locker
	log    *bytes.Buffer // written until the Locker is closed
}

func inBubble(t *testing.T, test func(b *bubble), opts ...namedlock.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, server: memserver.New(), log: new(bytes.Buffer)}
		b.db = b.server.Open()
		b.db.SetMaxIdleConns(10)
		var err error
		b.locker, err = namedlock.Open(b.db, append(opts, namedlock.WithLogger(textLogger(b.log)))...)
		require.NoError(t, err)
		test(b)
		require.NoError(t, b.locker.Close())
		require.NoError(t, b.server.Close(b.db))
	})
}

// Package locktest is told of each session that a Locker opens.
func TestInside_OnSessionOpened(t *testing.T) {
	var opened int
	inBubble(t, func(b *bubble) {
		inside.OnSessionOpened(b.locker, func(time.Duration) { opened++ })
		require.NoError(b, b.locker.WithLock(b.Context(), "a", 0, func(context.Context) error { return nil }))
	})
	assert.Equal(t, 1, opened)
}

func (b *bubble) withLockTx(ctx context.Context, name string, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return b.locker.WithLockTx(ctx, name, 0, nil, fn)
}

// logged closes the Locker and returns its log.
func (b *bubble) logged() string {
	b.Helper()
	require.NoError(b, b.locker.Close())
	return b.log.String()
}

func requireOutcome(t *testing.T, err error, outcome namedlock.TxOutcome) {
	t.Helper()
	var e *namedlock.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, outcome, e.Tx, err)
}

// slow runs a statement of fn that the server does not answer, under a context
// that ends during it.
func (b *bubble) slow(ctx context.Context, tx *sql.Tx, cancel func()) error {
	b.server.Once("INSERT slow", &memserver.Reply{Hang: true})
	go func() { // at once: a watch that waited for the connection's mutex would stop the bubble's clock
		synctest.Wait()
		cancel()
	}()
	_, err := tx.ExecContext(ctx, "INSERT slow")
	return err
}

// If a context ends during a statement of the transaction, this is not a loss
// of the transaction's lock, nor of a lock inside it. It is a loss of a lock
// around it.
func TestWithLockTxCutOff(t *testing.T) {
	for _, whose := range []string{"the caller's", "fn's own", "fn's own, swallowed"} {
		t.Run(whose, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				err := b.locker.WithLock(b.Context(), "around", 0, func(around context.Context) error {
					ctx, cancel := context.WithCancel(around)
					defer cancel()
					err := b.withLockTx(ctx, "report", func(ctx context.Context, tx *sql.Tx) error {
						return b.locker.WithLock(ctx, "inside", 0, func(context.Context) error {
							end := cancel
							if whose != "the caller's" {
								ctx, end = context.WithCancel(ctx)
							}
							if err := b.slow(ctx, tx, end); whose != "fn's own, swallowed" {
								return err
							}
							return nil
						})
					})
					assert.ErrorIs(b, err, context.Canceled)
					if whose != "fn's own, swallowed" { // it finds that its ctx has ended with the lock around it
						assert.NotErrorIs(b, err, namedlock.ErrLost)
					}
					assert.ErrorIs(b, context.Cause(around), namedlock.ErrLost)
					return nil
				})
				require.ErrorIs(b, err, namedlock.ErrLost)
			})
		})
	}
}

// Without a lock around the transaction, no loss is reported or logged.
func TestWithLockTxCutOffAlone(t *testing.T) {
	inBubble(t, func(b *bubble) {
		err := b.withLockTx(b.Context(), "report", func(ctx context.Context, tx *sql.Tx) error {
			ctx, cancel := context.WithCancel(ctx)
			err := b.slow(ctx, tx, cancel)
			time.Sleep(time.Second)
			return err
		})
		assert.Equal(b, context.Canceled, err)
		assert.Empty(b, b.logged())
	})
}

// If COMMIT finds a loss after fn has ended the transaction, the error matches
// both.
func TestWithLockTxLostAndEnded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		err := b.withLockTx(b.Context(), "report", func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(context.Background(), "COMMIT")
			b.server.Kill(1)
			return nil
		})
		require.ErrorIs(b, err, namedlock.ErrLost)
		require.ErrorIs(b, err, namedlock.ErrTxEnded)
		requireOutcome(b.T, err, namedlock.TxUnknown)
	}, namedlock.WithProbe(0))
}

// A question without an answer from the server ends with its context, and with
// Close.
func TestHolderWithoutAnAnswer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ask := func(ctx context.Context) error {
			b.server.Once("IS_USED_LOCK", &memserver.Reply{Hang: true})
			_, _, err := b.locker.Holder(ctx, "report")
			return err
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		require.ErrorIs(b, ask(ctx), context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { _ = b.locker.Close() })
		require.ErrorIs(b, ask(b.Context()), namedlock.ErrClosed)
	})
}

// The driver may return any error for a statement that was cut off. If fn
// returns it, the end of ctx is joined to it.
func TestWithLockTxEndOfTheContextIsTold(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ctx, cancel := context.WithCancel(b.Context())
		err := b.withLockTx(ctx, "report", func(ctx context.Context, tx *sql.Tx) error {
			cancel()
			return errOwn
		})
		require.ErrorIs(b, err, context.Canceled)
		require.ErrorIs(b, err, errOwn)
		requireOutcome(b.T, err, namedlock.TxNotCommitted)
		assert.ErrorContains(b, err, `namedlock: commit "report": the context ended: context canceled; nothing was committed`)
		ctx, cancel = context.WithCancel(b.Context())
		err = b.withLockTx(ctx, "report", func(_ context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(context.Background(), "COMMIT")
			require.NoError(b, err)
			cancel()
			return nil
		})
		require.ErrorIs(b, err, context.Canceled)
		require.ErrorIs(b, err, namedlock.ErrTxEnded)
		requireOutcome(b.T, err, namedlock.TxUnknown)
	})
}

// If fn ends the transaction itself and fails, only its error is returned.
func TestWithLockTxEndedByAnFnThatFails(t *testing.T) {
	inBubble(t, func(b *bubble) {
		require.Equal(b, errOwn, b.withLockTx(b.Context(), "report", func(_ context.Context, tx *sql.Tx) error {
			require.NoError(b, tx.Commit())
			return errOwn
		}))
	})
}

// A panic or a Goexit finds a transaction that has ended, or a lock that is
// lost. No caller gets that error, so it is logged.
func TestWithLockTxBeforeAPanic(t *testing.T) {
	for how, leave := range map[string]func(){"panic": func() { panic(errOwn) }, "Goexit": runtime.Goexit} {
		for what, c := range map[string]struct {
			before func(b *bubble, tx *sql.Tx)
			line   string
		}{
			"ended": {func(b *bubble, tx *sql.Tx) { _, _ = tx.ExecContext(context.Background(), "COMMIT") }, "already ended when its function panicked"},
			"lost":  {func(b *bubble, _ *sql.Tx) { b.server.Kill(1) }, "already lost when its function panicked"},
		} {
			t.Run(how+" "+what, func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					gone := make(chan struct{})
					go func() {
						defer close(gone)
						defer func() { _ = recover() }()
						_ = b.withLockTx(b.Context(), "report", func(_ context.Context, tx *sql.Tx) error {
							c.before(b, tx)
							leave()
							return nil
						})
					}()
					<-gone
					assert.Contains(b, b.logged(), c.line)
				})
			})
		}
	}
}

// If fn returns a loss, its own or that of a nested lock, the outcome of the
// transaction is joined to it. The joined error is found first.
func TestWithLockTxLossReturned(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for what, fails := range map[string]func(ctx context.Context) error{
			"the cause":  context.Cause,
			"its own":    func(context.Context) error { return errOwn },
			"of another": func(context.Context) error { return fmt.Errorf("inside: %w", namedlock.ErrLost) },
		} {
			err := b.withLockTx(b.Context(), "report", func(ctx context.Context, _ *sql.Tx) error {
				b.server.Kill(b.server.Holder("report"))
				<-ctx.Done()
				return fails(ctx)
			})
			require.ErrorIs(b, err, namedlock.ErrLost, what)
			requireOutcome(b.T, err, namedlock.TxNotCommitted)
			var e *namedlock.Error
			require.ErrorAs(b, err, &e)
			assert.Equal(b, "report", e.Name)
		}
	})
}

// The isolation levels of MySQL are sent to the server.
func TestWithLockTxIsolation(t *testing.T) {
	inBubble(t, func(b *bubble) {
		require.NoError(b, b.locker.WithLockTx(b.Context(), "report", 0, &sql.TxOptions{Isolation: sql.LevelReadCommitted},
			func(context.Context, *sql.Tx) error { return nil }))
		assert.Len(b, b.server.Sent("READ COMMITTED"), 1)
	})
}

func TestTxOutcomeString(t *testing.T) {
	for outcome, text := range map[namedlock.TxOutcome]string{
		namedlock.TxNone: "none", namedlock.TxNotCommitted: "not committed", namedlock.TxCommitted: "committed", namedlock.TxUnknown: "unknown", 9: "TxOutcome(9)",
	} {
		assert.Equal(t, text, outcome.String())
	}
}

func (b *bubble) withLockTxFor(name string, timeout time.Duration) error {
	return b.locker.WithLockTx(b.Context(), name, timeout, nil, func(context.Context, *sql.Tx) error { return nil })
}

func TestOptionsBounds(t *testing.T) {
	db := memserver.New().Open()
	defer db.Close()
	_, err := namedlock.Open(db, namedlock.WithLease(366*24*time.Hour))
	assert.ErrorContains(t, err, "a year at most")
	db.SetMaxOpenConns(5)
	_, err = namedlock.Open(db, namedlock.WithMaxSessions(5))
	assert.ErrorContains(t, err, "at most 4")
	l, err := namedlock.Open(db, namedlock.WithMaxSessions(4))
	require.NoError(t, err)
	_, _, err = l.Holder(none, "report")
	assert.ErrorContains(t, err, "context is nil")
	_, err = l.Holders(none, "report")
	assert.ErrorContains(t, err, "context is nil")
	require.NoError(t, l.Close())
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.NoError(t, l.Shutdown(ended), "it is closed")
	assert.True(t, errors.Is(l.WithLock(ctx, "report", 0, nothing), namedlock.ErrClosed))
}

// The statement that releases a lock after code is long. It is prepared from
// its second use on a session, and still finds the changes of the code.
func TestReleaseAfterCodeIsPrepared(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server.SetPrepares()
		released := func() string {
			sent := b.server.Sent("RELEASE_LOCK(")
			last := sent[len(sent)-1]
			return fmt.Sprint(last.Session, " ", last.Text)
		}
		change := ""
		withTx := func() error {
			return b.withLockTx(b.Context(), "café", func(ctx context.Context, tx *sql.Tx) error {
				if change == "" {
					return nil
				}
				_, err := tx.ExecContext(ctx, change)
				return err
			})
		}
		const prepared = "1 SELECT CAST(RELEASE_LOCK(CONVERT(UNHEX(CONVERT('636166c3a9' USING latin1)) USING utf8mb4)) AS BINARY), " +
			"CAST(RELEASE_ALL_LOCKS() AS BINARY), CAST(@@character_set_client AS BINARY), "
		require.NoError(t, withTx())
		assert.Contains(t, released(), "1 SELECT CAST(RELEASE_LOCK(_utf8mb4 0x636166C3A9) AS BINARY), CAST(RELEASE_ALL_LOCKS() AS BINARY), CAST(@@character_set_client AS BINARY), ")
		for range 3 {
			require.NoError(t, withTx())
			assert.Contains(t, released(), prepared)
		}
		change = "SET NAMES latin1"
		require.NoError(t, withTx())
		assert.Contains(t, released(), prepared)
		change = ""
		require.NoError(t, withTx())
		assert.Contains(t, released(), "2 SELECT CAST(RELEASE_LOCK(_utf8mb4 0x", "the session is closed")
	})
}

// START TRANSACTION would commit a transaction that the owner of the connection
// has open.
func TestWithLockTxBesideTheOwnersTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := memserver.New()
		db := srv.Open()
		defer db.Close()
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		locker, err := namedlock.New(conn)
		require.NoError(t, err)
		defer locker.Close()
		owners, err := conn.BeginTx(ctx, nil)
		require.NoError(t, err)
		require.ErrorIs(t, locker.WithLockTx(ctx, "x", 0, nil, nothingTx), namedlock.ErrInTransaction)
		assert.Len(t, srv.Sent("START TRANSACTION"), 1)
		require.NoError(t, owners.Rollback())
		require.NoError(t, locker.WithLockTx(ctx, "x", 0, nil, nothingTx))
	})
}

// A session that is closed during START TRANSACTION is not the end of the
// caller's context.
func TestWithLockTxShutDownAtItsBegin(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.server.Once("START TRANSACTION", &memserver.Reply{Hang: true})
		result := make(chan error, 1)
		go func() { result <- b.locker.WithLockTx(ctx, "x", 0, nil, nothingTx) }()
		synctest.Wait()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(b, b.locker.Shutdown(ended), context.Canceled)
		err := <-result
		require.ErrorIs(b, err, namedlock.ErrUnavailable)
		require.NotErrorIs(b, err, context.Canceled)
	})
}

// The longest keep-alive interval overflows nothing.
func TestKeepAliveAlmostNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := memserver.New().Open()
		defer db.Close()
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		locker, err := namedlock.New(conn, namedlock.WithoutServerCheck(), namedlock.WithKeepAlive(namedlock.Forever/2))
		require.NoError(t, err)
		defer locker.Close()
		require.NoError(t, locker.WithLock(ctx, "x", 0, func(ctx context.Context) error {
			time.Sleep(time.Minute)
			return locker.WithLock(ctx, "y", 0, nothing)
		}))
	})
}
