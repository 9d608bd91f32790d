package server

import (
	"bytes"
	"database/sql/driver"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/peek"
)

// Without one of the fields, locks are still taken and a probe still detects a
// loss. The missing field is logged once.
func TestProbe_WithoutAField(t *testing.T) {
	for _, name := range []string{"closed", "watching", "canceled", "rawConn", "cfg", "status"} {
		t.Run(name, func(t *testing.T) {
			defer peek.Hide(name)()
			var log bytes.Buffer
			inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }, func(b *bubble) {
				for range 2 {
					c := b.held("a")
					assert.Equal(b, Open, c.Probe())
					all, _ := b.server.Sessions()
					b.server.Kill(all)
					assert.Equal(b, Closed, c.Probe())
					assert.Equal(b, name == "rawConn", c.driver.Socket == nil)
					_ = c.Discard()
				}
			})
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("missing=["+name+"]")), log.String())
		})
	}
}

// An endsDuringLook is a connection with something unread, whose transaction
// ends while a probe looks at it.
type endsDuringLook struct {
	driver.Conn
	end func()
}

func (c endsDuringLook) IsValid() bool {
	c.end()
	return false
}

// The watch probes the session of a transaction without having its turn. If the
// transaction ends during the probe, something unread is not taken for the
// server's last packet.
func TestProbe_WhileTheTransactionEnds(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		known := c.driver
		c.driver = &peek.Conn{Conn: endsDuringLook{known.Conn, func() { c.tx.Store(nil) }}, Shown: true}
		assert.Equal(b, Occupied, c.Probe())
		c.driver = known
		c.tx.Store(tx)
		require.NoError(b, c.Commit())
		b.release(c, "a")
	})
}
