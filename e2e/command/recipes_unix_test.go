//go:build unix

package command

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recipes are those of docs/COMMAND.md, with the programs that they need.
type recipes struct {
	*bench
	page string
	bin  string // contains namedlock, and the programs that the recipes run
	out  string // the file that these programs write to
}

func (b *bench) recipes() *recipes {
	page, err := os.ReadFile("../../docs/COMMAND.md")
	require.NoError(b, err)
	r := &recipes{b, string(page), b.TempDir(), filepath.Join(b.TempDir(), "out")}
	require.NoError(b, os.Symlink(binary, filepath.Join(r.bin, "namedlock")))
	for name, script := range map[string]string{
		"make-report": `echo "$NAMEDLOCK_NAME: $*" >>"$OUT"`,
		"scheduler":   `echo "$NAMEDLOCK_NAME: $*" >>"$OUT"; exec sleep 1000`,
	} {
		executable(b, filepath.Join(r.bin, name), "#!/bin/sh\n"+script+"\n")
	}
	return r
}

// block returns the text of the page's only block in the given language that
// contains has.
func (r *recipes) block(language, has string) string {
	r.Helper()
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(r.page, -1) {
		if strings.Contains(m[1], has) {
			found = append(found, m[1])
		}
	}
	require.Len(r, found, 1, "%s with %s", language, has)
	return found[0]
}

func (r *recipes) command(argv ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.bin, argv[0]), argv[1:]...)
	if filepath.IsAbs(argv[0]) {
		cmd = exec.Command(argv[0], argv[1:]...)
	}
	// The environment is as small as under cron and systemd.
	cmd.Env = []string{"PATH=" + r.bin + ":/usr/bin:/bin", "OUT=" + r.out, "NAMEDLOCK_DSN=" + r.server.DSN()}
	return cmd
}

// written returns the text that the commands have written, and deletes it. No
// command is running any more.
func (r *recipes) written() string {
	text, _ := os.ReadFile(r.out)
	_ = os.Remove(r.out)
	return string(text)
}

// try runs a recipe while the lock is free, and while the lock is held.
func (r *recipes) try(codeIfBusy int, writes string, cmd func() *exec.Cmd) {
	r.Helper()
	out, err := cmd().CombinedOutput()
	require.NoError(r, err, "%s", out)
	assert.Equal(r, writes, r.written())
	lock := r.hold("report")
	run := cmd()
	out, _ = run.CombinedOutput()
	assert.Equal(r, codeIfBusy, run.ProcessState.ExitCode(), "%s", out)
	assert.Empty(r, r.written())
	require.NoError(r, lock.Release())
}

func TestRecipes(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		r := b.recipes()

		schedule, line, _ := strings.Cut(r.block("crontab", "run"), " namedlock ")
		require.Equal(t, "*/5 * * * *", schedule)
		require.NotContains(t, line, "%", "a newline, for cron")
		require.Contains(t, line, " -at-least 10s ")
		line = strings.Replace(line, "10s", "10ms", 1)
		r.try(0, "report: \n", func() *exec.Cmd { return r.command("/bin/sh", "-c", "namedlock "+line) })

		r.try(75, "report: \n", func() *exec.Cmd { return r.command(execStart(t, r.block("ini", "report.service"))...) })

		argv := regexp.MustCompile(`(?m)^ *command: (.*)$`).FindStringSubmatch(r.block("yaml", "CronJob"))
		var command []string
		require.NoError(t, json.Unmarshal([]byte(argv[1]), &command))
		r.try(0, "report: \n", func() *exec.Cmd { return r.command(command...) })

		script := filepath.Join(r.bin, "script")
		executable(t, script, r.block("sh", "exec namedlock"))
		r.try(75, "report: one two\n", func() *exec.Cmd { return r.command("script", "one", "two") })

		service := r.command(execStart(t, r.block("ini", "scheduler.service"))...)
		require.NoError(t, service.Start())
		t.Cleanup(func() { _ = service.Process.Kill() })
		r.until(func() bool {
			written, _ := os.ReadFile(r.out)
			return strings.HasSuffix(string(written), "\n")
		}, "the scheduler runs")
		assert.Equal(t, "scheduler: --every 5m\n", r.written())
		require.NoError(t, service.Process.Signal(os.Interrupt))
		_ = service.Wait()
		assert.Equal(t, 130, service.ProcessState.ExitCode())
	})
}

// execStart returns the words of the unit's ExecStart.
func execStart(t *testing.T, unit string) []string {
	m := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	require.NotNil(t, m)
	return strings.Fields(m[1])
}
