//go:build unix

package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/netfault"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// way returns an address that refuses connections, and a function that opens
// the address. From then on it leads to the server.
func (b *bench) way() (addr string, open func() *netfault.Proxy) {
	port, err := servers.FreePort()
	require.NoError(b, err)
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	return addr, func() *netfault.Proxy {
		proxy, err := netfault.ListenAt(addr, b.server.Addr())
		require.NoError(b, err)
		b.Cleanup(func() { _ = proxy.Close() })
		return proxy
	}
}

func (p *process) says(text string) {
	p.b.Helper()
	p.b.until(func() bool { return strings.Contains(p.stderr.String(), text) }, "it says %q", text)
}

// If the server becomes unavailable, a wait continues until -timeout.
func TestRun_WaitsOnThroughAnOutage(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, flags := range [][]string{nil, {"-timeout", "10m"}, {"-quiet"}} {
			addr, open := b.way()
			proxy := open()
			lock := b.hold("x")
			p := b.start(append(append([]string{"run", "-dsn", b.server.DSNAt(addr)}, flags...), "x", "--", "echo", "ran")...)
			b.until(func() bool { return b.waiters("x") == 1 }, "it waits")
			require.NoError(t, proxy.Close())
			b.until(func() bool { return b.waiters("x") == 0 }, "its wait ends")
			if flags == nil {
				p.says("namedlock: lost the server during the wait; still waiting: ")
			}
			open()
			b.until(func() bool { return b.waiters("x") == 1 }, "it waits again: %s", p.stderr.String())
			assert.Empty(t, p.stdout.String())
			require.NoError(t, lock.Release())
			assert.Equal(t, 0, p.code(), p.stderr.String())
			assert.Equal(t, "ran\n", p.stdout.String())
			if flags != nil {
				assert.Empty(t, p.stderr.String(), "%q", flags)
			}
		}

		addr, open := b.way()
		proxy := open()
		b.hold("x")
		p := b.start("run", "-timeout", "3s", "-dsn", b.server.DSNAt(addr), "x", "--", "true")
		b.until(func() bool { return b.waiters("x") == 1 }, "it waits")
		began := time.Now()
		require.NoError(t, proxy.Close()) // and it stays closed
		assert.Equal(t, 69, p.code(), p.stderr.String())
		assert.Less(t, time.Since(began), patience/2)
		p = b.start("run", "-dsn", b.server.DSNAt(addr), "x", "--", "true")
		assert.Equal(t, 69, p.code(), "not there at the start: %s", p.stderr.String())
	})
}

// -retry is how long namedlock repeats its attempts if the server is
// unavailable at the start.
func TestRun_Retry(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		addr, open := b.way()
		p := b.start("run", "-retry", "10m", "-timeout", "0", "-dsn", b.server.DSNAt(addr), "x", "--", "echo", "ran")
		p.says("namedlock: cannot reach the server; retrying (-retry): ")
		open()
		assert.Equal(t, 0, p.code(), p.stderr.String())
		assert.Equal(t, "ran\n", p.stdout.String())
		assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), p.stderr.String())

		addr, _ = b.way()
		began := time.Now()
		p = b.start("run", "-retry", "1.5s", "-dsn", b.server.DSNAt(addr), "x", "--", "true")
		assert.Equal(t, 69, p.code())
		assert.Contains(t, p.stderr.String(), "refused")
		assert.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond)

		for _, dsn := range []string{b.server.DSNAt(b.server.Addr(), "no_such_variable=1"), "nobody:wrong@tcp(" + b.server.Addr() + ")/"} {
			// These errors do not go away with time.
			p = b.start("run", "-retry", "10m", "-dsn", dsn, "x", "--", "true")
			assert.Contains(t, []int{69, 77}, p.code(), p.stderr.String())
			assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), p.stderr.String())
		}
	})
}

// If a server is read-only, as during a failover, namedlock tries again: after
// the start of a wait until -timeout, before it for -retry.
func TestRun_ReadOnlyForAWhile(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		readOnly := func(value int) {
			_, err := b.db.Exec(fmt.Sprintf("SET GLOBAL read_only = %d", value))
			require.NoError(t, err)
		}
		t.Cleanup(func() { readOnly(0) })
		readOnly(1)
		p := b.start("run", "-retry", "10m", "x", "--", "true")
		p.says("read_only")
		readOnly(0)
		assert.Equal(t, 0, p.code(), p.stderr.String())

		lock := b.hold("x")
		p = b.start("run", "x", "--", "echo", "ran")
		b.until(func() bool { return b.waiters("x") == 1 }, "it waits")
		readOnly(1)
		var id int64
		require.NoError(t, b.db.QueryRow("SELECT id FROM information_schema.processlist WHERE state = 'User lock'").Scan(&id))
		require.NoError(t, locksql.Kill(t.Context(), b.db, id))
		p.says("still waiting: ")
		readOnly(0)
		_ = lock.Release() // its keep-alive may have found the server read-only
		assert.Equal(t, 0, p.code(), p.stderr.String())
		assert.Equal(t, "ran\n", p.stdout.String())
	})
}

// An error in the DSN is reported at the start, also under -quiet, since it
// does not go away with time.
func TestLead_Mistakes(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for says, dsn := range map[string]string{
			"no_such_database": b.server.DSN()[:strings.LastIndex(b.server.DSN(), "/")] + "/no_such_database",
			"no_such_variable": b.server.DSN("no_such_variable=1"),
			"sql_mode":         b.server.DSN("sql_mode=%27no_such_mode%27"),
			// The certificate cannot be verified, or does not exist.
			"": b.server.DSN("tls=true"),
		} {
			for _, quiet := range []string{"-quiet", "-verbose"} {
				p := b.start("lead", quiet, "-dsn", dsn, "x", "--", "true")
				assert.Equal(t, 64, p.code(), "%s: %s", dsn, p.stderr.String())
				assert.Contains(t, p.stderr.String(), says)
				assert.NotEmpty(t, p.stderr.String())
			}
		}
		addr, open := b.way() // the server's first answer contains the error
		p := b.start("lead", "-dsn", b.server.DSNAt(addr, "no_such_variable=1"), "x", "--", "true")
		p.says("cannot reach a writable server")
		open()
		assert.Equal(t, 64, p.code(), p.stderr.String())
	})
}

// After an outage lead reports that it leads, or leads again.
func TestLead_SaysThatItLeads(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		addr, open := b.way()
		args := []string{"-dsn", b.server.DSNAt(addr), "x", "--", "sh", "-c", "echo $$; exec sleep 1000"}
		p := b.start(append([]string{"lead"}, args...)...)
		p.says("namedlock: cannot reach a writable server")
		proxy := open()
		p.says("namedlock: leading, connection ")
		require.NoError(t, proxy.Close())
		p.says("namedlock: lost the lock, ending the command: ")
		open()
		p.says("namedlock: leading again, connection ")
		require.NoError(t, p.Process.Kill())
		b.free("x")

		quiet := b.start(append([]string{"lead", "-quiet"}, args...)...)
		quiet.pids(1)
		assert.Empty(t, quiet.stderr.String())
		require.NoError(t, quiet.Process.Kill())
		b.free("x")
		undisturbed := b.start(append([]string{"lead"}, args...)...)
		undisturbed.pids(1)
		assert.Empty(t, undisturbed.stderr.String())
	})
}
