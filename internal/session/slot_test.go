package session

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A lock that was granted in the moment in which its wait ended by an error, as on MySQL, is found by the
// look that follows, or is released before anything else happens to the session's locks.
func TestGetLockThenLook(t *testing.T) {
	for what, next := range map[string]func(b *bubble, s *Session){
		"a look": func(b *bubble, s *Session) {
			holders, err := s.HolderIDs([]string{"b", "a"})
			require.NoError(b, err)
			assert.Zero(b, holders[1], "it is free")
			holders, err = s.HolderIDs([]string{"b", "a"})
			require.NoError(b, err)
			assert.Equal(b, []int64{0, 0}, holders)
		},
		"another lock": func(b *bubble, s *Session) {
			granted, err := s.GetLock("b", 0)
			require.NoError(b, err)
			require.True(b, granted)
			require.NoError(b, s.ReleaseLock("b"))
		},
		"a release": func(b *bubble, s *Session) { require.NoError(b, s.ReleaseLock("gate")) },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s := b.take(Request{})
				granted, err := s.GetLock("gate", 0)
				require.NoError(b, err)
				require.True(b, granted)
				b.server.Once("GET_LOCK('a'", &memserver.Reply{Run: true, Number: 3024})
				granted, err = s.GetLockThenLook("a", 95*time.Millisecond)
				require.NoError(b, err)
				require.False(b, granted)
				require.Positive(b, b.server.Holder("a"))
				next(b, s)
				assert.Equal(b, -1, b.server.Holder("a"))
				b.pool.Put(s)
			})
		})
	}
}
