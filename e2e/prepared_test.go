package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A session keeps at most two statements prepared, whatever waits and
// keep-alives come in between. None is left when the connection is returned: a
// server limits their number (max_prepared_stmt_count).
func TestPromise24_NothingStaysPrepared(t *testing.T) {
	t.Parallel()
	// The count is that of the whole server.
	onPrivateServers(t, func(t *testing.T, srv *server) {
		for _, way := range []string{byNew, byOpen} {
			t.Run(way, func(t *testing.T) {
				at := setup{srv, way}
				l, name := at.locker(t, namedlock.WithKeepAlive(calm())), newName("prepared")
				f := at.foreign(t)
				require.True(t, f.number("SELECT GET_LOCK('"+name+"', 0)") == 1)
				prepared := func() (n int64) {
					var what string
					row := srv.admin.QueryRowContext(background, "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'")
					require.NoError(t, row.Scan(&what, &n))
					return n
				}
				// Cycles, waits that run out in slices, keep-alives.
				for _, timeout := range []time.Duration{calm() / 8, calm() + calm()/4} {
					err := l.WithLock(t.Context(), name+"outer", 0, func(ctx context.Context) error {
						return l.WithLock(ctx, name, timeout, nothing)
					})
					requireError(t, err, namedlock.ErrTimeout, name)
				}
				assert.LessOrEqual(t, prepared(), int64(2*l.db.Stats().OpenConnections))
				require.NoError(t, l.Close())
				eventually(t, func() bool { return prepared() == 0 }, "no statement stays prepared")
			})
		}
	})
}
