package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// If a limit is too low for namedlock, the error is one line. Below about 8
// processes, or 1.5 GB, the Go runtime may not reach main.
func TestLimits(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil || os.Getuid() != 0 {
		servers.Missing(t, "setpriv, as root")
	}
	onServers(t, func(t *testing.T, b *bench) {
		open := filepath.Join("/tmp", fmt.Sprintf("namedlock-limits-%d-%s", os.Getpid(), b.server.Kind()))
		// The binary is built like an installed one. The race detector and cgo need
		// more threads and memory before main begins.
		build := exec.Command("go", "build", "-race=false", "-o", open, "github.com/go-namedlock/namedlock/cmd/namedlock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
		require.NoError(t, os.Chmod(open, 0o755)) // so that another user can run it
		t.Cleanup(func() { _ = os.Remove(open) })
		uid := 61000 + os.Getpid()%1000 // a user without other processes
		if b.server.Kind() == servers.MySQL {
			uid += 1000
		}
		run := func(limit string) {
			t.Helper()
			script := fmt.Sprintf("ulimit %s; exec setpriv --reuid=%d --clear-groups %s run x -- true", limit, uid, open)
			cmd := exec.Command("bash", "-c", script)
			cmd.Env = []string{"NAMEDLOCK_DSN=" + b.server.DSN(), "PATH=" + os.Getenv("PATH")}
			out, _ := cmd.CombinedOutput()
			switch code := cmd.ProcessState.ExitCode(); code {
			case 0:
				assert.Empty(t, string(out), limit)
			case 69, 126:
				assert.True(t, strings.HasPrefix(string(out), "namedlock: "), "%s: %s", limit, out)
				assert.Equal(t, 1, strings.Count(string(out), "\n"), "%s: %s", limit, out)
			default:
				assert.Fail(t, "an unexpected exit code", "%s: %d: %s", limit, code, out)
			}
			b.free("x")
		}
		for n := 10; n < 40; n += 3 {
			run(fmt.Sprintf("-u %d", n))
		}
		for space := 1_600_000; space < 3_000_000; space += 100_000 {
			run(fmt.Sprintf("-v %d", space))
		}
	})
}
