package recipes

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A holder is deposed, does not notice, and writes after its successor: the
// store refuses it.
func TestFencing(t *testing.T) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			db := servers.ForTest(t, kind).Open(t)
			require.NoError(t, CreateTokens(t.Context(), db))
			open := func() *namedlock.Locker { // by a process of its own
				locker, err := namedlock.Open(db)
				require.NoError(t, err)
				t.Cleanup(func() { _ = locker.Close() })
				return locker
			}
			var store Store
			first, second := open(), open()
			err := first.WithTerm(t.Context(), "job", 0, func(ctx context.Context, term *namedlock.Term) error {
				mine, err := Token(ctx, term, "job")
				require.NoError(t, err)
				require.NoError(t, store.Write(mine, "first"))

				holder, held, err := first.Holder(t.Context(), "job")
				require.NoError(t, err)
				require.True(t, held)
				_, err = db.Exec(fmt.Sprintf("KILL %d", holder.ConnectionID))
				require.NoError(t, err)
				require.NoError(t, second.WithTerm(t.Context(), "job", time.Minute, func(ctx context.Context, term *namedlock.Term) error {
					token, err := Token(ctx, term, "job")
					require.NoError(t, err)
					return store.Write(token, "second")
				}))

				assert.ErrorContains(t, store.Write(mine, "first, too late"), "is stale")
				_, err = Token(context.WithoutCancel(ctx), term, "job")
				assert.ErrorIs(t, err, namedlock.ErrLost, "there is no new token for it")
				return nil
			})
			assert.ErrorIs(t, err, namedlock.ErrLost)
			assert.Equal(t, "second", store.content)
		})
	}
}
