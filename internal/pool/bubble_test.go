package pool

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A bubble is a pool on a server in memory, under a clock that jumps. When the
// test ends no goroutine may be left.
type bubble struct {
	*testing.T
	server *memserver.Server
	db     *sql.DB
	config Config
	pool   *Pool
}

func config() Config {
	return Config{MaxSessions: 4, Config: server.Config{
		ReleaseTimeout: 5 * time.Second,
		KeepAlive:      5 * time.Second,
		Probe:          25 * time.Millisecond,
		Lease:          time.Minute,
		CheckServer:    true,
		Logger:         slog.New(slog.DiscardHandler),
	}}
}

// inBubble runs the test with a pool of a db, changed by change.
func inBubble(t *testing.T, change func(*Config), test func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := config()
		if change != nil {
			change(&c)
		}
		b := &bubble{T: t, server: memserver.New(), config: c}
		b.db = b.server.Open()
		b.db.SetMaxIdleConns(10)
		b.pool = NewPool(b.db, c)
		test(b)
		b.pool.Close()
		assert.Zero(t, b.db.Stats().InUse, "connections in use")
		require.NoError(t, b.server.Close(b.db))
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Zero(t, alive, "sessions of the server")
	})
}

// inBubbleOfOne is inBubble for a pool with the one connection.
func inBubbleOfOne(t *testing.T, change func(*Config), test func(b *bubble, conn *sql.Conn)) {
	t.Helper()
	inBubble(t, change, func(b *bubble) {
		conn, err := b.db.Conn(context.Background())
		require.NoError(t, err)
		b.pool.Close()
		b.pool = NewLent(conn, b.config)
		test(b, conn)
		b.pool.Close()
		b.pool = NewPool(b.db, b.config)
		_ = conn.Close()
	})
}

// A caller takes turns. It counts how often it was told that the pool is
// exhausted.
type caller struct {
	ctx       context.Context
	queued    int
	exhausted int
}

func (c *caller) Context() context.Context { return c.ctx }

func (c *caller) Queued() { c.queued++ }

func (c *caller) DBExhausted() { c.exhausted++ }

func anybody() *caller { return &caller{ctx: context.Background()} }

func (b *bubble) take(req Request) *Session {
	b.Helper()
	if req.Caller == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // or the bubble would never end
		defer cancel()
		req.Caller = &caller{ctx: ctx}
	}
	s, err := b.pool.Take(req)
	require.NoError(b, err)
	return s
}

// A hold is a lock, of which it is seen when it was lost, and why.
type hold struct {
	name string
	lost chan time.Time
	why  error
	own  bool
}

func (h *hold) Name() string { return h.name }

func (h *hold) OwnSession() bool { return h.own }

func (h *hold) Lost(cause error) bool {
	h.why = cause
	h.lost <- time.Now()
	return true
}

// awaitLoss returns when h was lost, which must be within an hour of the
// bubble's clock.
func (b *bubble) awaitLoss(h *hold) time.Time {
	b.Helper()
	select {
	case at := <-h.lost:
		return at
	case <-time.After(time.Hour):
		require.FailNow(b, "not lost", h.name)
		return time.Time{}
	}
}

// lock takes the lock on s, on which the caller has the turn, and ends the
// turn.
func (b *bubble) lock(s *Session, name string) *hold {
	b.Helper()
	granted, err := s.GetLock(name, 0)
	require.NoError(b, err)
	require.True(b, granted)
	h := &hold{name: name, lost: make(chan time.Time, 1), own: s.claim == forTurn}
	require.True(b, b.pool.Hold(s, h))
	b.pool.Put(s)
	return h
}

// held is a lock on a session of its own.
func (b *bubble) held(name string) (*Session, *hold) {
	b.Helper()
	s := b.take(Request{})
	return s, b.lock(s, name)
}

// owned is a lock whose chain has its session alone.
func (b *bubble) owned(name string) (*Session, *hold) {
	b.Helper()
	s := b.take(Request{Own: true})
	return s, b.lock(s, name)
}

// onTurn runs f on a turn on s.
func (b *bubble) onTurn(s *Session, f func()) {
	b.Helper()
	require.NoError(b, b.pool.TakeUrgent(s))
	defer b.pool.Put(s)
	f()
}

// begin runs START TRANSACTION on s.
func (b *bubble) begin(s *Session) (tx *sql.Tx) {
	b.Helper()
	b.onTurn(s, func() {
		var err error
		tx, err = s.Begin(nil)
		require.NoError(b, err)
	})
	return tx
}

// release gives the lock back.
func (b *bubble) release(s *Session, h *hold) {
	b.Helper()
	require.NoError(b, b.pool.TakeUrgent(s))
	require.NoError(b, s.ReleaseLock(h.name))
	b.pool.Drop(s, h)
}

// begin runs f in a goroutine, and returns when that waits or has ended.
func begin[T any](f func() T) <-chan T {
	done := make(chan T, 1)
	go func() { done <- f() }()
	synctest.Wait()
	return done
}

func hasEnded[T any](done <-chan T) bool {
	synctest.Wait()
	return len(done) > 0
}

// requireHeld: the lock is not lost.
func (b *bubble) requireHeld(h *hold) {
	b.Helper()
	synctest.Wait()
	require.Empty(b, h.lost, "lost: %v", h.why)
}
