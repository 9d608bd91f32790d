package server

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

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
