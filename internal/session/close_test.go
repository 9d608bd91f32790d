package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A silent driver begins transactions, and nothing else.
type silent struct{}

func (silent) Connect(context.Context) (driver.Conn, error) { return silent{}, nil }
func (silent) Driver() driver.Driver                        { return nil }
func (silent) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (silent) Close() error                                 { return nil }
func (silent) Begin() (driver.Tx, error)                    { return silent{}, nil }
func (silent) Commit() error                                { return nil }
func (silent) Rollback() error                              { return nil }

// The *sql.Conn is closed at every moment while the session uses it, and nothing panics.
func TestSession_ConnIsClosedBesideIt(t *testing.T) {
	for name, use := range map[string]func(*Session) error{
		"raw": func(s *Session) error { return s.raw(func(any) error { return nil }) },
		"tx": func(s *Session) error {
			tx, err := s.Begin(nil)
			if err == nil {
				_ = tx.Rollback()
				s.endTx()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.CheckServer = false
			db := sql.OpenDB(silent{})
			defer db.Close()
			for range 3000 {
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				s := newSession(conn, &cfg)
				s.lent = name == "tx" // and nothing else is sent then
				begun := make(chan struct{})
				var used error
				var user sync.WaitGroup
				user.Go(func() {
					close(begun)
					for used == nil {
						used = use(s)
					}
				})
				<-begun
				require.NoError(t, conn.Close())
				user.Wait()
				if !errors.Is(used, sql.ErrConnDone) {
					require.ErrorIs(t, used, fault.ErrUnavailable)
				}
				s.cancel()
			}
		})
	}
}

// What the code under raw panics with is no closed connection.
func TestSession_RawPanics(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s := b.take(Request{})
		assert.PanicsWithValue(b, "mine", func() { _ = s.raw(func(any) error { panic("mine") }) })
		b.pool.Put(s)
	})
}

// A discards counts them.
type discards struct{ atomic.Int64 }

func (*discards) SessionOpened(time.Duration, error) {}
func (d *discards) SessionDiscarded(error)           { d.Add(1) }

// A session that is given up while the pool closes is discarded once.
func TestPool_GiveUpBesideClose(t *testing.T) {
	for range 300 {
		var discarded discards
		inBubble(t, func(c *Config) { c.Observer = &discarded }, func(b *bubble) {
			s, h := b.held("a")
			b.pool.GiveUp(s, errors.New("given up"))
			if b.pool.TakeUrgent(s) == nil {
				b.pool.Drop(s, h)
			}
		})
		require.EqualValues(t, 1, discarded.Load())
	}
}

// A session that has been given up is dead at once: what ends on it at this moment does
// not take it for a sound one.
func TestPool_GiveUpMakesItDead(t *testing.T) {
	givenUp := errors.New("given up")
	inBubble(t, nil, func(b *bubble) {
		for range 100 {
			s, h := b.held("a")
			b.pool.GiveUp(s, givenUp)
			b.pool.mu.Lock()
			state := s.state
			b.pool.mu.Unlock()
			require.Equal(b, dead, state)
			require.ErrorIs(b, b.pool.TakeUrgent(s), givenUp)
			b.awaitLoss(h)
			synctest.Wait()
			require.Equal(b, -1, b.server.Holder("a"))
		}
	})
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s, _ := b.held("a")
		b.pool.GiveUp(s, givenUp)
		b.pool.Close()
		synctest.Wait()
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Error(b, conn.PingContext(b.Context()), "it does not go back to the db")
	})
}
