package session

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The driver that go.mod asks for has what is read of it without its leave.
func TestProbe_FieldsOfTheDriver(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		require.NoError(b, s.raw(func(conn any) error {
			assert.Empty(b, missingFields(conn))
			return nil
		}))
		b.pool.Put(s)
	})
}

// Without one of them locks are taken, a loss is noticed and silence ended all the same; the
// log says so once.
func TestProbe_WithoutAField(t *testing.T) {
	for name, field := range map[string]*int{"closed": &fields.closed, "watching": &fields.watching, "canceled": &fields.canceled, "rawConn": &fields.socket, "cfg": &fields.config} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }, func(b *bubble) {
				conn, err := b.db.Conn(context.Background())
				require.NoError(b, err)
				require.NoError(b, conn.Raw(func(conn any) error {
					findFields(conn)
					return nil
				}))
				require.NoError(b, conn.Close())
				found := *field
				*field = -1
				defer func() { *field = found }()

				for range 2 {
					s, h := b.held("a")
					b.requireHeld(h)
					all, _ := b.server.Sessions()
					killed := time.Now()
					b.server.Kill(all)
					assert.LessOrEqual(b, (b.awaitLoss(h)).Sub(killed), 2*watchTick)
					assert.Equal(b, errClosed, h.why)
					assert.Equal(b, name == "rawConn", s.socket == nil)
				}
			})
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("missing=["+name+"]")), log.String())
		})
	}
}
