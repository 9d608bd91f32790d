package locktest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

func nothing(context.Context) error { return nil }

func unexpected(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("fn has run")
		return nil
	}
}

// start returns a Locker that ends with the test.
func start(t *testing.T, opts ...namedlock.Option) *locktest.Locker {
	l := locktest.New(opts...)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

func peer(t *testing.T, l *locktest.Locker, opts ...namedlock.Option) *locktest.Locker {
	p := l.Peer(opts...)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

var _ namedlock.Interface = (*locktest.Locker)(nil)

func TestNew_BadOption(t *testing.T) {
	assert.PanicsWithValue(t, "locktest: namedlock: WithProbe(-1s): must not be negative; 0 turns the probe off",
		func() { locktest.New(namedlock.WithProbe(-time.Second)) })
}

// Names are written as the code under test writes them.
func TestNew_Namespace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t, namedlock.WithNamespace("billing:"))
		same, others := peer(t, l), peer(t, l, namedlock.WithNamespace("audit:"))

		release := l.HoldElsewhere("a")
		assert.ErrorIs(t, l.WithLock(t.Context(), "a", 0, unexpected(t)), namedlock.ErrTimeout)
		assert.ErrorIs(t, same.WithLock(t.Context(), "a", 0, unexpected(t)), namedlock.ErrTimeout)
		assert.NoError(t, others.WithLock(t.Context(), "a", 0, nothing))
		release()
		err := l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			assert.Equal(t, []string{"a"}, l.HeldNames())
			locktest.AssertHeld(t, ctx, l, "a")
			l.Lose("a")
			return nil
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
	})
}

func TestHoldElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		p := peer(t, l)
		release := l.HoldElsewhere("a")
		for _, locks := range []*locktest.Locker{l, p} {
			begun := time.Now()
			assert.ErrorIs(t, locks.WithLock(t.Context(), "A", 5*time.Second, unexpected(t)), namedlock.ErrTimeout)
			assert.Equal(t, 5*time.Second, time.Since(begun))
			assert.Empty(t, locks.HeldNames())
		}
		time.AfterFunc(time.Hour, release)
		begun := time.Now()
		require.NoError(t, l.WithLock(t.Context(), "a", namedlock.Forever, func(context.Context) error {
			assert.Equal(t, time.Hour, time.Since(begun))
			release() // again
			assert.ErrorIs(t, p.WithLock(t.Context(), "a", 0, unexpected(t)), namedlock.ErrTimeout)
			return nil
		}))
	})
}

func TestHoldElsewhere_Misuse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		assert.PanicsWithValue(t, `locktest: HoldElsewhere(""): invalid lock name: empty; a name has 1 to 64 characters`,
			func() { l.HoldElsewhere("") })
		release := l.HoldElsewhere("a")
		assert.PanicsWithValue(t, `locktest: HoldElsewhere("a"): the lock is already held, and was not released within 1s`, func() { l.HoldElsewhere("a") })
		time.AfterFunc(500*time.Millisecond, release)
		l.HoldElsewhere("a") // now that they let go of it
	})
}

func TestLose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		p := peer(t, l)
		other, err := l.Acquire(t.Context(), "other", 0)
		require.NoError(t, err)
		err = l.WithLock(t.Context(), "outer", 0, func(ctx context.Context) error {
			inner, err := l.Acquire(ctx, "inner", 0)
			require.NoError(t, err)
			assert.Equal(t, []string{"other", "outer", "inner"}, l.HeldNames())

			l.Lose("outer")
			begun := time.Now()
			require.NoError(t, p.WithLock(t.Context(), "outer", 0, nothing))
			assert.NoError(t, ctx.Err(), "it has not been noticed")
			<-ctx.Done()
			assert.LessOrEqual(t, time.Since(begun), 25*time.Millisecond)
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			<-inner.Context().Done()
			assert.ErrorIs(t, inner.Release(), namedlock.ErrLost)
			assert.Equal(t, []string{"other"}, l.HeldNames())
			return nil
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
		assert.NoError(t, other.Release())
	})
}

// The release notices what the watch had no time to.
func TestLose_JustBeforeTheRelease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		err := l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			l.Lose("A")
			return nil
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
		assert.NoError(t, l.WithLock(t.Context(), "a", 0, nothing))
	})
}

// Without the probe, the keep-alive notices.
func TestLose_WithoutProbe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t, namedlock.WithProbe(0))
		_ = l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			l.Lose("a")
			begun := time.Now()
			<-ctx.Done()
			assert.Greater(t, time.Since(begun), time.Second)
			assert.LessOrEqual(t, time.Since(begun), 10*time.Second)
			return nil
		})
	})
}

// A lock is lost under code that waits for another.
func TestLose_UnderANestedWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		release := l.HoldElsewhere("inner")
		defer release()
		err := l.WithLock(t.Context(), "outer", 0, func(ctx context.Context) error {
			time.AfterFunc(time.Second, func() { l.Lose("outer") })
			return l.WithLock(ctx, "inner", namedlock.Forever, unexpected(t))
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "inner", e.Name)
	})
}

func TestLose_Misuse(t *testing.T) {
	l := start(t)
	p := peer(t, l)
	lock, err := p.Acquire(t.Context(), "a", 0)
	require.NoError(t, err)
	assert.PanicsWithValue(t, `locktest: Lose("a"): this Locker does not hold the lock; held locks: []`, func() { l.Lose("a") })
	assert.NoError(t, lock.Release())
}

func TestFailNextAcquire(t *testing.T) {
	l := start(t)
	p := peer(t, l)
	own := errors.New("connection refused")
	for _, c := range []struct{ given, also, not error }{
		{given: own, also: namedlock.ErrUnavailable},
		{given: &mysql.MySQLError{Number: 1040}, also: namedlock.ErrUnavailable},
		{given: namedlock.ErrTimeout, not: namedlock.ErrUnavailable},
		{given: fmt.Errorf("so: %w", namedlock.ErrDeadlock), also: namedlock.ErrDeadlock, not: namedlock.ErrUnavailable},
		{given: context.Canceled, not: namedlock.ErrUnavailable},
	} {
		for _, call := range []func() error{
			func() error { return l.WithLock(t.Context(), "a", time.Hour, unexpected(t)) },
			func() error { _, err := l.Acquire(t.Context(), "a", time.Hour); return err },
		} {
			l.FailNextAcquire(c.given)
			require.NoError(t, p.WithLock(t.Context(), "a", 0, nothing), "only l is to fail")
			err := call()
			assert.ErrorIs(t, err, c.given)
			if c.also != nil {
				assert.ErrorIs(t, err, c.also)
			}
			if c.not != nil {
				assert.NotErrorIs(t, err, c.not)
			}
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "acquire", e.Op)
			assert.Equal(t, "a", e.Name)
		}
	}
	for _, c := range []struct {
		names []string
		name  string
	}{{[]string{"c", "B", "b", "d"}, "B"}, {nil, ""}} {
		l.FailNextAcquire(own)
		err := l.WithLocks(t.Context(), c.names, time.Hour, unexpected(t))
		assert.ErrorIs(t, err, own)
		assert.ErrorIs(t, err, namedlock.ErrUnavailable)
		var e *namedlock.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, c.name, e.Name)
	}
	l.FailNextAcquire(own)
	l.FailNextAcquire(namedlock.ErrTimeout)
	assert.ErrorIs(t, l.WithLock(t.Context(), "a", 0, unexpected(t)), own)
	assert.ErrorIs(t, l.WithLock(t.Context(), "a", 0, unexpected(t)), namedlock.ErrTimeout)
	assert.NoError(t, l.WithLock(t.Context(), "a", 0, nothing))
	assert.PanicsWithValue(t, "locktest: FailNextAcquire(nil): the error must not be nil", func() { l.FailNextAcquire(nil) })
}

func TestFailNextRelease(t *testing.T) {
	l := start(t)
	p := peer(t, l)
	given, own := errors.New("connection reset"), errors.New("fn's own")
	l.FailNextRelease(given)
	// The RELEASE_LOCK that follows upon an error is none of a lock that is held.
	release := l.HoldElsewhere("b")
	require.ErrorIs(t, l.WithLock(t.Context(), "b", time.Millisecond, unexpected(t)), namedlock.ErrTimeout)
	release()
	require.NoError(t, p.WithLock(t.Context(), "a", 0, nothing), "only l is to fail")
	err := l.WithLock(t.Context(), "a", 0, func(context.Context) error { return own })
	for _, want := range []error{given, own, namedlock.ErrLost} {
		assert.ErrorIs(t, err, want)
	}
	require.NoError(t, p.WithLock(t.Context(), "a", 0, nothing), "it is not held any more")

	l.FailNextRelease(given)
	lock, err := l.Acquire(t.Context(), "a", 0)
	require.NoError(t, err)
	for range 2 {
		err := lock.Release()
		assert.ErrorIs(t, err, given)
		assert.ErrorIs(t, err, namedlock.ErrLost)
	}
	assert.NoError(t, l.WithLock(t.Context(), "a", 0, nothing))
	assert.PanicsWithValue(t, "locktest: FailNextRelease(nil): the error must not be nil", func() { l.FailNextRelease(nil) })
}

func TestCalls(t *testing.T) {
	l := start(t)
	assert.Empty(t, l.Calls())
	err := l.WithLock(t.Context(), "a", time.Second, func(ctx context.Context) error {
		assert.Equal(t, []locktest.Call{{Method: "WithLock", Name: "a", Timeout: time.Second, Acquired: true}}, l.Calls())
		return l.WithLock(ctx, "A", namedlock.Forever, unexpected(t))
	})
	require.ErrorIs(t, err, namedlock.ErrReentrant)
	assert.Panics(t, func() {
		_ = l.WithLock(t.Context(), "p", 0, func(context.Context) error { panic("!") })
	})
	lock, err2 := l.Acquire(t.Context(), "b", 0)
	require.NoError(t, err2)
	require.NoError(t, lock.Release())
	_, bad := l.Acquire(t.Context(), "", 0)
	badFn := l.WithLock(t.Context(), "nil", 0, nil)
	want := []locktest.Call{
		{Method: "WithLock", Name: "a", Timeout: time.Second, Acquired: true, Returned: true, Err: err},
		{Method: "WithLock", Name: "A", Timeout: namedlock.Forever, Returned: true, Err: err},
		{Method: "WithLock", Name: "p", Acquired: true, Returned: true},
		{Method: "Acquire", Name: "b", Acquired: true, Returned: true},
		{Method: "Acquire", Returned: true, Err: bad},
		{Method: "WithLock", Name: "nil", Returned: true, Err: badFn},
	}
	assert.Equal(t, want, l.Calls())
	l.Calls()[0].Name = "changed"
	assert.Equal(t, want, l.Calls())
}

func TestWithLocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t, namedlock.WithNamespace("app/"))
		p := peer(t, l)
		names := []string{"c", "A", "b", "a"}
		ended := errors.New("fn's own")
		err := l.WithLocks(t.Context(), names, time.Second, func(ctx context.Context) error {
			assert.Equal(t, []string{"A", "b", "c"}, l.HeldNames())
			assert.Empty(t, p.HeldNames())
			for _, name := range names {
				locktest.AssertHeld(t, ctx, l, name)
				assert.ErrorIs(t, p.WithLock(ctx, name, 0, unexpected(t)), namedlock.ErrTimeout)
			}
			c := complaints{TB: t}
			locktest.AssertHeld(&c, t.Context(), l, "b")
			assert.Len(t, c.errors, 1)
			assert.Equal(t, []locktest.Call{{Method: "WithLocks", Names: names, Timeout: time.Second, Acquired: true}}, l.Calls())
			return ended
		})
		assert.Same(t, ended, err)
		assert.Empty(t, l.HeldNames())

		defer p.HoldElsewhere("b")()
		busy := l.WithLocks(t.Context(), names, time.Second, unexpected(t))
		assert.ErrorIs(t, busy, namedlock.ErrTimeout)
		assert.Empty(t, l.HeldNames())
		bad := l.WithLocks(t.Context(), nil, 0, unexpected(t))
		badFn := l.WithLocks(t.Context(), names, 0, nil)
		assert.Panics(t, func() {
			_ = l.WithLocks(t.Context(), names[:2], 0, func(context.Context) error { panic("!") })
		})
		want := []locktest.Call{
			{Method: "WithLocks", Names: names, Timeout: time.Second, Acquired: true, Returned: true, Err: ended},
			{Method: "WithLocks", Names: names, Timeout: time.Second, Returned: true, Err: busy},
			{Method: "WithLocks", Returned: true, Err: bad},
			{Method: "WithLocks", Names: names, Returned: true, Err: badFn},
			{Method: "WithLocks", Names: names[:2], Acquired: true, Returned: true},
		}
		assert.Equal(t, want, l.Calls())
		l.Calls()[0].Names[0] = "changed"
		assert.Equal(t, want, l.Calls())
	})
}

func TestWithLocks_Lose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		err := l.WithLocks(t.Context(), []string{"a", "b", "c"}, 0, func(ctx context.Context) error {
			l.Lose("b")
			assert.Empty(t, l.HeldNames())
			<-ctx.Done()
			assert.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
			return nil
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
	})
}

// heldBy returns what Holders says: the locks' names, and whose they are.
func heldBy(t *testing.T, l *locktest.Locker, prefix string) map[string]string {
	t.Helper()
	holders, err := l.Holders(t.Context(), prefix)
	require.NoError(t, err)
	by := map[string]string{}
	for _, h := range holders {
		by[h.Name] = h.Program
	}
	return by
}

// Holder and Holders report the locks of l, of its peers, and of other holders.
func TestHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t, namedlock.WithNamespace("App/"))
		p, q := peer(t, l), peer(t, peer(t, l))
		all, others := peer(t, l, namedlock.WithNamespace("")), peer(t, l, namedlock.WithNamespace("audit:"))
		_, held, err := l.Holder(t.Context(), "a")
		require.NoError(t, err)
		require.False(t, held)
		require.Empty(t, heldBy(t, all, ""))

		release := l.HoldElsewhere("É")
		defer release()
		for of, program := range map[*locktest.Locker]string{l: "New", p: "Peer 1", q: "Peer 3"} {
			require.NoError(t, of.WithLock(t.Context(), "a", 0, func(context.Context) error {
				time.Sleep(3 * time.Second)
				for _, asking := range []*locktest.Locker{l, p} {
					h, held, err := asking.Holder(t.Context(), "A")
					require.NoError(t, err)
					require.True(t, held)
					require.NotZero(t, h.ConnectionID)
					assert.Equal(t, namedlock.Holder{
						Name: "A", ConnectionID: h.ConnectionID, User: "locktest", Host: "localhost", Program: program,
						Command: "Sleep", CommandTime: 3 * time.Second,
					}, h)
				}
				assert.Equal(t, map[string]string{"a": program, "é": "HoldElsewhere"}, heldBy(t, l, ""))
				assert.Equal(t, map[string]string{"a": program}, heldBy(t, p, "A"))
				assert.Equal(t, map[string]string{"app/a": program, "app/é": "HoldElsewhere"}, heldBy(t, all, ""))
				assert.Empty(t, heldBy(t, others, ""))
				return nil
			}))
		}
	})
}

// No character of a prefix is a pattern.
func TestHeld_Prefixes(t *testing.T) {
	l := start(t)
	for _, name := range []string{"a%b", "a_b", `a\b`, `a\%b`, "axb"} {
		defer l.HoldElsewhere(name)()
	}
	for prefix, want := range map[string][]string{
		"a":     {"a%b", `a\%b`, `a\b`, "a_b", "axb"},
		"a%":    {"a%b"},
		"a_":    {"a_b"},
		`a\`:    {`a\%b`, `a\b`},
		`a\%`:   {`a\%b`},
		"%":     nil,
		"axb":   {"axb"},
		"axbxb": nil,
	} {
		holders, err := l.Holders(t.Context(), prefix)
		require.NoError(t, err)
		var names []string
		for _, h := range holders {
			names = append(names, h.Name)
		}
		assert.Equal(t, want, names, "%q", prefix)
	}
}

// A timeout tells who was in the way.
func TestErrorHolder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		p := peer(t, l)
		late := func(name string) *namedlock.Error {
			t.Helper()
			err := l.WithLock(t.Context(), name, 5*time.Second, unexpected(t))
			require.ErrorIs(t, err, namedlock.ErrTimeout)
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			require.NotNil(t, e.Holder, "%v", err)
			return e
		}
		release := l.HoldElsewhere("a")
		defer release()
		assert.Equal(t, "HoldElsewhere", late("a").Holder.Program)
		assert.ErrorContains(t, late("a"), "not acquired within 5s: held by connection 1, locktest@localhost (HoldElsewhere), last statement 9s ago")
		require.NoError(t, p.WithLock(t.Context(), "b", 0, func(context.Context) error {
			assert.Equal(t, "Peer 1", late("b").Holder.Program)
			return nil
		}))
		require.NoError(t, l.WithLock(t.Context(), "c", 0, func(context.Context) error {
			assert.True(t, late("c").Holder.Local)
			return nil
		}))
	})
}

// complaints is a testing.TB that counts.
type complaints struct {
	testing.TB
	errors []string
}

func (c *complaints) Helper() {}

func (c *complaints) Errorf(format string, args ...any) {
	c.errors = append(c.errors, fmt.Sprintf(format, args...))
}

func TestAssertHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := start(t)
		type key struct{}
		passes := func(ctx context.Context, name string) {
			t.Helper()
			locktest.AssertHeld(t, ctx, l, name)
		}
		fails := func(ctx context.Context, name, want string) {
			t.Helper()
			c := complaints{TB: t}
			locktest.AssertHeld(&c, ctx, l, name)
			assert.Equal(t, []string{want}, c.errors)
		}
		fails(t.Context(), "a", `locktest: lock "a" is not held; held locks: []`)
		err := l.WithLock(t.Context(), "a", 0, func(ctx context.Context) error {
			passes(ctx, "a")
			passes(ctx, "A")
			passes(context.WithValue(ctx, key{}, 1), "a")
			canceled, cancel := context.WithCancel(ctx)
			cancel()
			passes(canceled, "a")
			fails(t.Context(), "a", `locktest: lock "a" is held, but not under this ctx; pass on the ctx that fn received`)
			fails(ctx, "b", `locktest: lock "b" is not held; held locks: ["a"]`)

			lock, err := l.Acquire(ctx, "b", 0)
			require.NoError(t, err)
			passes(lock.Context(), "a")
			passes(lock.Context(), "b")
			fails(ctx, "b", `locktest: lock "b" is held, but not under this ctx; pass on the ctx that fn received`)
			require.NoError(t, lock.Release())

			closed := make(chan error)
			go func() { closed <- l.Close() }()
			synctest.Wait()
			passes(ctx, "a") // while l is being closed
			t.Cleanup(func() { assert.NoError(t, <-closed) })

			l.Lose("a")
			fails(ctx, "a", `locktest: lock "a" is not held; held locks: []`)
			return nil
		})
		assert.ErrorIs(t, err, namedlock.ErrLost)
		assert.Len(t, l.Calls(), 2, "to assert is not to call")
	})
}

// Everything at once: who was told that the lock was held to the end had it
// alone.
func TestManyAtOnce(t *testing.T) {
	t.Run("in real time", manyAtOnce)
	t.Run("in a bubble", func(t *testing.T) { bubble(t, manyAtOnce) })
}

func manyAtOnce(t *testing.T) {
	l := start(t)
	processes := []*locktest.Locker{l, peer(t, l), peer(t, l)}
	names := []string{"a", "b", "c"}
	inside := make([]atomic.Int32, len(names))
	var sections, lost atomic.Int32
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			p, n := processes[i%len(processes)], i/len(processes)%len(names)
			for range 20 {
				alone := false
				err := p.WithLock(t.Context(), names[n], namedlock.Forever, func(ctx context.Context) error {
					switch rand.N(10) {
					case 0:
						p.Lose(names[n])
						<-ctx.Done()
						return nil
					case 1:
						p.FailNextRelease(errors.New("connection reset"))
					}
					alone = inside[n].Add(1) == 1
					locktest.AssertHeld(t, ctx, p, names[n])
					inside[n].Add(-1)
					return nil
				})
				switch {
				case err == nil && !alone:
					t.Error("two at once")
				case err == nil:
					sections.Add(1)
				case errors.Is(err, namedlock.ErrLost):
					lost.Add(1)
				default:
					t.Error(err)
				}
				_ = p.Calls()
				_ = p.HeldNames()
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 600, sections.Load()+lost.Load())
	assert.NotZero(t, sections.Load())
	assert.NotZero(t, lost.Load())
	assert.Empty(t, l.HeldNames())
}

// A lock that the test forgot is named.
func TestClose_Forgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		lock, err := locks.Acquire(t.Context(), "forgotten", 0)
		require.NoError(t, err)
		assert.PanicsWithValue(t, `locktest: Close waited for 1h0m0s, and locks are still held: ["forgotten"]; release them before Close`, func() { _ = locks.Close() })
		require.NoError(t, lock.Release())
		require.NoError(t, locks.Close())
	})
}

// A lock that was lost is another's, though its code has not ended.
func TestHolder_LocalNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		peer := locks.Peer()
		defer peer.Close()
		lock, err := locks.Acquire(t.Context(), "mine", 0)
		require.NoError(t, err)
		locks.Lose("mine")
		<-lock.Context().Done()
		theirs, err := peer.Acquire(t.Context(), "mine", time.Second)
		require.NoError(t, err)
		h, held, err := locks.Holder(t.Context(), "mine")
		require.NoError(t, err)
		require.True(t, held)
		assert.False(t, h.Local)
		assert.Equal(t, "Peer 1", h.Program)
		require.NoError(t, theirs.Release())
		require.Error(t, lock.Release())
	})
}

// Holder tells a lock of the Locker's own from others'.
func TestHolder_Local(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithNamespace("n:"))
		defer locks.Close()
		peer := locks.Peer()
		defer peer.Close()
		lock, err := locks.Acquire(t.Context(), "mine", 0)
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		h, held, err := locks.Holder(t.Context(), "mine")
		require.NoError(t, err)
		require.True(t, held)
		assert.True(t, h.Local)
		assert.Equal(t, 3*time.Second, h.HeldFor)
		assert.NotZero(t, h.ConnectionID)
		assert.Equal(t, "mine", h.Name)
		h, held, err = peer.Holder(t.Context(), "mine")
		require.NoError(t, err)
		require.True(t, held)
		assert.False(t, h.Local)
		assert.Zero(t, h.HeldFor)
		require.NoError(t, lock.Release())
	})
}

// What a text says of a name is without the namespace.
func TestErrHeld_Namespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New(namedlock.WithNamespace("n:"))
		defer locks.Close()
		err := locks.WithLock(t.Context(), "Mine", 0, func(ctx context.Context) error {
			err := locks.WithLock(ctx, "Mine", 0, nothing)
			assert.EqualError(t, err, `namedlock: acquire "Mine": this call chain already holds the lock; do not acquire it again under fn's ctx`)
			return locks.WithLock(ctx, "mine", 0, nothing)
		})
		assert.EqualError(t, err, `namedlock: acquire "mine": this call chain already holds the lock, as "Mine"; do not acquire it again under fn's ctx`)
	})
}
