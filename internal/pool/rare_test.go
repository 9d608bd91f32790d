package pool

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Tests of branches that need a rare moment.

// A db that was changed to a single connection has no session for a chain
// alone.
func TestOwn_ASingleConnection(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(1)
		_, err := b.pool.Take(Request{Own: true, Caller: anybody()})
		assert.ErrorIs(b, err, fault.ErrUnsupported)
	})
}

// A db that its owner has closed never gives a connection again. The sessions
// that there are go on until they go back.
func TestPool_ClosedDB(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		require.NoError(b, b.db.Close())
		require.NoError(b, b.pool.Gone(), "it is not known yet")
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnavailable)
		require.ErrorContains(b, err, "sql: database is closed")
		require.Equal(b, err, b.pool.Gone())
		require.Equal(b, err, b.pool.Check(b.Context(), nil))
		time.Sleep(2 * b.config.KeepAlive)
		b.requireHeld(h)
		b.release(s, h)
		require.Same(b, s, b.take(Request{}), "it has not gone back yet")
		b.pool.Put(s)
	})
}

// A slow connector dials with before, after the first time.
type slow struct {
	driver.Connector
	dials  *atomic.Int32
	before func(context.Context) error
}

func (c slow) Connect(ctx context.Context) (driver.Conn, error) {
	if c.dials.Add(1) > 1 {
		if err := c.before(ctx); err != nil {
			return nil, err
		}
	}
	return c.Connector.Connect(context.WithoutCancel(ctx))
}

// A session that is being opened may be on the last connection of the db. If
// the server does not answer, the caller has waited for the server, and not for
// the application's connections.
func TestPool_SilentServerAtTheLastConnection(t *testing.T) {
	answer := func(after time.Duration) func(context.Context) error {
		return func(context.Context) error { time.Sleep(after); return nil }
	}
	for what, c := range map[string]struct {
		before func(context.Context) error
		took   time.Duration
		text   string
	}{
		"silent": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, server.AnswerTime,
			"no connection to the server: no answer within 5s"},
		"late": {answer(server.AnswerTime + stuckTime/2), server.AnswerTime + stuckTime/2,
			"no connection to the server: no answer within 5s"},
		"stuck": {answer(time.Minute), server.AnswerTime + stuckTime,
			"no connection to the server: no answer"},
	} {
		for call, ask := range map[string]func(*bubble, Caller) error{
			"Take":  func(b *bubble, k Caller) error { _, err := b.pool.Take(Request{Caller: k}); return err },
			"Check": func(b *bubble, _ Caller) error { return b.pool.Check(b.Context(), nil) },
		} {
			t.Run(what+", "+call, func(t *testing.T) {
				inBubble(t, nil, func(b *bubble) {
					b.pool.Close()
					require.NoError(b, b.server.Close(b.db))
					b.db = sql.OpenDB(slow{b.server.Connector(), new(atomic.Int32), c.before})
					b.db.SetMaxOpenConns(2)
					b.pool = NewPool(b.db, b.config)
					application, err := b.db.Conn(b.Context())
					require.NoError(b, err)
					ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
					defer cancel()
					begun, k := time.Now(), &caller{ctx: ctx}
					err = ask(b, k)
					require.ErrorIs(b, err, fault.ErrUnavailable)
					assert.NotErrorIs(b, err, fault.ErrNoSession)
					assert.ErrorContains(b, err, c.text)
					assert.Equal(b, c.took, time.Since(begun))
					assert.Zero(b, k.exhausted)
					require.NoError(b, application.Close())
					time.Sleep(time.Minute) // until the dial has ended
				})
			})
		}
	}
}

// If a connection given to New cannot be restored, Close discards it, and says
// so.
func TestLent_NotRestored(t *testing.T) {
	log := new(counted)
	inBubbleOfOne(t, func(c *Config) { c.Observer = log }, func(b *bubble, _ *sql.Conn) {
		s := b.take(Request{})
		b.pool.Put(s)
		b.server.ScriptTexts(map[string]*memserver.Reply{"wait_timeout": {Drop: true}})
		b.pool.Close()
		b.server.Script(nil)
		assert.EqualValues(b, 1, log.discarded.Load())
	})
}

// A counted observer counts sessions that were discarded.
type counted struct {
	nobody
	discarded atomic.Int64
}

func (c *counted) SessionDiscarded(error) { c.discarded.Add(1) }

// The kernel reports the end of a connection given to New while rows of its
// owner's are open, so that the driver cannot look. The lock is lost, however
// long the rows have been open.
func TestWatch_HungUpUnderRows(t *testing.T) {
	for _, open := range []time.Duration{0, 6 * time.Second} { // a proof is due after 5 s
		inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
			s, h := b.held("a")
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			rows, err := conn.QueryContext(ctx, "SELECT 1")
			require.NoError(b, err)
			time.Sleep(open)
			b.pool.mu.Lock()
			s.hungUp = true
			b.pool.mu.Unlock()
			begun := time.Now()
			assert.LessOrEqual(b, b.awaitLoss(h).Sub(begun), 2*watchTick)
			assert.ErrorIs(b, h.why, server.ErrClosed)
			_ = rows.Close()
		})
	}
}

// A caller that has the turn between two proofs may find that the session is
// broken.
func TestWatch_BrokenBetweenProofs(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if strings.Contains(st.Text, "IS_USED_LOCK") {
				time.Sleep(time.Second)
			}
			return nil
		})
		time.Sleep(5*time.Second + 500*time.Millisecond) // the proof is on its way
		require.NoError(b, b.pool.TakeUrgent(s))
		_ = s.MarkBroken(errors.New("mine"))
		b.pool.Put(s)
		b.awaitLoss(h)
		assert.ErrorContains(b, h.why, "mine")
		synctest.Wait()
	})
}

// A stuckSocket does not close: the first Close waits, and every other fails.
type stuckSocket struct {
	net.Conn
	begun *atomic.Bool
	until <-chan struct{}
}

func (s stuckSocket) Close() error {
	if s.begun.Swap(true) {
		return errors.New("it is being closed")
	}
	<-s.until
	return s.Conn.Close()
}

// If a broken connection does not close, the call returns after ReleaseTimeout,
// and that is logged. Close waits for AnswerTime more.
func TestPool_DoesNotClose(t *testing.T) {
	log := new(bytes.Buffer)
	inBubble(t, nil, func(b *bubble) {
		b.pool.Close()
		require.NoError(b, b.server.Close(b.db))
		until := make(chan struct{})
		cfg := b.server.Config()
		dial := cfg.DialFunc
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return stuckSocket{conn, new(atomic.Bool), until}, err
		}
		connector, err := mysql.NewConnector(cfg)
		require.NoError(b, err)
		b.db = sql.OpenDB(connector)
		c := config()
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
		b.pool = NewPool(b.db, c)
		s := b.take(Request{})
		_ = s.MarkBroken(errors.New("mine"))
		begun := time.Now()
		b.pool.Put(s)
		assert.Equal(b, c.ReleaseTimeout, time.Since(begun))
		assert.Contains(b, log.String(), "cannot close a broken connection yet")
		go func() {
			time.Sleep(time.Hour) // or the bubble would never end
			close(until)
		}()
		begun = time.Now()
		b.pool.Close()
		assert.Equal(b, server.AnswerTime, time.Since(begun))
		<-until
		synctest.Wait()
		b.pool = NewPool(b.db, config())
	})
}
