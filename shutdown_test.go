package namedlock_test

import (
	"bytes"
	"context"
	"errors"
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

// Shutdown ends with its ctx. The code under the locks is told, and other
// callers can acquire them.
func TestShutdownIsBounded(t *testing.T) {
	for what, hold := range map[string]func(l *locktest.Locker) (held context.Context, end func() error){
		"code that goes on": func(l *locktest.Locker) (context.Context, func() error) {
			told, mayEnd, done := make(chan context.Context), make(chan struct{}), make(chan error, 1)
			go func() {
				done <- l.WithLock(ctx, "report", 0, func(ctx context.Context) error {
					told <- ctx
					<-mayEnd
					return nil
				})
			}()
			return <-told, func() error { close(mayEnd); return <-done }
		},
		"a release that was forgotten": func(l *locktest.Locker) (context.Context, func() error) {
			lock, err := l.Acquire(ctx, "report", 0)
			if err != nil {
				panic(err)
			}
			return lock.Context(), lock.Release
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(bytes.Buffer)
				l := locktest.New(namedlock.WithNamespace("n:"), namedlock.WithLogger(textLogger(log)))
				peer := l.Peer()
				held, end := hold(l)
				release := l.HoldElsewhere("another")
				waiting := make(chan error, 1)
				go func() { waiting <- l.WithLock(ctx, "another", time.Hour, nothing) }()
				synctest.Wait()

				began := time.Now()
				short, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				err := l.Shutdown(short)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				assert.EqualError(t, err, `namedlock: shutdown: shut down with locks still held: ["report"]: stopped waiting: context deadline exceeded`)
				assert.Equal(t, 10*time.Second, time.Since(began))
				assert.ErrorIs(t, <-waiting, namedlock.ErrClosed)
				assert.ErrorIs(t, l.WithLock(ctx, "late", 0, nothing), namedlock.ErrClosed)
				require.ErrorIs(t, context.Cause(held), namedlock.ErrLost)
				assert.ErrorContains(t, context.Cause(held), "the Locker was shut down")
				assert.NotErrorIs(t, context.Cause(held), context.DeadlineExceeded, "that is Shutdown's own")
				release()
				require.NoError(t, peer.WithLock(ctx, "report", time.Minute, nothing), "others can have it")

				assert.ErrorIs(t, l.Shutdown(short), context.DeadlineExceeded, "again")
				require.ErrorIs(t, end(), namedlock.ErrLost)
				require.NoError(t, l.Close())
				require.NoError(t, l.Shutdown(short), "all has ended")
				require.NoError(t, peer.Close())
				assert.Contains(t, log.String(), `msg="namedlock: Close or Shutdown is waiting for held locks" names=[report]`)
			})
		})
	}
}

// Called under a lock of the Locker, Shutdown does not wait indefinitely for
// that lock.
func TestShutdownInsideFn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := locktest.New()
		err := l.WithLock(ctx, "report", 0, func(fn context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return l.Shutdown(short)
		})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, namedlock.ErrLost)
		require.NoError(t, l.Close())
	})
}

func TestShutdownOfWhatIsIdle(t *testing.T) {
	locker, mock, _ := mocked(t)
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	require.NoError(t, locker.WithLock(ctx, "report", 0, nothing))
	assert.Error(t, locker.Shutdown(none))
	require.NoError(t, locker.Shutdown(ctx))
	require.NoError(t, locker.Shutdown(ctx))
	require.NoError(t, locker.Close())
	require.NoError(t, new(namedlock.Locker).Shutdown(ctx))
}

// A leader is deposed by Shutdown, and Lead ends.
func TestShutdownOfALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := locktest.New()
		led := make(chan error, 1)
		go func() { led <- l.Lead(ctx, "report", untilEnd) }()
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		assert.ErrorContains(t, l.Shutdown(short), `["report"]`)
		assert.ErrorIs(t, <-led, namedlock.ErrClosed)
		require.NoError(t, l.Close())
	})
}

func TestCheckAsksTheServer(t *testing.T) {
	locker, mock, _ := mocked(t)
	mock.ExpectQuery(greeting + ", RELEASE_ALL_LOCKS()" + results).WillReturnRows(answer("8.4.0", "MySQL", "utf8mb4", "utf8mb4", 28800, 0, "utf8mb4"))
	require.NoError(t, locker.Check(ctx))
	expectLock(mock, "report")
	expectUnlock(mock, "report")
	require.NoError(t, locker.WithLock(ctx, "report", 0, func(context.Context) error {
		return locker.Check(ctx)
	}), "it drops no lock")

	assert.Error(t, locker.Check(none))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.ErrorIs(t, locker.Check(ended), context.Canceled)
	require.NoError(t, locker.Close())
	assert.ErrorIs(t, locker.Check(ctx), namedlock.ErrClosed)
	assert.ErrorContains(t, new(namedlock.Locker).Check(ctx), "namedlock: check: the Locker was not made")
}

// If a proxy drops the lease, Check logs it at once.
func TestCheckReadsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, swallowed := range []bool{false, true} {
			server, log := memserver.New(), new(bytes.Buffer)
			if swallowed {
				server.Script(func(st memserver.Statement) *memserver.Reply {
					if strings.HasPrefix(st.Text, "SET SESSION wait_timeout") {
						return &memserver.Reply{}
					}
					return nil
				})
			}
			db := server.Open()
			l, err := namedlock.Open(db, namedlock.WithLogger(textLogger(log)))
			require.NoError(t, err)
			require.NoError(t, l.Check(ctx))
			require.NoError(t, l.Check(ctx))
			require.NoError(t, l.Close())
			require.NoError(t, server.Close(db))
			assert.Equal(t, swallowed, strings.Count(log.String(), "WithLease has no effect") == 1, log)
		}
	})
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		db := server.Open()
		defer db.Close()
		l, err := namedlock.Open(db)
		require.NoError(t, err)
		require.NoError(t, l.Check(ctx))
		server.SetReadOnly(true)
		err = l.Check(ctx)
		require.ErrorIs(t, err, namedlock.ErrUnsupported)
		assert.ErrorContains(t, err, "namedlock: check: the server is read-only")
		server.SetReadOnly(false)
		server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
		began := time.Now()
		require.ErrorIs(t, l.Check(ctx), namedlock.ErrUnavailable)
		assert.LessOrEqual(t, time.Since(began), 6*time.Second)
		server.Script(nil)
		db.SetMaxOpenConns(1)
		require.ErrorIs(t, l.Check(ctx), namedlock.ErrUnsupported)
		db.SetMaxOpenConns(2)
		require.NoError(t, l.Check(ctx))
		require.NoError(t, l.Close())
	})
}

// A Shutdown whose ctx has ended gives up every lock, and no caller is granted
// one after that. Callers come at every moment.
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
