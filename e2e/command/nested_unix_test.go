//go:build unix

package command

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The recipe of a script that acquires its own lock: whatever the script runs
// under, it runs once, under that lock.
func TestScriptThatTakesItsOwnLock(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		r := b.recipes()
		script := filepath.Join(r.bin, "script")
		executable(t, script, r.block("sh", "exec namedlock"))
		for _, c := range []struct{ under, names string }{
			{"", "report"},
			{"run report --", "report"},
			{"run other report --", "other\nreport"},
			{"run report -- namedlock run other --", "report\nother"},
			{"run other -- namedlock lead more --", "other\nmore\nreport"},
			{"run other -- namedlock run report -- setsid -w", "other\nreport"},
			{"lead report --", "report"},
		} {
			argv := append(strings.Fields("namedlock "+c.under), script, "arg")
			if c.under == "" {
				argv = []string{"script", "arg"}
			}
			out, err := r.command(argv...).CombinedOutput()
			assert.NoError(t, err, "%s: %s", c.under, out)
			assert.Equal(t, c.names+": arg\n", r.written(), c.under)
		}

		// An environment that is left over from another lock has no effect.
		lock := b.hold("report")
		env, err := r.command("namedlock", "run", "report2", "--", "env").Output()
		require.NoError(t, err)
		for _, stale := range [][]string{
			{"NAMEDLOCK_NAME=report"},
			// The keeper of this environment has ended.
			strings.Split(strings.ReplaceAll(string(env), "report2", "report"), "\n"),
		} {
			cmd := r.command("script")
			cmd.Env = append(cmd.Env, stale...)
			out, _ := cmd.CombinedOutput()
			assert.Equal(t, 75, cmd.ProcessState.ExitCode(), "%q: %s", stale, out)
			assert.Empty(t, r.written())
		}
		living := b.start("run", "alive", "--", "sh", "-c", "env; echo end; exec sleep 1000")
		b.until(func() bool { return strings.Contains(living.stdout.String(), "end\n") }, "it runs")
		cmd := r.command("namedlock", "held", "alive") // the outer namedlock has not started this process
		cmd.Env = append(cmd.Env, strings.Split(living.stdout.String(), "\n")...)
		assert.Error(t, cmd.Run())
		assert.Equal(t, 1, cmd.ProcessState.ExitCode())
		cmd = r.command("namedlock", "run", "free", "--", "sh", "-c", "echo $NAMEDLOCK_NAME")
		cmd.Env = append(cmd.Env, "NAMEDLOCK_NAME=stale")
		out, err := cmd.Output()
		require.NoError(t, err)
		assert.Equal(t, "free\n", string(out))
		require.NoError(t, lock.Release())
	})
}

// If an outer namedlock holds the name, namedlock reports that, and does not
// wait for itself.
func TestNested(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, inner := range []string{"run x", "run -timeout 0 -exit-busy 0 -quiet y x", "lead X"} {
			p := b.prepare("run", "x", "--", "sh", "-c", "'"+binary+"' "+inner+" -- echo ran; echo code $?")
			p.launch()
			assert.Equal(t, 0, p.code())
			assert.Equal(t, "code 64\n", p.stdout.String(), inner)
			assert.Contains(t, p.stderr.String(), "this process already runs under ", inner)
		}
		p := b.start("run", "x", "--", "sh", "-c", `"$0" held x && "$0" held X; echo $?; "$0" held y; echo $?; "$0" held -dsn 'root@tcp(other:1)/' x; echo $?`, binary)
		assert.Equal(t, 0, p.code())
		assert.Equal(t, []string{"0", "1", "1"}, lines(p), p.stderr.String())
	})
}

// The same name on another server is another lock. The servers take turns: the
// end of a parallel subtest would kill the sessions on its server.
func TestNested_OnAnotherServer(t *testing.T) {
	running := make(map[servers.Kind]*servers.Server)
	for _, kind := range kinds {
		server, err := shared[kind]()
		if err != nil {
			servers.SkipOrFail(t, err)
		}
		running[kind] = server
	}
	for kind, server := range running {
		for otherKind, other := range running {
			if otherKind == kind {
				continue
			}
			b := &bench{t, server, server.Open(t)}
			name := "both from " + string(kind)
			p := b.prepare("run", name, "--", "sh", "-c", `NAMEDLOCK_DSN=$OTHER exec "$0" run "$1" -- sh -c 'echo "$NAMEDLOCK_NAME"'`, binary, name)
			p.Env = append(p.Env, "OTHER="+other.DSN())
			p.launch()
			assert.Equal(t, 0, p.code(), p.stderr.String())
			assert.Equal(t, name+"\n", p.stdout.String())
		}
	}
}

// A script without #! is run by sh. A file that is neither is not executable.
func TestScriptWithoutInterpreter(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		script := filepath.Join(t.TempDir(), "script")
		for text, want := range map[string]string{"echo \"$0 $*\"": script + " one two\n", "": ""} {
			executable(t, script, text)
			for _, verb := range []string{"run", "lead"} {
				p := b.start(verb, "x", "--", script, "one", "two")
				assert.Equal(t, 0, p.code(), p.stderr.String())
				assert.Equal(t, want, p.stdout.String())
			}
			out, err := exec.Command("timeout", "60", script, "one", "two").Output()
			require.NoError(t, err)
			assert.Equal(t, want, string(out), "as timeout has it")
		}
		executable(t, script, "echo\x00")
		p := b.start("run", "x", "--", script)
		assert.Equal(t, 126, p.code())
		assert.Contains(t, p.stderr.String(), "exec format error")
	})
}
