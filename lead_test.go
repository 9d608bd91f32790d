package namedlock_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// However fn ends, the lock is released. If fn ends while it leads, it resigns.
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

// If ctx ends while an attempt fails, the error matches both.
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

// If ctx ends while an attempt fails by an error that no other attempt cures,
// the error matches both. So a Lead whose ctx ends as the Locker is closed has
// ended as its caller wanted.
func TestLeadEndsWithItsContextAndTheLocker(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ctx, cancel := context.WithCancel(b.Context())
		locker, err := namedlock.Open(b.db, namedlock.WithHooks(namedlock.Hooks{
			Failed: func(context.Context, namedlock.Event) { cancel() },
		}))
		require.NoError(b, err)
		b.server.Lock("report")
		led := make(chan error, 1)
		go func() { led <- locker.Lead(ctx, "report", untilEnd) }()
		synctest.Wait()
		require.NoError(b, locker.Close())
		err = <-led
		require.ErrorIs(b, err, context.Canceled)
		require.ErrorIs(b, err, namedlock.ErrClosed)
		assert.Equal(b, `namedlock: acquire "report": stopped waiting: context canceled: locker is closed`, err.Error())
	})
}

// Lead ends with ctx, when fn has returned. The error matches ctx.Err(), and
// fn's error if that is a different one.
func TestLeadEndsWithItsContext(t *testing.T) {
	for _, own := range []error{nil, context.Canceled, errOwn, errors.Join(context.Canceled, errOwn)} {
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
		assert.Equal(t, errors.Is(own, errOwn), errors.Is(err, errOwn))
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

// There is one leader at a time. After a loss Lead waits again, whatever fn has
// returned.
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

// A loss that only the release finds is a loss: fn has not led to its end.
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

// In an outage Lead retries, with pauses that grow. The outage is logged once.
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
				assert.Contains(t, log.String(), "Lead cannot reach a writable server; retrying")
			})
		})
	}
}

// An error that cannot be cured by waiting is returned.
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

// Close ends a Lead that waits, and its long wait is not logged. Close waits
// for a Lead that leads.
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

// An outage that hits a leader, or a Lead that waits, is two lines in the log,
// however long it lasts: the end of the session, and the cause.
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

// Close also ends a Lead that pauses in an outage.
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

// The cause of each outage is logged once: at the start, at the end of a term,
// and at the end of a wait.
func TestLeadTellsOfEachOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		locks := locktest.New(namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		const outage = "Lead cannot reach a writable server"
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

// If fn breaks its session in each term, Lead pauses between the terms. The
// error of fn is logged, even if only the release has found the loss.
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
				if len(terms) == last { // if ctx ended before fn is told of the loss, fn's error would count
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
			assert.Equal(t, last, strings.Count(log.String(), `leader's function returned after a loss; its result is ignored" name=x error=`+errOwn.Error()), "told: %v", told)
		})
	}
}

// If ctx ends while an attempt fails for good, the error matches both.
func TestLeadEndsWithItsContextWhileAnAttemptFailsForGood(t *testing.T) {
	inBubble(t, func(b *bubble) {
		ctx, cancel := context.WithCancel(b.Context())
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "GET_LOCK") {
				cancel()
				return &memserver.Reply{Number: 3057}
			}
			return nil
		})
		err := b.locker.Lead(ctx, "report", untilEnd)
		require.ErrorIs(b, err, context.Canceled)
		b.server.Script(nil)
	})
	inBubble(t, func(b *bubble) {
		var failed func()
		l, err := namedlock.Open(b.db, namedlock.WithHooks(namedlock.Hooks{Failed: func(context.Context, namedlock.Event) { failed() }}))
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(b.Context())
		failed = cancel
		b.db.SetMaxOpenConns(1)
		err = l.Lead(ctx, "report", untilEnd)
		require.ErrorIs(b, err, namedlock.ErrUnsupported)
		b.db.SetMaxOpenConns(0)
		require.NoError(b, l.Close())
	})
}

// A db that its owner has closed never gives a connection again. A Lead that
// needs one returns at once, as do other calls, even if its wait has begun.
func TestLeadReturnsIfTheDBIsClosed(t *testing.T) {
	lead := func(b *bubble, ctx context.Context, fn func()) error {
		return b.locker.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error {
			fn()
			return untilEnd(ctx, nil)
		})
	}
	lock := func(b *bubble, ctx context.Context, fn func()) error {
		return b.locker.WithLock(ctx, "report", time.Hour, func(context.Context) error {
			fn()
			return nil
		})
	}
	closed := func(b *bubble) {
		require.NoError(b, b.db.Close())
		b.server.Kill(1)
	}
	for what, c := range map[string]struct {
		call   func(b *bubble, ctx context.Context, fn func()) error
		during func(b *bubble) (fn func())
	}{
		"Lead, before":          {lead, func(b *bubble) func() { _ = b.db.Close(); return nil }},
		"Lead, during its term": {lead, func(b *bubble) func() { return func() { closed(b) } }},
		"Lead, during its wait": {lead, func(b *bubble) func() {
			b.server.Lock("report")
			time.AfterFunc(time.Minute, func() { closed(b) })
			return nil
		}},
		"WithLock, before": {lock, func(b *bubble) func() { _ = b.db.Close(); return nil }},
		"WithLock, during its wait": {lock, func(b *bubble) func() {
			b.server.Lock("report")
			time.AfterFunc(time.Minute, func() { closed(b) })
			return nil
		}},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
				defer cancel()
				begun := time.Now()
				err := c.call(b, ctx, c.during(b))
				require.ErrorIs(b, err, namedlock.ErrUnavailable)
				assert.ErrorContains(b, err, "the db given to Open is closed; make a new Locker: sql: database is closed")
				assert.Less(b, time.Since(begun), time.Minute+time.Second)
				var e *namedlock.Error
				require.ErrorAs(b, err, &e)
				assert.Equal(b, namedlock.OpAcquire, e.Op)
			})
		})
	}
}
