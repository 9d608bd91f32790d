package embedded_test

import (
	"errors"
	"testing"

	"github.com/go-namedlock/namedlock/e2e/servers"
	_ "github.com/go-namedlock/namedlock/e2e/servers/embedded"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServerLife(t *testing.T) {
	s := servers.ForTest(t, servers.Embedded)
	assert.Equal(t, servers.Embedded, s.Kind())
	assert.Regexp(t, `^go-mysql-server \d+\.\d+`, s.Version())

	db := s.Open(t)
	for _, end := range []func() error{s.Kill, s.Shutdown} {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		var got int
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT GET_LOCK(?, ?)", "harness", 0).Scan(&got))
		require.Equal(t, 1, got)

		require.NoError(t, end())
		require.Error(t, conn.PingContext(t.Context()), "a held connection must end with the server")
		conn.Close()
		require.Error(t, db.Ping())
		require.NoError(t, s.Restart())
	}
	assert.True(t, errors.Is(s.Pause(), errors.ErrUnsupported))
	require.NoError(t, s.Stop())
	require.Error(t, db.Ping())

	_, err := servers.Start(servers.Embedded, servers.WithArgs("--port=1"))
	require.Error(t, err)
}
