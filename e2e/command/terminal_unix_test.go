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
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A shell has job control, and runs on a terminal.
type shell struct {
	b   *bench
	pid int
	tty *os.File
	out lockedBuffer

	past string // output that shows has removed from out
}

// all returns everything that the terminal has shown.
func (s *shell) all() string { return s.past + s.out.String() }

func (b *bench) shell() *shell {
	b.Helper()
	cmd := exec.Command("bash", "--norc", "--noprofile", "-i")
	cmd.Env = append(os.Environ(), "NAMEDLOCK_DSN="+b.server.DSN(), "PS1=$ ", "TERM=dumb",
		"NL=namedlock", "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "HISTFILE=")
	return b.onTerminal(cmd)
}

// onTerminal starts a shell, which ends with the test.
func (b *bench) onTerminal(cmd *exec.Cmd) *shell {
	b.Helper()
	tty, err := pty.Start(cmd)
	require.NoError(b, err)
	s := &shell{b: b, pid: cmd.Process.Pid, tty: tty}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for buf := make([]byte, 4096); ; {
			n, err := tty.Read(buf)
			_, _ = s.out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = tty.Close()
		<-read
	})
	return s
}

func (s *shell) types(text string) {
	s.b.Helper()
	_, err := s.tty.WriteString(text)
	require.NoError(s.b, err)
}

// foreground returns the process group that receives the keys.
func (s *shell) foreground() int {
	s.b.Helper()
	var group int
	raw, err := s.tty.SyscallConn()
	require.NoError(s.b, err)
	require.NoError(s.b, raw.Control(func(fd uintptr) { group, err = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) }))
	require.NoError(s.b, err)
	return group
}

// shows waits for a text, and removes the output up to its end.
func (s *shell) shows(text string) {
	s.b.Helper()
	if !assert.Eventually(s.b, func() bool { return strings.Contains(s.out.String(), text) }, patience, 5*time.Millisecond) {
		require.FailNow(s.b, "the terminal does not show "+text, "in the foreground: group %d, the shell is %d; all that it has shown: %q", s.foreground(), s.pid, s.all())
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	before, rest, _ := strings.Cut(s.out.buf.String(), text)
	s.past += before + text
	s.out.buf.Reset()
	s.out.buf.WriteString(rest)
}

// showsAfter does something until the terminal shows the text: again each time
// when pause has passed.
func (s *shell) showsAfter(do func(), pause time.Duration, text string) {
	s.b.Helper()
	shown := func() bool { return strings.Contains(s.out.String(), text) }
	for end := time.Now().Add(patience); !shown(); {
		require.True(s.b, time.Now().Before(end), "the terminal does not show %s; all that it has shown: %q", text, s.all())
		do()
		for again := time.Now().Add(pause); !shown() && time.Now().Before(again); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	s.shows(text)
}

// waits waits until one connection waits for the lock.
func (s *shell) waits(name string) {
	s.b.Helper()
	if !assert.Eventually(s.b, func() bool { return s.b.waiters(name) == 1 }, patience, 5*time.Millisecond) {
		require.FailNow(s.b, "no connection waits", "%d: %q", s.b.waiters(name), s.all())
	}
}

// interrupts types Ctrl-C, and waits until the shell has the terminal again and
// the exit code is the given one.
func (s *shell) interrupts(code int) {
	s.b.Helper()
	s.types("\x03")
	s.b.until(func() bool { return s.foreground() == s.pid }, "the shell has the terminal")
	s.types("echo code=$?\n")
	s.shows(fmt.Sprintf("code=%d", code))
}

func TestTerminal(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		s := b.shell()
		// Not sh: dash loses a key that is typed just before it starts the next
		// command.
		s.types("$NL run x -- sed -u 's/^/got /'\n")
		s.types("words\n") // the command has the terminal
		s.shows("got words")
		// Ctrl-Z stops the job. The shell has the terminal again, and the lock stays
		// held.
		s.types("\x1a")
		s.shows("Stopped")
		require.NotZero(t, b.holder("x"))
		s.types("jobs; echo sh\"\"ell\n")
		s.shows("shell")
		s.types("fg\n")
		s.shows("run x")
		b.until(func() bool { return s.foreground() != s.pid }, "the job has the terminal")
		s.interrupts(130) // ends the command
		// The server has freed the lock: run ends after it has released the lock, and
		// the shell prints the exit code after that.
		require.Zero(t, b.holder("x"), "all that the terminal has shown: %q", s.all())

		// In a pipeline the command gets the terminal when it reads.
		s.types("$NL run x -- sh -c 'echo r\"\"eady; read line; echo got $line' | cat; echo end\"\"ed\n")
		s.shows("ready")
		s.types("more\n")
		s.shows("got more")
		s.shows("ended")

		lock := b.hold("y")
		s.types("$NL run y -- echo r\"\"an\n")
		s.shows(`waiting for "y": held by connection`)
		require.NoError(t, lock.Release())
		s.shows("ran")

		// A job that is stopped while it waits leaves the queue. When it continues,
		// it waits again.
		for _, what := range []string{"run -timeout 10m", "lead"} {
			lock = b.hold("y")
			s.types("$NL " + what + " y -- echo r\"\"an late\n")
			s.waits("y")
			s.types("\x1a")
			s.shows("Stopped")
			b.until(func() bool { return b.waiters("y") == 0 }, "it does not wait any more")
			require.NoError(t, lock.Release())
			lock = b.hold("y")
			s.types("fg\n")
			s.waits("y")
			assert.NotContains(t, s.out.String(), "ran late", what)
			require.NoError(t, lock.Release())
			s.shows("ran late")
		}

		b.hold("y")
		// The keeper is in the background, and prints a message.
		s.types("stty tostop\n$NL run y -- true\n")
		s.shows(`waiting for "y"`)
		s.interrupts(130) // ends the wait
	})
}

// Ctrl-C ends the loop, or the script, in which the command runs, as it does
// without namedlock.
func TestTerminal_CtrlCEndsLoopsAndScripts(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		script := filepath.Join(t.TempDir(), "script")
		require.NoError(t, os.WriteFile(script, []byte("$NL run x -- sed -u 's/^/got /'\necho NE\"\"XT\n"), 0o600))
		for _, line := range []string{
			"for i in 1 2 3; do $NL run x -- sed -u 's/^/got /'; echo NE\"\"XT; done\n",
			"sh '" + script + "'\n",
			"bash '" + script + "'\n",
		} {
			s := b.shell()
			s.types(line)
			s.types("words\n")
			s.shows("got words")
			s.interrupts(130)
			s.types("echo th\"\"en\n")
			s.shows("then")
			assert.NotContains(t, s.all(), "NEXT", line)
			b.free("x")
		}
		lock := b.hold("y") // a wait also ends
		s := b.shell()
		s.types("for i in 1 2 3; do $NL run y -- true; echo NE\"\"XT; done\n")
		s.shows(`waiting for "y"`)
		s.interrupts(130)
		assert.NotContains(t, s.all(), "NEXT")
		require.NoError(t, lock.Release())
	})
}

// In a command substitution of an interactive bash, which ignores SIGTTIN, the
// command reads the terminal.
func TestTerminal_CommandSubstitution(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		s := b.shell()
		s.types("got=$($NL run x -- sed -u q); echo \"code=$? <$got>\"\n")
		b.until(func() bool { return b.holder("x") != 0 }, "it runs")
		s.types("words\n")
		s.shows("code=0 <words>")
		b.until(func() bool { return s.foreground() == s.pid }, "the shell has the terminal")
		// It reads the terminal without using standard input.
		s.types("got=$($NL run x -- sh -c 'cat </dev/tty'); echo \"code=$?\"\n")
		b.until(func() bool { return b.holder("x") != 0 && s.foreground() != s.pid }, "it reads")
		s.types("\x03")
		b.free("x")
		s.types("echo sh\"\"ell\n")
		s.shows("shell")
	})
}

// namedlock runs in a PID namespace of its own, on the terminal of its caller.
func TestTerminal_PIDNamespace(t *testing.T) {
	if out, err := exec.Command("unshare", "-pf", "--mount-proc", "true").CombinedOutput(); err != nil {
		servers.Missing(t, "no PID namespace: "+string(out))
	}
	onServers(t, func(t *testing.T, b *bench) {
		const unshare = "unshare -pf --mount-proc "
		s := b.shell()
		for _, verb := range []string{"run", "lead"} {
			s.types(unshare + "$NL " + verb + " x -- sed -u 's/^/got /'\n")
			b.until(func() bool { return b.holder("x") != 0 }, "it runs")
			s.types("words\n")
			s.shows("got words")
			s.interrupts(130)
			b.free("x")
		}
		// The command receives Ctrl-C once. It also receives a signal that is sent to
		// the first process.
		s.types(unshare + `$NL run x -- sh -c 'trap "echo int" INT; trap "exit 7" TERM; echo r""eady; while :; do sleep 0.05; done'` + "\n")
		s.shows("ready")
		s.types("\x03")
		s.shows("int\r\n")
		s.types("\x03")
		s.shows("int\r\n")
		fronts := s.children(s.children(s.pid)[0])
		// The process may not have seen the last Ctrl-C yet, on a busy machine. Then
		// this signal is dropped, since the same one is pending.
		s.showsAfter(func() { require.NoError(t, syscall.Kill(fronts[0], syscall.SIGINT)) }, 10*time.Second, "int\r\n")
		require.NoError(t, syscall.Kill(fronts[0], syscall.SIGTERM))
		b.until(func() bool { return s.foreground() == s.pid }, "the shell has the terminal")
		s.types("echo code=$?\n")
		s.shows("code=7")
		assert.Equal(t, 3, strings.Count(s.all(), "int\r\n"))
		// A script keeps the terminal.
		s.types("sh -c '" + unshare + "$NL run x -- sed -u q; read line; echo then $line'\n")
		b.until(func() bool { return b.holder("x") != 0 }, "it runs")
		s.types("one\n")
		b.free("x")
		s.types("two\n")
		s.shows("then two")
		// Remaining processes of the command end, also those in a process group of
		// their own.
		s.types(unshare + "$NL run x -- sh -c 'setsid sleep 1000 & sleep 1000 &'\n")
		s.shows("processes that the command left behind: ")
		b.until(func() bool { return s.foreground() == s.pid }, "the shell has the terminal")
		b.free("x")
	})
}

// children returns the children of a process.
func (s *shell) children(pid int) (pids []int) {
	s.b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	require.NoError(s.b, err)
	for _, child := range strings.Fields(string(text)) {
		pids = append(pids, number(s.b, child))
	}
	require.NotEmpty(s.b, pids)
	return pids
}
