//go:build unix

package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// Text of a server, of another session, or in a name reaches the terminal with
// its control characters escaped.
func TestTextOfStrangers(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		const evil = "\x1b]0;evil\x07\r\nnamedlock: forged \u009b31m\u202e"
		assertClean := func(p *process, what string) {
			t.Helper()
			text := p.stdout.String() + p.stderr.String()
			assert.NotEmpty(t, text, what)
			assert.NotContains(t, text, "\nnamedlock: forged", what)
			for _, r := range "\x1b\x07\r\u009b\u202e" {
				assert.NotContains(t, text, string(r), what)
			}
		}
		name := evil[:len("\x1b]0;evil\x07\r\n")] + "name"
		holder := b.prepare("run", "-verbose", name, "--", "sleep", "1000")
		holder.Env = append(holder.Env, "NAMEDLOCK_DSN="+b.server.DSN()+connectionAttributes(b.server.DSN(), "program_name:"+evil))
		holder.launch()
		b.until(func() bool { return strings.Contains(holder.stderr.String(), "running ") }, "it runs")
		assertClean(holder, "run -verbose")
		for _, args := range [][]string{
			{"run", "-timeout", "0", name, "--", "true"},
			{"run", "-timeout", "1.5s", "-verbose", "a", name, "--", "true"},
			{"holder", name}, {"holder", "-json", name}, {"list"}, {"list", "-json"},
			{"run", evil}, {"run", "-" + evil, "x", "--", "true"}, {"walk" + evil}, {"check", evil},
			{"run", "x", "--", "no-such" + evil},
		} {
			p := b.start(args...)
			p.code()
			assertClean(p, fmt.Sprintf("%q", args))
			if p.stdout.String() == "" && !strings.Contains(strings.Join(args, " "), "-verbose") {
				assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "%q: %s", args, p.stderr.String())
			}
		}

		// The server's error quotes the database name from the DSN.
		p := b.start("check", "-dsn", b.server.DSN()[:strings.LastIndex(b.server.DSN(), "/")]+"/no%1b%0d%0anamedlock: forged")
		assert.NotZero(t, p.code())
		assertClean(p, "an unknown database")
		if b.server.Kind() == servers.MySQL { // MariaDB escapes the name itself
			assert.Contains(t, p.stderr.String(), `\x1b`)
		}
	})
}

// connectionAttributes returns the text that adds the attributes to a DSN.
func connectionAttributes(dsn, attributes string) string {
	before := "?"
	if strings.Contains(dsn, "?") {
		before = "&"
	}
	escaped := ""
	for _, c := range []byte(attributes) {
		escaped += fmt.Sprintf("%%%02x", c)
	}
	return before + "connectionAttributes=" + escaped
}

// Processes that the command left running are ended, and reported by name.
func TestLeftBehind(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "x", "--", "setsid", "sleep", "1000")
		assert.Equal(t, 0, p.code())
		assert.Regexp(t, `^namedlock: ending processes that the command left behind: (sleep|setsid) \(\d+\)\n$`, p.stderr.String())

		p = b.start("run", "x", "--", "sh", "-c", `for i in 1 2 3 4 5 6 7; do sleep 1000 & echo $!; done; exit 5`)
		assert.Equal(t, 5, p.code())
		assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), p.stderr.String())
		assert.Regexp(t, `((sleep|sh) \(\d+\), ){5}2 more\n$`, p.stderr.String())
		b.gone(p.pids(7)...)

		p = b.start("lead", "x", "--", "sh", "-c", `sleep 1000 & echo $!`)
		assert.Equal(t, 0, p.code())
		assert.Contains(t, p.stderr.String(), fmt.Sprintf(" (%d)", p.pids(1)[0]))

		p = b.start("run", "-quiet", "x", "--", "sh", "-c", "sleep 1000 &")
		assert.Equal(t, 0, p.code())
		assert.Empty(t, p.stderr.String())
	})
}

// A loss is reported once, in one line with one prefix.
func TestALossIsToldOnce(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, verb := range []string{"run", "lead"} {
			p := b.start(verb, "x", "--", "sh", "-c", "echo $$; exec sleep 1000")
			b.gone(func() []int { pids := p.pids(1); b.lose("x"); return pids }()...)
			if verb == "run" {
				assert.Equal(t, 70, p.code())
			} else {
				b.until(func() bool { return strings.Contains(p.stderr.String(), "namedlock: leading again, connection ") }, "it leads again")
				require.NoError(t, p.Process.Signal(os.Interrupt))
				assert.Equal(t, 130, p.code())
			}
			text := p.stderr.String()
			assert.Equal(t, 1, strings.Count(text, "lost the lock, ending the command"), text)
			for line := range strings.Lines(text) {
				assert.Equal(t, 1, strings.Count(line, "namedlock: "), line)
				if !strings.Contains(line, "leading again") {
					assert.Contains(t, line, "namedlock: lost the lock, ending the command", text)
				}
			}
		}

		// If the command has ended, the release of the lock detects the loss.
		for _, verb := range []string{"run", "lead"} {
			const rest = `trap exit USR1; trap "" TERM; echo $$; echo >"$0"; while :; do sleep 0.05; done`
			begun := filepath.Join(t.TempDir(), "begun")
			p := b.start(verb, "-grace", "60s", "x", "--", "sh", "-c", "setsid sh -c '"+rest+"' $0 & until [ -e $0 ]; do sleep 0.05; done; exit 3", begun)
			pids := p.pids(1)
			b.until(func() bool { return strings.Contains(p.stderr.String(), "processes that the command left behind") }, "the rest is asked to end")
			b.lose("x")
			require.NoError(t, syscall.Kill(pids[0], syscall.SIGUSR1))
			if verb == "run" {
				assert.Equal(t, 70, p.code())
			} else {
				b.until(func() bool { return strings.Contains(p.stderr.String(), "leading again") }, "it leads again")
			}
			assert.Equal(t, 1, strings.Count(p.stderr.String(), "namedlock: lost"), p.stderr.String())
			assert.Equal(t, strings.Count(p.stderr.String(), "\n"), strings.Count(p.stderr.String(), "namedlock: "), p.stderr.String())
		}
	})
}

func TestEachHelpIsItsOwn(t *testing.T) {
	for _, verb := range []string{"run", "lead", "held", "holder", "list", "check", "completion"} {
		for _, args := range [][]string{{verb, "-h"}, {verb, "--help"}, {"help", verb}} {
			out, err := exec.Command(binary, args...).CombinedOutput()
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(string(out), "usage: namedlock "+verb+" "), "%s", out)
			assert.Equal(t, verb == "run", strings.Contains(string(out), "-exit-busy"), verb)
		}
	}
}

// An option file that another user may have written is refused. If other users
// can read its password, namedlock prints a warning.
func TestOptionFile_Permissions(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		file := filepath.Join(t.TempDir(), "my.cnf")
		host, port, _ := strings.Cut(b.server.Addr(), ":")
		text := fmt.Sprintf("[client]\nhost=%s\nport=%s\nuser=%s\n", host, port, b.server.User())
		for _, c := range []struct {
			mode     os.FileMode
			password bool
			uid      int
			code     int
			says     string
		}{
			{0o600, true, -1, 0, ""},
			{0o640, true, -1, 0, ""},
			{0o644, false, -1, 0, ""},
			{0o644, true, -1, 0, "namedlock: warning: all users can read the password in " + file + "; run chmod 600 " + file + "\n"},
			{0o660, true, -1, 64, "is group-writable; run chmod 600 "},
			{0o602, true, -1, 64, "is world-writable; run chmod 600 "},
			{0o600, true, 4711, 64, "belongs to another user (id 4711)"},
		} {
			if c.uid >= 0 && os.Getuid() != 0 {
				continue
			}
			text := text
			if c.password {
				text += "password=\"\"\n"
			}
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			require.NoError(t, os.Chmod(file, c.mode))
			require.NoError(t, os.Chown(file, c.uid, -1))
			for _, args := range [][]string{{"run", "-defaults-file", file, "x", "--", "true"}, {"check", "-defaults-file", file}, {"lead", "-defaults-file", file, "x", "--", "true"}} {
				p := b.start(args...)
				assert.Equal(t, c.code, p.code(), "%o %q: %s", c.mode, args, p.stderr.String())
				if c.says == "" {
					assert.Empty(t, p.stderr.String(), "%o %q", c.mode, args)
				}
				assert.Contains(t, p.stderr.String(), c.says, "%o %q", c.mode, args)
				assert.LessOrEqual(t, strings.Count(p.stderr.String(), "\n"), 1)
			}
			require.NoError(t, os.Remove(file))
		}
	})
}
