package e2e

import (
	"context"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/require"
)

// behind returns the server behind a proxy that only this test uses.
func behind(t *testing.T, srv *server, kind servers.Kind) *server {
	t.Helper()
	p, err := servers.StartProxy(kind, servers.Backend{Addr: srv.Server.Addr()})
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", kind, p.Log())
		}
		if err := p.Stop(); err != nil {
			t.Errorf("stop %s: %v", kind, err)
		}
	})
	return &server{Server: srv.Server, proxy: p, admin: srv.admin}
}

// If the client sends COM_QUIT, MySQL Router's connection pool keeps the
// server's session, with its locks. Therefore a session that may hold a lock
// ends without COM_QUIT.
func TestPromise16_NoGoodbyeThroughAPool(t *testing.T) {
	onEachServer(t, func(t *testing.T, srv *server) {
		if srv.Kind() != servers.MySQL {
			return // Router is only for MySQL
		}
		at := setup{behind(t, srv, servers.RouterPool), byNew}
		l := at.locker(t)
		gone, other := newName("gone"), newName("other")
		kept, err := l.Acquire(t.Context(), other, 0)
		require.NoError(t, err)
		err = l.WithLock(t.Context(), gone, 0, func(ctx context.Context) error {
			_, err := l.conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", gone)
			return err
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		require.ErrorIs(t, kept.Release(), namedlock.ErrLost)
		require.True(t, srv.foreign(t).get(other, int(patience.Seconds())), "the session has ended, and with it its other lock")
	})
}
