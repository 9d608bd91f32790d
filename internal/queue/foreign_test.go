package queue

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// Code of the user's (a context, the connection of a dialer, an error) runs
// under none of the queue's mutexes, because it may block or call the Locker.

// free reports whether the mutex can be locked soon, so that the caller's own
// goroutine does not hold it.
func free(tryLock func() bool, unlock func()) bool {
	for range 100_000 {
		if tryLock() {
			unlock()
			return true
		}
		runtime.Gosched()
	}
	return false
}

// A nosy is a context of the user's. Each of its methods checks that the
// mutexes are free.
type nosy struct {
	context.Context
	queue *Queue
	under *atomic.Pointer[string]
}

func (b *bubble) nosy(ctx context.Context) nosy {
	return nosy{ctx, b.queue, new(atomic.Pointer[string])}
}

func (n nosy) look(method string) {
	var why string
	if !free(n.queue.mu.TryLock, n.queue.mu.Unlock) {
		why = method + " under the queue's mutex"
	}
	if why != "" {
		var stack [8 << 10]byte
		why += "\n" + string(stack[:runtime.Stack(stack[:], false)])
		n.under.CompareAndSwap(nil, &why)
	}
}

func (n nosy) Deadline() (time.Time, bool) { n.look("Deadline"); return n.Context.Deadline() }
func (n nosy) Done() <-chan struct{}       { n.look("Done"); return n.Context.Done() }
func (n nosy) Err() error                  { n.look("Err"); return n.Context.Err() }
func (n nosy) Value(key any) any           { n.look("Value"); return n.Context.Value(key) }

func (n nosy) check(b *bubble) {
	b.Helper()
	if why := n.under.Load(); why != nil {
		b.Error(*why)
	}
}

func TestQueue_NoContextUnderAMutex(t *testing.T) {
	for what, run := range map[string]func(b *bubble, n nosy){
		"granted, and released": func(b *bubble, n nosy) {
			g := b.acquire(n, "a")
			under(g)
			require.NoError(b, g.Release())
		},
		"Held, Within": func(b *bubble, n nosy) {
			g := b.acquire(n, "a")
			require.NoError(b, b.queue.Held(n, "a"))
			_, err := g.Within(n)
			require.NoError(b, err)
			inner := g.Context(n, same)
			require.ErrorIs(b, b.queue.Held(inner, "a"), fault.ErrReentrant)
			require.NoError(b, g.Release())
		},
		"lost": func(b *bubble, n nosy) {
			g := b.acquire(n, "a")
			ctx, cancel := context.WithCancel(g.Context(n, same))
			defer cancel()
			b.server.Kill(1)
			<-ctx.Done()
			require.ErrorIs(b, context.Cause(ctx), fault.ErrLost)
			require.ErrorIs(b, g.Release(), fault.ErrLost)
		},
		"timed out": func(b *bubble, n nosy) {
			b.server.Lock("a")
			b.call(n, "a", time.Second).fails(b, fault.ErrTimeout)
			b.server.Unlock("a")
		},
		"cancelled, and its deadline passed": func(b *bubble, n nosy) {
			b.server.Lock("a")
			ctx, cancel := context.WithTimeout(n, time.Second)
			defer cancel()
			n.Context = ctx
			c, deadline := b.call(n, "a", time.Hour), b.call(n, "a", time.Hour)
			c.cancel(errGone)
			c.fails(b, errGone)
			deadline.fails(b, context.DeadlineExceeded)
			b.server.Unlock("a")
		},
		"ended by its chain's session": func(b *bubble, n nosy) {
			outer := b.acquire(n, "outer")
			n.Context = outer.Context(n, same)
			b.server.Once("GET_LOCK('inner'", &memserver.Reply{Drop: true})
			_, err := b.queue.Acquire(n, "inner", For(Forever), nil)
			require.ErrorIs(b, err, fault.ErrLost)
			require.ErrorIs(b, outer.Release(), fault.ErrLost)
		},
		"handed on": func(b *bubble, n nosy) {
			g := b.acquire(n, "a")
			next := b.call(n, "a", time.Hour)
			require.NoError(b, g.Release())
			require.NoError(b, next.granted(b).Release())
		},
		"an outage": func(b *bubble, n nosy) {
			b.server.Lock("a")
			c := b.call(n, "a", 10*time.Second)
			b.down()
			c.fails(b, fault.ErrUnavailable)
			b.up()
			b.server.Unlock("a")
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, turnsOfOurs, func(b *bubble) {
				n := b.nosy(background)
				run(b, n)
				synctest.Wait()
				n.check(b)
			})
		})
	}
}

// If Close of a connection of the user's dialer blocks, for example over ssh,
// only the callers that wait for its end are delayed.
func TestQueue_ACloseThatBlocks(t *testing.T) {
	for what, end := range map[string]func(b *bubble, c *call) *call{
		"its wait is abandoned": func(b *bubble, c *call) *call {
			c.cancel(errGone)
			return b.call(background, "free", time.Minute)
		},
		"its wait makes room at the cap": func(b *bubble, c *call) *call {
			b.queue.pool.MaxSessions = 1
			return b.call(background, "free", time.Minute)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, 0, func(b *bubble) {
				b.server.Lock("a")
				goOn := make(chan struct{})
				// The statement after a killed wait is broken off by closing
				// the socket.
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					switch {
					case strings.Contains(st.Text, "RELEASE_LOCK('a'"):
						return &memserver.Reply{Hang: true}
					case strings.Contains(st.Text, "GET_LOCK('a'") && !strings.Contains(st.Text, ", 0)"):
						return &memserver.Reply{Number: 1317}
					}
					return nil
				})
				c := b.call(background, "a", time.Hour)
				var closes atomic.Int32
				b.server.SetClosing(func() {
					closes.Add(1)
					<-goOn
				})
				open := sync.OnceFunc(func() {
					b.server.SetClosing(nil)
					close(goOn)
				})
				defer open()
				other := end(b, c)
				synctest.Wait()
				assert.Positive(b, closes.Load())
				require.True(b, free(b.queue.mu.TryLock, b.queue.mu.Unlock))
				open()
				c.cancel(nil)
				<-c.done
				require.NoError(b, other.granted(b).Release())
				b.up()
				b.server.Unlock("a")
			})
		})
	}
}
