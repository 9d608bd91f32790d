package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// On MySQL a wait ends by an error, and the lock may have been granted at the
// same moment. HolderIDs finds that out. If it is not called, the lock is
// released before the session's next statement about locks, and before the
// connection goes back.
func TestGetLockThenLook(t *testing.T) {
	for what, next := range map[string]func(b *bubble, c *Conn){
		"a look": func(b *bubble, c *Conn) {
			holders, err := c.HolderIDs([]string{"b", "a"})
			require.NoError(b, err)
			assert.Zero(b, holders[1], "it is free")
			holders, err = c.HolderIDs([]string{"b", "a"})
			require.NoError(b, err)
			assert.Equal(b, []int64{0, 0}, holders)
		},
		"another lock": func(b *bubble, c *Conn) {
			granted, err := c.GetLock("b", 0)
			require.NoError(b, err)
			require.True(b, granted)
			require.NoError(b, c.ReleaseLock("b"))
		},
		"a release": func(b *bubble, c *Conn) { require.NoError(b, c.ReleaseLock("gate")) },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.use()
				granted, err := c.GetLock("gate", 0)
				require.NoError(b, err)
				require.True(b, granted)
				b.server.Once("GET_LOCK('a'", &memserver.Reply{Run: true, Number: 3024})
				granted, err = c.GetLockThenLook("a", 95*time.Millisecond)
				require.NoError(b, err)
				require.False(b, granted)
				require.Positive(b, b.server.Holder("a"))
				next(b, c)
				assert.Equal(b, -1, b.server.Holder("a"))
				_ = c.Discard()
			})
		})
	}
}

func TestGetLockThenLook_GiveBack(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		b.server.Once("GET_LOCK('a'", &memserver.Reply{Run: true, Number: erQueryTimeout})
		granted, err := c.GetLockThenLook("a", 95*time.Millisecond)
		require.NoError(b, err)
		require.False(b, granted)
		require.Positive(b, b.server.Holder("a"))
		b.put(c)
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Equal(b, 1, b.alive(), "the session is kept")
	})
}
