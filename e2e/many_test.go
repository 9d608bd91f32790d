package e2e

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Callers on several Lockers, with lists that overlap in any order and letter case, all get all their
// locks, one set at a time.
func TestManyLocks_OverlappingSetsNeverDeadlock(t *testing.T) {
	t.Parallel()
	const workers, rounds = 12, 8
	everyWay(t, func(t *testing.T, at setup) {
		lockers := []*locker{at.locker(t), at.locker(t), at.locker(t)}
		base := newName("many")
		letters := []string{"a", "B", "c", "É", "e"}
		var inside [5]atomic.Int32
		var running sync.WaitGroup
		errs := make([]error, workers)
		for i := range workers {
			running.Go(func() {
				for range rounds {
					var list []string
					picked := rand.Perm(len(letters))[:3]
					for _, p := range picked {
						list = append(list, base+letters[p])
					}
					if at.Kind() == "mysql" && i%2 == 0 { // it takes them for the same locks
						list[0] = strings.ToLower(list[0])
					}
					errs[i] = errors.Join(errs[i], lockers[i%3].WithLocks(t.Context(), list, time.Minute, func(ctx context.Context) error {
						for _, p := range picked {
							if inside[p].Add(1) != 1 {
								t.Errorf("two at once under %q", letters[p])
							}
						}
						for _, p := range picked {
							inside[p].Add(-1)
						}
						return ctx.Err()
					}))
				}
			})
		}
		require.NoError(t, receive(t, inBackground(func() error { running.Wait(); return errors.Join(errs...) }), "all have had their locks"))
	})
}

// What was acquired is given back when one of the names cannot be acquired in time, which is one for all.
func TestManyLocks_AllOrNothing(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, g, base := at.locker(t), at.foreign(t), at.foreign(t), newName("all")
		a, b, c := base+"a", base+"b", base+"c"
		prompt(t, time.Second+100*time.Millisecond, "one deadline for all", func() time.Duration {
			f.lock(a)
			g.lock(b)
			freed := make(chan error, 1)
			time.AfterFunc(600*time.Millisecond, func() {
				_, err := f.ask("SELECT RELEASE_LOCK(?)", a)
				freed <- err
			})
			start := time.Now()
			err := l.WithLocks(t.Context(), []string{c, b, a}, time.Second, unexpected(t))
			took := time.Since(start)
			requireError(t, err, namedlock.ErrTimeout, b)
			assert.GreaterOrEqual(t, took, time.Second)
			require.NoError(t, receive(t, freed, "a comes free"))
			f.free(a, c)
			g.unlock(b)
			return took
		})
		require.NoError(t, l.WithLocks(t.Context(), []string{c, b, a}, 0, func(context.Context) error {
			for _, name := range []string{a, b, c} {
				assert.False(t, f.get(name, 0), name)
			}
			return nil
		}))
		f.free(a, b, c)
	})
}

// A KILL of the session ends fn's context, and the error says so for a lock of the list.
func TestManyLocks_LosingOneIsLosingAll(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, base := at.locker(t), at.foreign(t), newName("lost")
		list := []string{base + "b", base + "a"}
		err := l.WithLocks(t.Context(), list, 0, func(ctx context.Context) error {
			f.kill(f.holder(list[0]))
			select {
			case <-ctx.Done():
			case <-time.After(patience):
			}
			var e *namedlock.Error
			if cause := context.Cause(ctx); assert.ErrorIs(t, cause, namedlock.ErrLost) && assert.ErrorAs(t, cause, &e) {
				assert.Equal(t, "hold", e.Op)
				assert.Contains(t, list, e.Name)
			}
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		for _, name := range list { // a server closes the socket before it frees the locks
			f.lockSoon(name)
			f.unlock(name)
		}
	})
}
