package e2e

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mixedCase are names that at least one server takes for one lock.
var mixedCase = []struct {
	about    string
	variants []string
}{
	{"ASCII", []string{"foo", "FOO", "Foo", "fOO"}},
	{"é", []string{"é", "É"}},
	{"sigma", []string{"σ", "Σ"}},
	{"dotted i", []string{"İ", "i", "I"}},
	{"digraph", []string{"ǆ", "Ǆ", "ǅ"}},
	{"numeral", []string{"Ⅷ", "ⅷ"}},
}

// One process never holds a name twice through one Locker, however its letter case falls.
func TestPromise09_NeverTwiceAtOnce(t *testing.T) {
	t.Parallel()
	const callers = 100
	everyWay(t, func(t *testing.T, at setup) {
		for _, mixed := range mixedCase {
			t.Run(mixed.about, func(t *testing.T) {
				l, name := at.locker(t), newName("mixed")
				var inside, overlaps, sections atomic.Int32
				var errs [callers]error
				var all sync.WaitGroup
				for i := range callers {
					all.Go(func() {
						variant := name + mixed.variants[i%len(mixed.variants)]
						errs[i] = l.WithLock(t.Context(), variant, time.Minute, func(context.Context) error {
							if inside.Add(1) > 1 {
								overlaps.Add(1)
							}
							for range 3 {
								time.Sleep(10 * time.Microsecond)
							}
							inside.Add(-1)
							sections.Add(1)
							return nil
						})
					})
				}
				all.Wait()
				for _, err := range errs {
					require.NoError(t, err)
				}
				assert.Zero(t, overlaps.Load())
				assert.EqualValues(t, callers, sections.Load())
				f := at.foreign(t)
				for _, variant := range mixed.variants {
					f.free(name + variant)
				}
			})
		}
	})
}

// Callers of a process are served in the order in which they came.
func TestPromise09_FirstInFirstOut(t *testing.T) {
	t.Parallel()
	const callers = 30
	holders := map[string]func(t *testing.T, l *locker, f *foreign, name string) (free func()){
		"behind a caller": func(t *testing.T, l *locker, _ *foreign, name string) func() {
			c, _ := hold(t, t.Context(), l, name)
			return func() { c.release(t) }
		},
		"behind a foreign session": func(_ *testing.T, _ *locker, f *foreign, name string) func() {
			f.lock(name)
			return func() { f.unlock(name) }
		},
	}
	everyWay(t, func(t *testing.T, at setup) {
		for what, holder := range holders {
			t.Run(what, func(t *testing.T) {
				l, name := at.locker(t), newName("order")
				free := holder(t, l, at.foreign(t), name)
				var order []int
				var mu sync.Mutex
				var calls []*call
				for i := range callers {
					variant := name + mixedCase[0].variants[i%4]
					if at.Kind() == servers.MariaDB {
						variant = name // whose foo and FOO are two locks: the foreign session has one
					}
					c := begin(t, t.Context(), lockerFunc(func(ctx context.Context, name string, timeout time.Duration, fn func(context.Context) error) error {
						return l.WithLock(ctx, name, timeout, func(context.Context) error {
							mu.Lock()
							defer mu.Unlock()
							order = append(order, i)
							return nil
						})
					}), variant, namedlock.Forever)
					c.queued(t)
					calls = append(calls, c)
				}
				free()
				for _, c := range calls {
					require.NoError(t, c.err(t))
				}
				assert.True(t, slices.IsSorted(order), "served in the order %v", order)
			})
		}
	})
}

type lockerFunc func(ctx context.Context, name string, timeout time.Duration, fn func(context.Context) error) error

func (f lockerFunc) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(context.Context) error) error {
	return f(ctx, name, timeout, fn)
}

// A call chain that asks again for what it holds is told so at once, whatever the letter case.
func TestPromise10_HeldAgainIsErrHeld(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		base := newName("held") + "é"
		requireHeld := func(ctx context.Context) {
			t.Helper()
			for _, name := range []string{base, base[:len(base)-2] + "É", "E2E" + base[3:]} {
				for _, timeout := range []time.Duration{0, patience} {
					requireError(t, l.WithLock(ctx, name, timeout, unexpected(t)), namedlock.ErrReentrant, name)
					_, err := l.Acquire(ctx, name, timeout)
					requireError(t, err, namedlock.ErrReentrant, name)
				}
			}
		}
		_, outer := hold(t, t.Context(), l, base)
		requireHeld(outer)
		canceled, cancel := context.WithCancel(context.WithoutCancel(outer))
		defer cancel()
		requireHeld(canceled)

		// From other goroutines of the chain, and from under its other locks.
		var running sync.WaitGroup
		var errs [10]error
		for i := range errs {
			running.Go(func() { errs[i] = l.WithLock(outer, base, patience, unexpected(t)) })
		}
		running.Wait()
		for _, err := range errs {
			requireError(t, err, namedlock.ErrReentrant, base)
		}
		inner, innerCtx := hold(t, outer, l, newName("inner"))
		requireHeld(innerCtx)
		lock, err := l.Acquire(innerCtx, newName("acquired"), 0)
		require.NoError(t, err)
		requireHeld(lock.Context())
		require.NoError(t, lock.Release())
		inner.release(t)

		assert.NotZero(t, f.holder(base), "it stays held")
	})
}

func TestPromise10_HeldAgainInAnyCase(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.locker(t)
		for _, mixed := range mixedCase {
			name := newName("held")
			for _, held := range mixed.variants {
				c, ctx := hold(t, t.Context(), l, name+held)
				for _, again := range mixed.variants {
					requireError(t, l.WithLock(ctx, name+again, 0, unexpected(t)), namedlock.ErrReentrant, name+again)
				}
				c.release(t)
			}
		}
	})
}

func TestPromise10_HeldAgainFromAcquire(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.locker(t), at.foreign(t), newName("acquired")
		type key struct{}
		lock, err := l.Acquire(context.WithValue(t.Context(), key{}, "value"), name, 0)
		require.NoError(t, err)
		assert.Equal(t, name, lock.Name())
		assert.Equal(t, "value", lock.Context().Value(key{}))
		assert.NotZero(t, f.holder(name))
		requireError(t, l.WithLock(lock.Context(), name, patience, unexpected(t)), namedlock.ErrReentrant, name)

		// The caller's own context is not the lock's.
		requireError(t, l.WithLock(t.Context(), name, 10*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, name)
		require.NoError(t, lock.Release())
	})
}

// Other names nest, and are released from the inside out.
func TestPromise10_OtherNamesNest(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		var names []string
		for range 10 {
			names = append(names, newName("nest"))
		}
		var nest func(ctx context.Context, depth int) error
		nest = func(ctx context.Context, depth int) error {
			if depth == len(names) {
				return nil
			}
			err := l.WithLock(ctx, names[depth], 0, func(ctx context.Context) error {
				assert.NotZero(t, f.holder(names[depth]))
				return nest(ctx, depth+1)
			})
			f.free(names[depth])
			if depth > 0 {
				assert.NotZero(t, f.holder(names[depth-1]))
			}
			return err
		}
		require.NoError(t, nest(t.Context(), 0))
	})
}

// A context that outlives its lock is no chain any more.
func TestPromise10_ContextKeptAfterRelease(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.locker(t), newName("kept")
		c, ctx := hold(t, t.Context(), l, name)
		c.release(t)
		kept := context.WithoutCancel(ctx)
		require.NoError(t, l.WithLock(kept, name, 0, nothing))

		lock, err := l.Acquire(kept, name, 0)
		require.NoError(t, err)
		require.NoError(t, lock.Release())
		require.NoError(t, l.WithLock(context.WithoutCancel(lock.Context()), name, 0, nothing))

		// Others hold it now: that is a wait, and neither ErrReentrant nor a deadlock.
		hold(t, t.Context(), l, name)
		requireError(t, l.WithLock(kept, name, 50*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, name)
	})
}

// Nor does it take others' locks, on the session where its own was, for its own: its waits do not hold up
// their release.
func TestPromise10_ContextKeptHoldsUpNobody(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		f, taken := at.foreign(t), newName("taken")
		f.lock(taken)
		prompt(t, 200*time.Millisecond, "the release of another chain's lock", func() time.Duration {
			l := at.locker(t, namedlock.WithMaxSessions(2))
			before, ctx := hold(t, t.Context(), l, newName("before"))
			before.release(t)
			other, _ := hold(t, t.Context(), l, newName("other")) // on the same session
			kept, cancel := context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			waiter := begin(t, kept, l, taken, namedlock.Forever)
			waiter.queued(t)
			if at.way == byOpen {
				at.awaitWaiter(t, taken)
			}
			start := time.Now()
			other.release(t)
			took := time.Since(start)
			waiter.waits(t)
			cancel()
			require.ErrorIs(t, waiter.err(t), context.Canceled)
			return took
		})
	})
}

// What another Locker's chain holds is held by others.
func TestPromise10_OtherLockersChain(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		mine, other, name := at.locker(t), at.locker(t), newName("other")
		_, ctx := hold(t, t.Context(), mine, name)
		requireError(t, other.WithLock(ctx, name, 50*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, name)
		_, ctx = hold(t, ctx, other, newName("others own"))
		requireError(t, mine.WithLock(ctx, name, 0, unexpected(t)), namedlock.ErrReentrant, name)
	})
}

// The Locker never takes a held lock again on a new connection.
func TestPromise13_NeverReconnectsUnderALock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t), at.foreign(t), newName("once")
		requireUsable(t, l)
		l.spy.Reset()
		c, ctx := hold(t, t.Context(), l, name)
		f.kill(f.holder(name))
		f.lockSoon(name)
		_ = l.WithLock(ctx, newName("inner"), 0, nothing) // makes the loss known, perhaps
		c.finish(nil)
		requireError(t, c.err(t), namedlock.ErrLost, name)
		assert.Equal(t, f.id, f.holder(name))

		taken := 0
		for _, st := range l.spy.Statements() {
			if len(st.Args) > 0 && st.Args[0] == name && st.Text == "SELECT GET_LOCK(?, ?)" {
				taken++
			}
		}
		assert.Equal(t, 1, taken, "GET_LOCK ran again")
	})
}

// Names that differ in case share a line here, whether the server takes them for one lock or for two:
// nobody is handed another name's lock.
func TestPromise09_MixedCaseInOneLine(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		oneLock := at.Kind() == servers.MySQL
		l, f, watch, lower := at.locker(t), at.foreign(t), at.foreign(t), newName("mixed")
		upper := strings.ToUpper(lower)
		f.lock(lower)
		ctx, cancel := context.WithCancel(t.Context())
		first := begin(t, ctx, l, lower, namedlock.Forever)
		at.awaitWaiter(t, lower)
		second := begin(t, t.Context(), l, upper, namedlock.Forever)
		second.queued(t)
		third := begin(t, t.Context(), l, lower, namedlock.Forever)
		third.queued(t)
		cancel()
		requireError(t, first.err(t), context.Canceled, lower)
		if oneLock {
			f.unlock(lower)
		}
		second.holds(t)
		assert.NotContains(t, []int64{0, f.id}, watch.holder(upper))
		if !oneLock {
			assert.Equal(t, f.id, watch.holder(lower))
			f.unlock(lower)
		}
		third.waits(t)
		second.release(t)
		third.holds(t)
		assert.NotContains(t, []int64{0, f.id}, watch.holder(lower))
		third.release(t)
		f.lockSoon(lower) // the first's wait may have been left behind
		f.unlock(lower)
		f.free(upper)
	})
}

// Many locks at the same time share few sessions, and none is in another's way.
func TestPromise09_ManyNamesAtOnce(t *testing.T) {
	t.Parallel()
	const count = 300
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.spied(t, namedlock.WithMaxSessions(4)), at.foreign(t)
		l.db.SetMaxIdleConns(4)
		var names []string
		var calls []*call
		for range count {
			name := newName("many")
			names, calls = append(names, name), append(calls, begin(t, t.Context(), l, name, 0))
		}
		for i, c := range calls {
			c.holds(t)
			assert.NotZero(t, f.holder(names[i]))
		}
		for _, c := range calls {
			c.finish(nil)
		}
		for _, c := range calls {
			require.NoError(t, c.err(t))
		}
		f.free(names...)
		assert.LessOrEqual(t, l.spy.Most(), 4)
		assert.Zero(t, l.spy.Closed())
	})
}
