//go:build unix

package command

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lines returns the lines that the processes have printed.
func lines(processes ...*process) (all []string) {
	for _, p := range processes {
		all = append(all, strings.Fields(p.stdout.String())...)
	}
	return all
}

// runningOf returns how many of the processes with a printed id are running.
func runningOf(t *testing.T, processes ...*process) (n int) {
	for _, line := range lines(processes...) {
		if alive(number(t, line)) {
			n++
		}
	}
	return n
}

// One of two leads. After a loss the command runs again, under either process.
// After the leader's death it runs under the other.
func TestLead_RunsAgainAfterALoss(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		const command = `echo $$; exec sleep 1000`
		both := []*process{b.start("lead", "x", "--", "sh", "-c", command), b.start("lead", "x", "--", "sh", "-c", command)}
		runs := func(n int) {
			t.Helper()
			b.until(func() bool { return len(lines(both...)) == n }, "%d runs: %q", n, lines(both...))
		}
		runs(1)
		b.lose("x")
		runs(2)
		// The other process may lead before the deposed one has printed this.
		b.until(func() bool {
			return strings.Contains(both[0].stderr.String()+both[1].stderr.String(), "lost the lock, ending the command")
		}, "the loss is reported")
		b.until(func() bool { return runningOf(t, both...) == 1 }, "the deposed one has ended it")
		leader, other := both[0], both[1]
		if pids := lines(other); len(pids) > 0 && alive(number(t, pids[len(pids)-1])) {
			leader, other = other, leader
		}
		last := len(lines(other))
		require.NoError(t, leader.Process.Kill())
		b.until(func() bool { return len(lines(other)) > last }, "the other one runs it")
		b.gone(number(t, lines(leader)[len(lines(leader))-1]))

		require.NoError(t, other.Process.Signal(syscall.SIGTERM))
		assert.Equal(t, 143, other.code())
		b.free("x")
	})
}

// A command that fails runs again after a pause, in which another process may
// lead.
func TestLead_RunsAgainAfterAFailure(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("lead", "x", "--", "sh", "-c", "echo $$; exit 3")
		b.until(func() bool { return strings.Count(p.stderr.String(), "exit code 3; trying to lead again in ") == 3 }, "three times")
		for _, pause := range []string{"in 1s\n", "in 2s\n", "in 4s\n"} {
			assert.Contains(t, p.stderr.String(), pause)
		}
		assert.Len(t, p.pids(3), 3) // standard output may be read later than standard error
		lock := b.hold("x")         // without waiting for p to end
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		assert.Equal(t, 143, p.code(), "a signal ends the pause")
		require.NoError(t, lock.Release())

		service := filepath.Join(t.TempDir(), "service")
		install := func() { executable(t, service, "#!/bin/sh\necho $$\nexit 3\n") }
		install()
		p = b.start("lead", "x", "--", service)
		b.until(func() bool { return len(lines(p)) == 1 }, "it runs")
		require.NoError(t, os.Remove(service)) // during the pause
		b.until(func() bool { return strings.Contains(p.stderr.String(), "exit code 127; trying to lead again") }, "it is missing")
		install()
		b.until(func() bool { return len(lines(p)) == 2 }, "it runs again")

		quiet := b.start("lead", "-quiet", "x", "--", "sh", "-c", "echo $$; exit 3")
		b.until(func() bool { return len(lines(quiet)) == 2 }, "two runs")
		assert.Empty(t, quiet.stderr.String())
	})
}

// lead ends when the command has succeeded, or was asked to end. A signal that
// the command survives changes nothing.
func TestLead_Ends(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		assert.Equal(t, 0, b.start("lead", "x", "--", "true").code())
		for _, c := range []struct {
			trap string
			sig  syscall.Signal
			code int
		}{
			{":", syscall.SIGTERM, 143},
			{":", syscall.SIGINT, 130},
			{":", syscall.SIGHUP, 129},
			{"trap 'exit 7' TERM", syscall.SIGTERM, 7},
			{"trap 'exit 0' HUP", syscall.SIGHUP, 0},
		} {
			p := b.start("lead", "x", "--", "sh", "-c", c.trap+"; echo $$; while :; do sleep 0.05; done")
			p.pids(1)
			require.NoError(t, p.Process.Signal(c.sig))
			assert.Equal(t, c.code, p.code(), "%q %v", c.trap, c.sig)
			assert.Len(t, lines(p), 1)
			b.free("x")
		}

		p := b.start("lead", "x", "--", "sh", "-c", "trap 'echo reloads' HUP; echo begins; while :; do sleep 0.05; done")
		b.until(func() bool { return len(lines(p)) == 1 }, "it runs")
		require.NoError(t, p.Process.Signal(syscall.SIGHUP))
		b.until(func() bool { return len(lines(p)) == 2 }, "it reloads")
		b.lose("x")
		b.until(func() bool { return len(lines(p)) == 3 }, "it runs again")
		assert.Equal(t, []string{"begins", "reloads", "begins"}, lines(p))

		lock := b.hold("y")
		waits := b.start("lead", "y", "--", "true")
		b.until(func() bool { return b.waiters("y") > 0 }, "it waits")
		// An operator sends SIGHUP to all machines, so that the leader reloads.
		require.NoError(t, waits.Process.Signal(syscall.SIGHUP))
		require.NoError(t, waits.Process.Signal(syscall.SIGTERM))
		assert.Equal(t, 143, waits.code(), "a signal ends the wait")
		require.NoError(t, lock.Release())
	})
}

func TestLead_ExitCodes(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		notACommand := filepath.Join(t.TempDir(), "file")
		executable(t, notACommand, "?\x00")
		for _, c := range []struct {
			code int
			says string
			args []string
		}{
			{64, "lead takes exactly one lock name, got 2", []string{"a", "b", "--", "true"}},
			{64, "not defined: -timeout", []string{"-timeout", "5s", "a", "--", "true"}},
			{64, "namedlock lead NAME -- COMMAND", []string{"a", "true"}},
			{64, "xxx", []string{strings.Repeat("x", 65), "--", "true"}},
			{77, "Access denied", []string{"-dsn", "nobody:wrong@tcp(" + b.server.Addr() + ")/", "a", "--", "true"}},
			{127, "no-such-command", []string{"a", "--", "no-such-command"}},
			{126, "exec format error", []string{"a", "--", notACommand}},
		} {
			p := b.start(append([]string{"lead"}, c.args...)...)
			assert.Equal(t, c.code, p.code(), "%q", c.args)
			assert.Contains(t, p.stderr.String(), c.says, "%q", c.args)
			assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", p.stderr.String())
		}
	})
}

// lead waits for a server that is not running yet, and logs that.
func TestLead_WaitsForTheServer(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		addr, open := b.way()
		p := b.start("lead", "-dsn", b.server.DSNAt(addr), "x", "--", "echo", "runs")
		b.until(func() bool { return strings.Contains(p.stderr.String(), "cannot reach a writable server") }, "it tells")
		open()
		assert.Equal(t, 0, p.code())
		assert.Equal(t, []string{"runs"}, lines(p))
	})
}

func TestLead_Terminal(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		s := b.shell()
		s.types("$NL lead x -- sed -u 's/^/got /'\n")
		s.types("words\n")
		s.shows("got words")
		s.interrupts(130)
		require.Zero(t, b.holder("x"))

		s.types("$NL lead x -- sh -c 'echo r\"\"eady; exit 3'\n")
		s.shows("ready")
		s.shows("trying to lead again")
		s.interrupts(130) // during the pause
	})
}
