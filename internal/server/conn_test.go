package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A silent driver begins transactions. It does nothing else.
type silent struct{}

func (silent) Connect(context.Context) (driver.Conn, error) { return silent{}, nil }
func (silent) Driver() driver.Driver                        { return nil }
func (silent) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (silent) Close() error                                 { return nil }
func (silent) Begin() (driver.Tx, error)                    { return silent{}, nil }
func (silent) Commit() error                                { return nil }
func (silent) Rollback() error                              { return nil }

// The *sql.Conn may be closed at any moment of its use without a panic.
func TestConn_IsClosedBesideItsUse(t *testing.T) {
	for name, use := range map[string]func(*Conn) error{
		"raw": func(c *Conn) error { return c.raw(func(driver.Conn) error { return nil }) },
		"tx": func(c *Conn) error {
			tx, err := c.Begin(nil)
			if err == nil {
				_ = tx.Rollback()
				c.endTx()
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
				c := New(cfg, true).Use(conn, name == "tx") // then no other statement is sent
				begun := make(chan struct{})
				var used error
				var user sync.WaitGroup
				user.Go(func() {
					close(begun)
					for used == nil {
						used = use(c)
					}
				})
				<-begun
				require.NoError(t, conn.Close())
				user.Wait()
				if !errors.Is(used, sql.ErrConnDone) {
					require.ErrorIs(t, used, fault.ErrUnavailable)
				}
				c.cancel()
			}
		})
	}
}

// A panic of the function that raw calls is not taken for a closed connection.
func TestConn_RawPanics(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		c := b.use()
		assert.PanicsWithValue(b, "mine", func() { _ = c.raw(func(driver.Conn) error { panic("mine") }) })
		b.put(c)
	})
}

// The interval of the proofs, and how long a session may be silent: a loss is
// known within two intervals, and before the server gives the lock away.
func TestConn_IntervalAndPatience(t *testing.T) {
	for _, keepAlive := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, time.Minute} {
		for _, idle := range []time.Duration{0, time.Second, 2 * time.Second, 10 * time.Second, time.Minute, 8 * time.Hour} {
			c := config()
			c.KeepAlive = keepAlive
			conn := &Conn{server: New(c, true)}
			conn.setIdleLimit(idle)
			assert.Equal(t, AnswerTime, conn.patience(), "without a lock")
			conn.locks = 1
			interval, patience := conn.Interval(), conn.patience()
			assert.LessOrEqual(t, interval, keepAlive)
			assert.LessOrEqual(t, patience, AnswerTime)
			// The ticks and bounds of the pool's watch.go.
			tick := max(min(25*time.Millisecond, keepAlive/4), time.Millisecond)
			assert.LessOrEqual(t, tick+patience, interval, "%v, %v: a loss is known within two intervals", keepAlive, idle)
			if idle > 0 {
				assert.LessOrEqual(t, 3*interval, idle, "%v, %v: and before the server gives the lock away", keepAlive, idle)
			}
		}
	}
	c := config()
	c.KeepAlive = time.Second
	assert.Equal(t, time.Second, (&Conn{server: New(c, true)}).Interval(), "not greeted")
}
