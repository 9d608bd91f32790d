package slot

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/server"
)

// grace is how late a call may end that waits for the release of the gate.
const grace = 50 * time.Millisecond

var (
	background = context.Background()
	errGone    = errors.New("gone")
)

// A bubble is the slots of one process on a server in memory, under a clock
// that jumps. At the end of the test nothing may be under way, and no goroutine
// may be left.
type bubble struct {
	*testing.T
	server *memserver.Server
	db     *sql.DB
	queue  *queue.Queue
	slots  *Slots
}

func inBubble(t *testing.T, handOff time.Duration, test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, server: memserver.New()}
		b.db = b.server.Open()
		b.db.SetMaxIdleConns(10)
		b.queue = newQueue(b.db, 4, handOff)
		b.slots = New(b.queue)
		test(b)
		closed := b.closing()
		time.Sleep(time.Minute)
		select {
		case <-closed:
		default:
			t.Fatal("grants and askers are under way")
		}
		assert.Empty(t, b.groups(), "nothing is kept of a name without users")
		assert.Zero(t, b.slots.Waiting())
		assert.Zero(t, b.queue.Waiting())
		assert.Zero(t, b.db.Stats().InUse)
		require.NoError(t, b.server.Close(b.db))
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Zero(t, alive, "sessions of the server")
	})
}

func newQueue(db *sql.DB, sessions int, handOff time.Duration) *queue.Queue {
	return queue.New(pool.NewPool(db, pool.Config{MaxSessions: sessions, Config: server.Config{
		ReleaseTimeout: 5 * time.Second, KeepAlive: 5 * time.Second, Probe: 25 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}}), handOff)
}

// another returns the slots of another process.
func (b *bubble) another() (s *Slots, end func()) {
	db := b.server.Open()
	db.SetMaxIdleConns(10)
	s = New(newQueue(db, 16, 0))
	return s, func() {
		s.queue.Close()
		assert.Zero(b, db.Stats().InUse)
		require.NoError(b, b.server.Close(db))
	}
}

// groups returns the names that have a call, or a slot that is held.
func (b *bubble) groups() (keys []string) {
	b.slots.mu.Lock()
	defer b.slots.mu.Unlock()
	return slices.Collect(maps.Keys(b.slots.groups))
}

func (b *bubble) closing() <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		b.queue.Close()
	}()
	synctest.Wait()
	return closed
}

// acquire takes a lock that is free.
func (b *bubble) acquire(ctx context.Context, name string) *queue.Grant {
	b.Helper()
	g, err := b.queue.Acquire(ctx, name, queue.Terms{Timeout: queue.Forever, Left: queue.Forever}, nil)
	require.NoError(b, err)
	return g
}

// A slotted is an Acquire in a goroutine of its own.
type slotted struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	grant  *Grant
	err    error
	at     time.Time // when it ended
}

func (b *bubble) slot(ctx context.Context, n int, timeout time.Duration) *slotted {
	return b.slotOf(b.slots, ctx, "x", n, timeout)
}

func (b *bubble) slotOf(s *Slots, ctx context.Context, name string, n int, timeout time.Duration) *slotted {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &slotted{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.grant, c.err = s.Acquire(ctx, name, n, timeout, nil)
		c.at = time.Now()
	}()
	synctest.Wait()
	return c
}

func (c *slotted) waits(b *bubble) {
	b.Helper()
	synctest.Wait()
	select {
	case <-c.done:
		b.Fatalf("ended: %v", c.err)
	default:
	}
}

func (c *slotted) granted(b *bubble) *Grant {
	b.Helper()
	<-c.done
	require.NoError(b, c.err)
	return c.grant
}

func (c *slotted) fails(b *bubble, with error) {
	b.Helper()
	<-c.done
	require.ErrorIs(b, c.err, with)
}

// has requires that the call has got that slot by now.
func (c *slotted) has(b *bubble, slot int) *Grant {
	b.Helper()
	synctest.Wait()
	select {
	case <-c.done:
	default:
		b.Fatal("it waits")
	}
	require.NoError(b, c.err)
	require.Equal(b, slot, c.grant.Number)
	return c.grant
}

// A lock is a lock of the queue, or a slot.
type lock interface {
	Context(ctx context.Context, onLoss func(error) error) context.Context
	Release() error
}

// under returns the context of a lock's code.
func under(g lock) context.Context {
	return g.Context(background, func(err error) error { return err })
}

func release(b *bubble, g lock) {
	b.Helper()
	require.NoError(b, g.Release())
	synctest.Wait()
}

// sent returns the statements that the server got, without those at the opening
// of a session.
func sent(b *bubble) (texts []string) {
	for _, st := range b.server.Sent("_LOCK(") {
		texts = append(texts, strings.TrimPrefix(st.Text, "SELECT "))
	}
	return texts
}

// holdUpRelease delays the next release of a lock, before the server has
// executed it. It has reached the server when reached is closed, and goes on
// when the caller closes goOn.
func (b *bubble) holdUpRelease() (reached <-chan struct{}, goOn chan<- struct{}) {
	there, open := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	b.server.Script(func(st memserver.Statement) *memserver.Reply {
		if strings.Contains(st.Text, "RELEASE_LOCK(") && held.CompareAndSwap(false, true) {
			close(there)
			<-open
		}
		return nil
	})
	return there, open
}
