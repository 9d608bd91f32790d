package queue

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Tests of branches that need a rare moment.

// A lock may be lost before its code has a context. A question on its session
// may come after that.
func TestGrant_LostBeforeItsContext(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.call(context.Background(), "a", 0).granted(b)
		b.server.Kill(b.server.Holder("a"))
		time.Sleep(time.Second)
		require.ErrorIs(b, g.Loss(), fault.ErrLost)
		err, answered := g.Inspect(nil, Forever, func(*server.Conn) error { return nil })
		require.True(b, answered)
		require.Error(b, err)
		ctx := g.Context(context.Background(), func(lost error) error { return errors.Join(errGone, lost) })
		require.Error(b, ctx.Err())
		assert.ErrorIs(b, context.Cause(ctx), fault.ErrLost)
		assert.ErrorIs(b, context.Cause(ctx), errGone)
		assert.ErrorIs(b, g.Release(), fault.ErrLost)
	})
}

// In an outage the last waiter leaves, and another caller comes, before the
// asker pauses. That caller has not begun to wait, so it is asked for at once.
func TestAsker_AnotherCallerBeforeThePause(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		l := &line{queue: b.queue, key: "a"}
		a := &asker{line: l, waited: true, retry: retry{outage: errGone}}
		l.asker = a
		b.queue.mu.Lock()
		b.queue.lines["a"] = l
		b.queue.active++
		b.queue.mu.Unlock()
		call := b.call(context.Background(), "a", 0)
		b.queue.mu.Lock()
		a.pauseLocked(sitsOut)
		b.queue.mu.Unlock()
		a.run(nil)
		release(b, call.granted(b))
	})
}

// Two calls under a lock wait for the same other lock. A third chain that waits
// for the first lock looks at the other lock once, and finds no deadlock.
func TestQueue_ManyWaysToOneLock(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		x := b.call(context.Background(), "x", 0).granted(b)
		a := b.call(context.Background(), "a", 0).granted(b)
		c := b.call(context.Background(), "c", 0).granted(b)
		underA, underC := under(a), under(c)
		one, two := b.call(underA, "x", time.Hour), b.call(underA, "x", time.Hour)
		waits := b.call(underC, "a", time.Hour)
		waits.waits(b)
		release(b, x)
		release(b, one.granted(b))
		release(b, two.granted(b))
		release(b, a)
		release(b, waits.granted(b))
		release(b, c)
	})
}

// A connection that breaks when its wait was over says nothing about the length
// of waits.
func TestRetry_BrokeAtItsEnd(t *testing.T) {
	var r retry
	assert.True(t, r.shorter(time.Second, time.Second))
	assert.Zero(t, r.slice)
	assert.True(t, r.shorter(0, time.Second))
	assert.Equal(t, time.Second/2, r.slice)
}

// A timeout that passes in an outage returns the refusal, if the server was
// last refused.
func TestRetry_TimedOut(t *testing.T) {
	r := &retry{outage: errGone, refused: time.Now()}
	assert.ErrorIs(t, r.timedOut(time.Second), fault.ErrUnsupported)
	r.refused = time.Time{}
	assert.ErrorIs(t, r.timedOut(time.Second), fault.ErrUnavailable)
}

// The pool ends a wait at the moment at which the server grants it. The session
// cannot hold the lock any more, so the caller waits again, on another one, and
// gets a lock that it has.
func TestWait_GrantedOnASessionThatWasKilled(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		b.server.Lock("a")
		c := b.call(background, "a", time.Hour)
		time.Sleep(time.Second) // so that the answer is later than the question
		b.queue.mu.Lock()       // the asker stops there when its wait has returned
		killed := b.queue.lines["a"].asker.wait.session
		granted := clock.Now()
		b.server.Unlock("a")
		for killed.AnsweredAt() < granted {
			runtime.Gosched()
		}
		b.queue.pool.KillWait(killed)
		b.queue.mu.Unlock()
		g := c.granted(b)
		assert.NotSame(b, killed, g.session)
		require.NoError(b, g.Release())
	})
}

// The line may let go of an asker that has not needed a context yet: then the
// context has ended.
func TestAsker_LetGoBeforeItsContext(t *testing.T) {
	a := &asker{line: &line{queue: New(nil, 0)}}
	require.ErrorIs(t, a.Context().Err(), context.Canceled)
	a.line.asker = &asker{line: a.line}
	require.NoError(t, a.line.asker.Context().Err())
	a.line.asker.cancel()
}

// The session has gone, and the goroutine that notices it has not ended the
// context yet. The release ends the context first, by the same cause.
func TestRelease_BeforeTheContextHasEnded(t *testing.T) {
	for _, end := range []state{lost, stopped} {
		inBubble(t, 0, func(b *bubble) {
			g := b.acquire(background, "a")
			ctx := g.Context(background, same)
			b.server.Kill(b.server.Holder("a"))
			b.queue.mu.Lock()
			g.state, g.why = end, errGone
			b.queue.mu.Unlock()
			err := g.Release()
			assert.Equal(b, errGone, context.Cause(ctx))
			if end == lost {
				assert.Equal(b, errGone, err)
			}
			time.Sleep(time.Second)
		})
	}
}

// The session goes while Release is about to end the context of the lock's
// code, by a loss that was found before. Release ends it.
func TestGrant_GoesDuringItsRelease(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g := b.acquire(background, "a")
		ctx := g.Context(background, same)
		be := func(s state) {
			b.queue.mu.Lock()
			defer b.queue.mu.Unlock()
			g.state = s
		}
		be(releasing)
		assert.True(b, g.lose(errGone))
		assert.NoError(b, ctx.Err())
		be(held)
		require.NoError(b, g.Release())
		assert.ErrorIs(b, ctx.Err(), context.Canceled)
	})
}

// A context ends during a statement of a transaction, and the driver closes the
// connection. That is not a loss. The cause of the code's context says it.
func TestGrant_StoppedByItsOwnCode(t *testing.T) {
	inBubble(t, 0, func(b *bubble) {
		g, err := b.queue.Acquire(background, "a", Terms{Timeout: Forever, Left: Forever, Use: ForTx}, nil)
		require.NoError(b, err)
		code := under(g)
		tx, err := g.Begin(nil)
		require.NoError(b, err)
		b.server.Once("INSERT", &memserver.Reply{Hang: true})
		ctx, cancel := context.WithCancel(code)
		ended := make(chan error, 1)
		go func() { _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (1)"); ended <- err }()
		synctest.Wait()
		cancel()
		require.ErrorIs(b, <-ended, context.Canceled)
		time.Sleep(10 * time.Second)
		assert.ErrorIs(b, context.Cause(code), context.Canceled)
		assert.ErrorIs(b, context.Cause(code), server.ErrCutOff)
		assert.NotErrorIs(b, context.Cause(code), fault.ErrLost)
		assert.NoError(b, g.Loss())
		require.ErrorIs(b, g.Commit(), server.ErrCutOff)
		require.NoError(b, g.Release())
	})
}
