package server

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// seenWith are the versions of go-sql-driver with which the tests of this
// package and of e2e passed. Each of them has all fields that peek.go reads.
var seenWith = []string{"v1.10.1"}

func TestPeek_Versions(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		require.NoError(b, c.raw(func(conn any) error {
			c.know(conn)
			return nil
		}))
		assert.Empty(b, missingFields(), "of go-sql-driver")
		d := c.driver
		assert.True(b, d.valid != nil && d.closed != nil && d.canceled != nil && d.watching != nil && d.status != nil && d.config != nil && d.socket != nil)
		b.put(c)
	})
	assert.NotNil(t, txFields().closemu, "of database/sql")
	assert.NotNil(t, txFields().done, "of database/sql")

	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	_, version, found := strings.Cut(string(mod), "github.com/go-sql-driver/mysql ")
	require.True(t, found)
	version, _, _ = strings.Cut(version, "\n")
	assert.Contains(t, seenWith, version, "run the whole suite with this version, and then name it here")
}

// Without one of the fields, locks are still taken and a probe still detects a
// loss. The missing field is logged once.
func TestPeek_WithoutAField(t *testing.T) {
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
					c := b.held("a")
					assert.Equal(b, Open, c.Probe())
					all, _ := b.server.Sessions()
					b.server.Kill(all)
					assert.Equal(b, Closed, c.Probe())
					assert.Equal(b, name == "rawConn", c.socket == nil)
					_ = c.Discard()
				}
			})
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("missing=["+name+"]")), log.String())
		})
	}
}
