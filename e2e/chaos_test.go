package e2e

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// Several Lockers and foreign sessions contend for a few names, nested, with
// timeouts and cancels. At the same time a killer kills sessions and
// statements. No two sections that WithLock reported as held to the end
// overlap. Every error is a documented one, and at the end nothing is held.
func TestPromise17_HeldToTheEndMeansAlone(t *testing.T) {
	t.Parallel()
	const duration = 3 * time.Second
	type section struct {
		name       string
		begin, end time.Time
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		lockers := []*locker{
			setup{srv, byOpen}.locker(t),
			setup{srv, byOpen}.locker(t, namedlock.WithMaxSessions(2)),
			setup{srv, byNew}.locker(t),
		}
		killer, stranger := srv.foreign(t), srv.foreign(t)
		var names []string
		for range 4 {
			names = append(names, newName("chaos"))
		}
		var mu sync.Mutex
		var clean []section
		var others []error
		attempt := func(ctx context.Context, l *locker, name string, inner func(context.Context)) {
			var s section
			err := l.WithLock(ctx, name, rand.N(60*time.Millisecond), func(ctx context.Context) error {
				s = section{name, time.Now(), time.Time{}}
				time.Sleep(rand.N(2 * time.Millisecond)) // the work under the lock
				if inner != nil {
					inner(ctx)
				}
				s.end = time.Now()
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				clean = append(clean, s)
			case !s.end.IsZero() && !errors.Is(err, namedlock.ErrLost):
				others = append(others, err)
			default:
				if !slices.ContainsFunc([]error{
					namedlock.ErrTimeout, namedlock.ErrLost, namedlock.ErrReentrant, namedlock.ErrDeadlock,
					namedlock.ErrInterrupted, namedlock.ErrUnavailable, context.Canceled,
				}, func(sentinel error) bool { return errors.Is(err, sentinel) }) {
					others = append(others, err)
				}
			}
		}
		// Only the Locker of New has no other session. Its id is read before the work
		// starts, since open rows of a query on the connection of New block releases.
		var spared int64
		require.NoError(t, lockers[2].conn.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&spared))

		stop := time.Now().Add(duration)
		var running sync.WaitGroup
		for i := range 24 {
			running.Go(func() {
				for time.Now().Before(stop) {
					l := lockers[i%len(lockers)]
					ctx, cancel := context.WithCancel(background)
					timer := time.AfterFunc(rand.N(100*time.Millisecond), cancel)
					attempt(ctx, l, names[rand.N(len(names))], func(ctx context.Context) {
						if rand.N(3) == 0 {
							attempt(ctx, l, names[rand.N(len(names))], nil)
						}
					})
					timer.Stop()
					cancel()
				}
			})
		}
		running.Go(func() {
			for time.Now().Before(stop) {
				name := names[rand.N(len(names))]
				if n, err := stranger.ask("SELECT GET_LOCK(?, 1)", name); err == nil && n == 1 {
					s := section{name, time.Now(), time.Time{}}
					time.Sleep(rand.N(2 * time.Millisecond)) // the work under the lock
					s.end = time.Now()
					_, _ = stranger.ask(locksql.SelectReleaseLock, name)
					mu.Lock()
					clean = append(clean, s)
					mu.Unlock()
				}
			}
		})
		ours := func() (sessions []int64) {
			for _, c := range srv.claims(t) {
				if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, c.name) }) && c.session != stranger.id {
					sessions = append(sessions, c.session)
				}
			}
			return sessions
		}
		for time.Now().Before(stop) {
			for _, session := range ours() {
				switch rand.N(12) {
				case 0:
					if session != spared {
						killer.kill(session)
					}
				case 1:
					killer.killQuery(session)
				}
			}
			time.Sleep(5 * time.Millisecond) // the pace of the kills
		}
		require.NoError(t, receive(t, inBackground(func() error { running.Wait(); return nil }), "all callers end"))
		require.Empty(t, others)

		slices.SortFunc(clean, func(a, b section) int { return cmp.Or(cmp.Compare(a.name, b.name), a.begin.Compare(b.begin)) })
		for i := 1; i < len(clean); i++ {
			a, b := clean[i-1], clean[i]
			if a.name == b.name && b.begin.Before(a.end) {
				assert.Fail(t, "two at once", "%q: %v to %v, and %v to %v", a.name, a.begin, a.end, b.begin, b.end)
			}
		}
		assert.Greater(t, len(clean), 20)
		for _, l := range lockers {
			require.NoError(t, receive(t, inBackground(l.Close), "Close"))
		}
		eventually(t, func() bool { return len(ours()) == 0 }, "no session has a lock or waits for one")
		for _, name := range names {
			killer.lock(name)
		}
		t.Logf("%d sections", len(clean))
	})
}
