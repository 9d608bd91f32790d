//go:build unix

package command

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// -at-least keeps the lock after the command has ended.
func TestRun_AtLeast(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		began := time.Now()
		p := b.start("run", "-at-least", "1500ms", "-verbose", "x", "--", "sh", "-c", "echo ran; exit 3")
		b.until(func() bool { return strings.Contains(p.stderr.String(), "holding the lock for another ") }, "it holds on")
		assert.NotZero(t, b.holder("x"))
		assert.Equal(t, 3, p.code(), p.stderr.String())
		assert.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond)
		assert.Zero(t, b.holder("x"))

		// It does not delay a command that runs for longer.
		p = b.start("run", "-at-least", "10ms", "-verbose", "x", "--", "sleep", "0.1")
		assert.Equal(t, 0, p.code(), p.stderr.String())
		assert.NotContains(t, p.stderr.String(), "holding the lock for another")

		// A signal ends the holding, and a loss is reported.
		p = b.start("run", "-at-least", "10m", "-verbose", "x", "--", "sh", "-c", "exit 3")
		b.until(func() bool { return strings.Contains(p.stderr.String(), "holding the lock for another ") }, "it holds on")
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		assert.Equal(t, 3, p.code(), "the exit code of the command, which had ended")
		assert.Zero(t, b.holder("x"))
		p = b.start("run", "-at-least", "10m", "-verbose", "x", "--", "true")
		b.until(func() bool { return strings.Contains(p.stderr.String(), "holding the lock for another ") }, "it holds on")
		b.lose("x")
		assert.Equal(t, 70, p.code(), p.stderr.String())
	})
}

// -at-most ends the command, and all processes that it started, before the lock
// is released.
func TestRun_AtMost(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "-at-most", "1s", "x", "--", "sh", "-c", family)
		pids := p.pids(4)
		assert.Equal(t, 124, p.code())
		b.gone(pids...)
		assert.Zero(t, b.holder("x"))
		assert.Equal(t, "namedlock: the command ran for 1s (-at-most); ending it\n", p.stderr.String())

		p = b.start("run", "-at-most", "500ms", "-grace", "100ms", "x", "--", "sh", "-c", "trap '' TERM; while :; do sleep 1000; done")
		assert.Equal(t, 124, p.code())
		assert.Contains(t, p.stderr.String(), "killed the command, which had not ended 100ms after SIGTERM")

		p = b.start("run", "-at-most", "10m", "x", "--", "sh", "-c", "exit 3")
		assert.Equal(t, 3, p.code())
	})
}

func TestRun_DurationsAndFlagsOfFlock(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			says string
			args []string
		}{
			{`invalid value "0" for flag -at-least: a duration is 30s, 1h or 1m30s`, []string{"-at-least", "0", "x", "--", "true"}},
			{`invalid value "forever" for flag -at-most: a duration is 30s, 1h or 1m30s`, []string{"-at-most", "forever", "x", "--", "true"}},
			{"-n is a flag of flock: write -timeout 0", []string{"-n", "x", "--", "true"}},
			{"-w is a flag of flock: write -timeout 7", []string{"-w", "7", "x", "--", "true"}},
			{"-E is a flag of flock: write -exit-busy 9", []string{"-E", "9", "x", "--", "true"}},
			{"-c is a flag of flock: write namedlock run NAME -- sh -c 'COMMAND'", []string{"x", "-c", "true"}},
			{"-s is a flag of flock: MySQL has no shared named locks", []string{"-s", "x", "--", "true"}},
			{"flag provided but not defined: -at-least", nil},
		} {
			args := append([]string{"run"}, c.args...)
			if c.args == nil {
				args = []string{"lead", "-at-least", "1s", "x", "--", "true"}
			}
			p := b.start(args...)
			assert.Equal(t, 64, p.code(), "%q", args)
			assert.Contains(t, p.stderr.String(), c.says, "%q", args)
			assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "%q", args)
		}
	})
}
