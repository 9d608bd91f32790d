package servers_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func programs(t *testing.T, test func(t *testing.T, kind servers.Kind)) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestServerLife(t *testing.T) {
	programs(t, func(t *testing.T, kind servers.Kind) {
		s := servers.ForTest(t, kind)
		assert.Equal(t, kind, s.Kind())
		product := map[servers.Kind]string{servers.MySQL: "MySQL", servers.MariaDB: "MariaDB"}[kind]
		assert.Regexp(t, "^"+product+` \d+\.\d+\.\d+$`, s.Version())
		assert.Contains(t, strings.ToLower(s.Log()), "ready for connections")
		addr := s.Addr()

		db := s.Open(t, "interpolateParams=true")
		requireLock(t, s)
		_, err := db.Exec("CREATE TABLE kept (id INT)")
		require.NoError(t, err)

		require.NoError(t, s.Pause())
		require.NoError(t, s.Pause(), "paused already")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, db.PingContext(ctx), context.DeadlineExceeded)
		require.NoError(t, s.Resume())
		require.NoError(t, db.Ping())
		require.Error(t, s.Restart(), "while it runs")

		require.NoError(t, s.Kill())
		require.NoError(t, s.Kill(), "killed already")
		require.NoError(t, s.Shutdown(), "killed already")
		require.Error(t, db.Ping())
		require.NoError(t, s.Restart())
		requireLock(t, s)

		require.NoError(t, s.Pause())
		require.NoError(t, s.Shutdown(), "while paused")
		require.Error(t, db.Ping())
		require.NoError(t, s.Restart())
		assert.Equal(t, addr, s.Addr())
		_, err = db.Exec("DROP TABLE kept")
		require.NoError(t, err, "data must survive a restart")

		require.NoError(t, s.Stop())
		require.NoError(t, s.Stop())
		require.Error(t, s.Restart(), "stopped for good")
		require.Error(t, db.Ping())
	})
}

func requireLock(t *testing.T, s *servers.Server) {
	t.Helper()
	conn, err := s.Open(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	var got int
	require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT GET_LOCK(?, ?)", "harness", 0).Scan(&got))
	require.Equal(t, 1, got)
	require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT RELEASE_LOCK(?)", "harness").Scan(&got))
	require.Equal(t, 1, got)
}

func TestArgumentsAndFolders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			s := servers.ForTest(t, kind, servers.WithArgs("--wait-timeout=77", "--max-connections=55"))
			var wait, most int
			require.NoError(t, s.Open(t).QueryRow("SELECT @@global.wait_timeout, @@max_connections").Scan(&wait, &most))
			assert.Equal(t, []int{77, 55}, []int{wait, most})
			require.NoError(t, s.Stop())

			_, err := servers.Start(kind, servers.WithArgs("--no-such-flag"))
			require.ErrorContains(t, err, "no-such-flag", "the log must be in the error")

			left, err := filepath.Glob(filepath.Join(dir, "*"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("NAMEDLOCK_MYSQL_ROOT", t.TempDir())
	t.Setenv("NAMEDLOCK_MARIADB_ROOT", t.TempDir())
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		_, err := servers.Start(kind)
		var missing *servers.MissingError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, kind, missing.Kind)
		assert.ErrorContains(t, err, "fetch.sh")

		file := filepath.Join(t.TempDir(), "skipped")
		t.Setenv(servers.SkippedFile, file)
		t.Setenv("NAMEDLOCK_REQUIRE_SERVERS", "")
		t.Run(string(kind), func(t *testing.T) { servers.SkipOrFail(t, err) })
		skipped, failed := os.ReadFile(file)
		require.NoError(t, failed)
		assert.Equal(t, missing.Error()+"\n", string(skipped))
	}
	_, err := servers.Start("oracle")
	require.Error(t, err)
}

// A running server can be attached to, and Stop leaves it running.
func TestAttach(t *testing.T) {
	mdl := servers.WithArgs("--performance-schema=ON", "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON")
	programs(t, func(t *testing.T, kind servers.Kind) {
		owner := servers.ForTest(t, kind, mdl)
		_, err := owner.Open(t).Exec("DROP DATABASE test")
		require.NoError(t, err)
		s, err := servers.Attach("root@tcp(" + owner.Addr() + ")/?interpolateParams=true")
		require.NoError(t, err)
		assert.Equal(t, kind, s.Kind())
		assert.Equal(t, owner.Version(), s.Version())
		assert.Equal(t, owner.Addr(), s.Addr())
		assert.Equal(t, "root", s.User())
		_, err = s.Open(t, "charset=utf8mb4").Exec("CREATE TABLE ours (id INT)")
		require.NoError(t, err)
		for what, do := range map[string]func() error{"Kill": s.Kill, "Shutdown": s.Shutdown, "Pause": s.Pause, "Resume": s.Resume} {
			require.ErrorIs(t, do(), errors.ErrUnsupported, what)
		}
		require.Error(t, s.Restart())
		require.NoError(t, s.Stop())
		requireLock(t, owner)
	})
	t.Run("bad", func(t *testing.T) {
		t.Parallel()
		for dsn, want := range map[string]string{
			"nonsense":                "invalid DSN",
			"root@unix(/tmp/x.sock)/": "must be reached by TCP",
			"root@tcp(127.0.0.1:1)/":  "connection refused",
		} {
			_, err := servers.Attach(dsn)
			require.ErrorContains(t, err, want, dsn)
		}
	})
	t.Run("says nothing of locks", func(t *testing.T) {
		t.Parallel()
		owner := servers.ForTest(t, servers.MariaDB, servers.WithArgs("--performance-schema=OFF"))
		_, err := servers.Attach(owner.DSN())
		require.ErrorContains(t, err, "--performance-schema=ON")
	})
}

// If another process has taken the port before a restart, Restart returns an
// error.
func TestPortTaken(t *testing.T) {
	s := servers.ForTest(t, servers.MariaDB)
	require.NoError(t, s.Kill())
	l, err := net.Listen("tcp", s.Addr())
	require.NoError(t, err)
	require.ErrorContains(t, s.Restart(), "port taken")
	require.NoError(t, servers.CloseListener(l))
	require.NoError(t, s.Restart())
}

// TestAbandonedFolders: a later process removes the folder of a killed process.
func TestAbandonedFolders(t *testing.T) {
	if os.Getenv("NAMEDLOCK_TEST_SWEEP") != "" {
		servers.ForTest(t, servers.MariaDB)
		return
	}
	if runtime.GOOS == "windows" {
		t.Skip("folders are not locked on Windows")
	}
	s := servers.ForTest(t, servers.MariaDB)
	require.NoError(t, s.Stop())

	dir := t.TempDir()
	abandoned, inUse, foreign := filepath.Join(dir, "namedlock-server-1"), filepath.Join(dir, "namedlock-server-2"), filepath.Join(dir, "other")
	old := time.Now().Add(-time.Hour)
	for _, d := range []string{abandoned, inUse, foreign} {
		require.NoError(t, os.Mkdir(d, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(d, "owner"), nil, 0o600))
	}
	require.NoError(t, os.Chtimes(filepath.Join(abandoned, "owner"), old, old))
	cmd := exec.Command(os.Args[0], "-test.run=^TestAbandonedFolders$")
	cmd.Env = append(os.Environ(), "NAMEDLOCK_TEST_SWEEP=1", "TMPDIR="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.NoDirExists(t, abandoned)
	assert.DirExists(t, inUse)
	assert.DirExists(t, foreign)
}

// TestDeath kills a process that has started servers: they must end with it.
func TestDeath(t *testing.T) {
	if os.Getenv("NAMEDLOCK_TEST_VICTIM") != "" {
		for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
			for _, opts := range [][]servers.Option{nil, {servers.WithUser("nobody")}} {
				if s, err := servers.Start(kind, opts...); err == nil {
					os.Stdout.WriteString("victim " + s.Addr() + "\n")
				}
			}
		}
		os.Stdout.WriteString("victim ready\n")
		select {}
	}
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux do servers end with a killed process")
	}

	dir, err := os.MkdirTemp("", "namedlock-test-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o711), "another user's servers must reach it")
	cmd := exec.Command(os.Args[0], "-test.run=^TestDeath$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "NAMEDLOCK_TEST_VICTIM=1", "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var addrs []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, addr, _ := strings.Cut(lines.Text(), " ")
		if word == "victim" && addr == "ready" {
			break
		} else if word == "victim" {
			addrs = append(addrs, addr)
		}
	}
	for _, addr := range addrs {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		c.Close()
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, addr := range addrs {
		require.Eventually(t, func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err != nil
		}, 5*time.Second, 10*time.Millisecond, "the server at %s outlives its parent", addr)
	}
	t.Logf("%d servers were started and ended", len(addrs))
}
