//go:build unix

// Package command runs the command namedlock on real servers, with real
// processes.
package command

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "namedlock")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "namedlock")
	build := exec.Command("go", "build", "-o", binary, "github.com/go-namedlock/namedlock/cmd/namedlock")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		// If nohup, or a script's &, made this process ignore the signal, namedlock
		// would not pass it on.
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	// A program with the race detector sleeps for 1 s at its end, and each run is
	// two programs. A race is reported when it happens.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=20")); err != nil {
		panic(err)
	}
	code := m.Run()
	for _, kind := range kinds {
		if server, err := shared[kind](); err == nil {
			_ = server.Stop()
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var kinds = []servers.Kind{servers.MariaDB, servers.MySQL}

// shared are the servers of all tests. On each, one test runs after the other.
var shared = map[servers.Kind]func() (*servers.Server, error){}

func init() {
	for _, kind := range kinds {
		shared[kind] = sync.OnceValues(func() (*servers.Server, error) { return servers.Start(kind) })
	}
}

// onServers runs a test on MariaDB and on MySQL at the same time. At its start
// no lock is held. At its end all sessions are killed.
func onServers(t *testing.T, test func(t *testing.T, b *bench)) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server, err := shared[kind]()
			if err != nil {
				servers.SkipOrFail(t, err)
			}
			b := &bench{t, server, server.Open(t)}
			t.Cleanup(b.endSessions)
			test(t, b)
		})
	}
}

// executable writes a program.
//
// No process is started while the file is open. A process that another test
// starts has the open file until its exec, and the kernel does not run a file
// that a process can write to ("text file busy").
func executable(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
}

// endSessions kills all other sessions, and waits until they have ended.
func (b *bench) endSessions() {
	b.until(func() bool {
		rows, err := b.db.Query("SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND user IN (?, 'odd', 'tls')", b.server.User())
		require.NoError(b, err)
		var ids []int64
		for rows.Next() {
			var id int64
			require.NoError(b, rows.Scan(&id))
			ids = append(ids, id)
		}
		require.NoError(b, rows.Err())
		for _, id := range ids {
			_ = locksql.Kill(context.Background(), b.db, id) // it may have ended
		}
		return len(ids) == 0
	}, "all other sessions end")
}

type bench struct {
	*testing.T
	server *servers.Server
	db     *sql.DB
}

// A process is a running namedlock.
type process struct {
	*exec.Cmd
	b              *bench
	stdout, stderr lockedBuffer
	ended          chan struct{}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start starts namedlock with the server's DSN in the environment.
func (b *bench) start(args ...string) *process {
	b.Helper()
	p := b.prepare(args...)
	p.launch()
	return p
}

// prepare makes the process of start, without starting it.
func (b *bench) prepare(args ...string) *process {
	p := &process{Cmd: exec.Command(binary, args...), b: b, ended: make(chan struct{})}
	p.Env = append(os.Environ(), "NAMEDLOCK_DSN="+b.server.DSN(), "HOME="+b.TempDir())
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a signal reaches namedlock alone
	return p
}

func (p *process) launch() {
	b := p.b
	b.Helper()
	require.NoError(b, p.Start())
	go func() { _ = p.Wait(); close(p.ended) }()
	b.Cleanup(func() {
		_ = p.Process.Signal(syscall.SIGCONT)
		_ = p.Process.Kill()
		<-p.ended
	})
}

// code waits until the process ends, and returns its exit code.
func (p *process) code() int {
	p.b.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.FailNow(p.b, "namedlock has not ended", "stdout: %s\nstderr: %s", p.stdout.String(), p.stderr.String())
	}
	return p.ProcessState.ExitCode()
}

// pids waits until the command has printed n process ids, and returns them.
func (p *process) pids(n int) (pids []int) {
	p.b.Helper()
	p.b.until(func() bool { return len(strings.Fields(p.stdout.String())) >= n }, "the command prints %d numbers: %s", n, p.stderr.String())
	for _, text := range strings.Fields(p.stdout.String()) {
		pids = append(pids, number(p.b, text))
	}
	return pids
}

func number(t require.TestingT, text string) int {
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func (b *bench) until(what func() bool, format string, args ...any) {
	b.Helper()
	require.Eventually(b, what, patience, 5*time.Millisecond, append([]any{format}, args...)...)
}

// alive reports whether a process is running. A zombie is not.
func alive(pid int) bool {
	s := state(pid)
	return s != "" && s != "Z" && s != "X"
}

// state returns the kernel's letter for the state of a process, or "" if there
// is no such process.
func state(pid int) string {
	_, fields := stat(pid)
	return fields[0]
}

// stat returns the name of a process, and the fields that follow the name in
// /proc/PID/stat: first the state, then the parent. If there is no such
// process, the name, the state and the parent are empty.
func stat(pid int) (name string, fields []string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if err != nil || end < 0 {
		return "", []string{"", ""}
	}
	return string(text[open+1 : end]), strings.Fields(string(text[end+1:]))
}

func (b *bench) gone(pids ...int) {
	b.Helper()
	for _, pid := range pids {
		b.until(func() bool { return !alive(pid) }, "process %d ends", pid)
	}
}

func (b *bench) holder(name string) (id int64) {
	b.Helper()
	id, err := locksql.Holder(b.Context(), b.db, name)
	require.NoError(b, err)
	return id
}

// lose kills the connection that holds the lock.
func (b *bench) lose(name string) {
	b.Helper()
	require.NoError(b, locksql.KillHolder(b.Context(), b.db, name))
}

func (b *bench) free(name string) {
	b.Helper()
	b.until(func() bool { return b.holder(name) == 0 }, "the lock is released")
}

// waiters returns how many connections wait for the lock.
func (b *bench) waiters(name string) (n int) {
	b.Helper()
	const query = "SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock' AND info LIKE concat('%GET_LOCK%', ?, '%')"
	require.NoError(b, b.db.QueryRow(query, name).Scan(&n))
	return n
}

// hold acquires the lock in this process.
func (b *bench) hold(name string) *namedlock.Lock {
	b.Helper()
	locker, err := namedlock.Open(b.db)
	require.NoError(b, err)
	b.Cleanup(func() { _ = locker.Close() })
	lock, err := locker.Acquire(context.Background(), name, patience)
	require.NoError(b, err)
	b.Cleanup(func() { _ = lock.Release() })
	return lock
}

func TestExitCodes(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		notExecutable := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(notExecutable, nil, 0o600))
		b.hold("busy")
		for _, c := range []struct {
			code int
			says string
			args []string
		}{
			{0, "", []string{"run", "a", "--", "true"}},
			{3, "", []string{"run", "a", "--", "sh", "-c", "exit 3"}},
			{143, "", []string{"run", "a", "--", "sh", "-c", "kill -TERM $$"}},
			{75, "namedlock: busy: held by connection ", []string{"run", "-timeout", "0", "busy", "--", "true"}},
			{75, "namedlock: busy: busy: held by connection ", []string{"run", "-timeout", "0.1", "a", "busy", "--", "true"}},
			{9, "", []string{"run", "-timeout", "100ms", "-exit-busy", "9", "-quiet", "busy", "--", "true"}},
			{127, "no-such-command", []string{"run", "a", "--", "no-such-command"}},
			{126, "permission denied", []string{"run", "a", "--", notExecutable}},
			{64, "missing -- before the command", []string{"run", "a", "true"}},
			{64, "missing lock name before --", []string{"run", "--", "true"}},
			{64, "missing lock name and command", []string{"run"}},
			{64, "-z (see namedlock run -h)", []string{"run", "-z", "a", "--", "true"}},
			{64, "a grace is 10s", []string{"run", "-grace", "-1s", "a", "--", "true"}},
			{64, "must not be empty", []string{"run", "-dsn", "", "a", "--", "true"}},
			{64, "put the host in tcp(", []string{"run", "-dsn", "root@127.0.0.1:3306/", "a", "--", "true"}},
			{0, "", []string{"run", "-grace", "5", "a", "--", "true"}},
			{0, "", []string{"--version"}},
			{64, "missing lock name", []string{"run", "--", "--", "true"}},
			{64, "missing command after --", []string{"run", "a", "--"}},
			{64, "-timeout must come before the lock names", []string{"run", "a", "-timeout", "0", "--", "true"}},
			{64, "a timeout is 5s", []string{"run", "-timeout", "-1s", "a", "--", "true"}},
			{64, "namedlock: acquire \"xxx", []string{"run", strings.Repeat("x", 65), "--", "true"}},
			{64, "unknown subcommand", []string{"walk"}},
			{64, "-dsn is not a valid DSN", []string{"run", "-dsn", "secret", "a", "--", "true"}},
			{77, "Access denied", []string{"run", "-dsn", "nobody:wrong@tcp(" + b.server.Addr() + ")/", "a", "--", "true"}},
			{69, "refused", []string{"run", "-dsn", "x@tcp(127.0.0.1:1)/", "a", "--", "true"}},
			{0, "", []string{"holder", "busy"}},
			{1, "", []string{"holder", "nobody"}},
			{0, "", []string{"check"}},
			{77, "Access denied", []string{"check", "-dsn", "nobody:wrong@tcp(" + b.server.Addr() + ")/"}},
			{69, "refused", []string{"check", "-dsn", "x@tcp(127.0.0.1:1)/"}},
			{0, "", []string{"help"}},
		} {
			p := b.start(c.args...)
			assert.Equal(t, c.code, p.code(), "%q: %s", c.args, p.stderr.String())
			assert.Contains(t, p.stderr.String(), c.says, "%q", c.args)
			if c.says == "" {
				assert.Empty(t, p.stderr.String(), "%q", c.args)
			} else {
				assert.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), "one line: %s", p.stderr.String())
			}
			assert.NotContains(t, p.stderr.String(), "secret")
		}
		b.free("a")
	})
}

func TestExitCodes_ReadOnly(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		_, err := b.db.Exec("SET GLOBAL read_only = 1")
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := b.db.Exec("SET GLOBAL read_only = 0")
			require.NoError(t, err)
		})
		for _, args := range [][]string{{"run", "a", "--", "true"}, {"check"}} {
			p := b.start(args...)
			assert.Equal(t, 69, p.code())
			assert.Contains(t, p.stderr.String(), "read_only", "%q", args)
			assert.NotContains(t, p.stdout.String()+p.stderr.String(), "WithoutServerCheck", "an option of the library")
		}
	})
}

func TestTheCommandKnowsItsLock(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "a", "b", "--", "sh", "-c", `echo "$NAMEDLOCK_CONNECTION_ID"; read x; echo "$NAMEDLOCK_NAME" >&2`)
		// The standard input is a pipe, and the command reads it to the end.
		stdin := exec.Command(binary, "run", "c", "--", "tr", "a-z", "A-Z")
		stdin.Env = p.Env
		stdin.Stdin = strings.NewReader("piped\n")
		out, err := stdin.Output()
		require.NoError(t, err)
		assert.Equal(t, "PIPED\n", string(out))
		assert.Equal(t, 0, p.code())
		id, err := strconv.ParseInt(strings.TrimSpace(p.stdout.String()), 10, 64)
		require.NoError(t, err)
		assert.Positive(t, id)
		assert.Equal(t, "a\nb\n", p.stderr.String())
	})
}

// A run or a lead that need not wait uses one connection.
func TestOneConnection(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, args := range [][]string{{"run", "x"}, {"run", "x", "y"}, {"lead", "x"}} {
			addr, open := b.way()
			proxy := open()
			p := b.start(append(append([]string{args[0], "-dsn", b.server.DSNAt(addr)}, args[1:]...), "--", "sh", "-c", "echo $NAMEDLOCK_CONNECTION_ID; exec sleep 1000")...)
			id := int64(p.pids(1)[0])
			assert.Equal(t, b.holder("x"), id)
			assert.Equal(t, 1, proxy.Accepted(), "%q", args)
			require.NoError(t, p.Process.Kill())
			b.free("x")
		}
	})
}

// family starts processes in the command's group and outside of it.
const family = `setsid sleep 1000 & echo $!; sleep 1000 & echo $!; echo $$; echo $PPID; wait`

func TestSignalsReachTheGroup(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1} {
			p := b.start("run", "x", "--", "sh", "-c", "trap '' QUIT INT; exec sleep 1000 & trap - QUIT INT; "+family)
			pids := p.pids(4)
			require.NoError(t, p.Process.Signal(sig))
			assert.Equal(t, 128+int(sig), p.code(), "%v", sig)
			b.gone(pids...)
			assert.Zero(t, b.holder("x"), "released when nothing is left")
		}
		b.hold("y")
		p := b.start("run", "-verbose", "y", "--", "true")
		b.until(func() bool { return strings.Contains(p.stderr.String(), "waiting for \"y\": held by connection") }, "it waits")
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		assert.Equal(t, 143, p.code(), "a signal ends the wait")
	})
}

func TestALossEndsTheCommand(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "x", "--", "sh", "-c", family)
		pids := p.pids(4)
		b.lose("x")
		assert.Equal(t, 70, p.code())
		b.gone(pids...)
		assert.Contains(t, p.stderr.String(), "lost")

		p = b.start("run", "-grace", "100ms", "x", "--", "sh", "-c", `trap "" TERM; echo $$; while :; do sleep 0.1; done`)
		pids = p.pids(1)
		b.lose("x")
		assert.Equal(t, 70, p.code())
		b.gone(pids...)
		assert.Contains(t, p.stderr.String(), "killed the command, which had not ended 100ms after SIGTERM")
	})
}

// If standard error is a full pipe, the end of the command does not wait for a
// reader.
func TestALossEndsTheCommandThoughNobodyReads(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, verb := range []string{"run", "lead"} {
			full, w, err := os.Pipe()
			require.NoError(t, err)
			require.NoError(t, w.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
			_, err = w.Write(make([]byte, 1<<20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it is full")
			p := b.prepare(verb, "-verbose", "x", "--", "sh", "-c", family)
			p.Stderr = w
			p.launch()
			pids := p.pids(4)
			b.lose("x")
			b.gone(pids[:3]...)
			if verb == "run" {
				assert.Equal(t, 70, p.code())
			} else {
				p.pids(8) // it leads again
				require.NoError(t, p.Process.Kill())
			}
			require.NoError(t, full.Close())
			require.NoError(t, w.Close())
			b.free("x")
		}
	})
}

// If the reader of standard error has closed it, namedlock continues.
func TestGoesOnThoughStandardErrorIsClosed(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		p := b.prepare("run", "-verbose", "x", "--", "sh", "-c", "exec 2>/dev/null; trap 'echo cleaned up; exit' TERM; echo $$; while :; do sleep 0.05; done")
		p.Stderr = w
		p.launch()
		p.pids(1)
		b.lose("x")
		assert.Equal(t, 70, p.code())
		assert.Contains(t, p.stdout.String(), "cleaned up")

		p = b.prepare("lead", "x", "--", "sh", "-c", "echo $$; exit 3")
		p.Stderr = w
		p.launch()
		p.pids(2)
		require.NoError(t, w.Close())
	})
}

// Whichever process is killed, nothing continues without the lock.
func TestKilledAtEveryPlace(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		for _, c := range []struct {
			what   string
			victim func(p *process, pids []int) int
			sig    syscall.Signal
			code   int
		}{
			{"front", func(p *process, _ []int) int { return p.Process.Pid }, syscall.SIGKILL, -1},
			{"front crashes", func(p *process, _ []int) int { return p.Process.Pid }, syscall.SIGABRT, 2},
			{"keeper", func(_ *process, pids []int) int { return pids[3] }, syscall.SIGKILL, 70},
			// The exit status of the keeper is 2, like that of a panic.
			{"keeper crashes", func(_ *process, pids []int) int { return pids[3] }, syscall.SIGABRT, 70},
			{"command", func(_ *process, pids []int) int { return pids[2] }, syscall.SIGKILL, 137},
		} {
			t.Run(c.what, func(t *testing.T) {
				p := b.start("run", "x", "--", "sh", "-c", family)
				pids := p.pids(4)
				require.NoError(t, syscall.Kill(c.victim(p, pids), c.sig))
				assert.Equal(t, c.code, p.code())
				b.gone(pids...)
				b.free("x")
			})
		}
	})
}

// The lock is kept while the front is stopped. A keeper that is stopped is
// continued by the front.
func TestStopped(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "x", "--", "sh", "-c", "trap 'echo 0' USR1; echo $$; echo $PPID; while :; do sleep 0.05; done")
		pids := p.pids(2)
		b.stop(p.Process.Pid) // so that the keeper is seen stopped
		b.stop(pids[1])
		require.NoError(t, p.Process.Signal(syscall.SIGCONT))
		b.until(func() bool { return state(pids[1]) != "T" }, "the front continues the keeper")
		require.NoError(t, p.Process.Signal(syscall.SIGUSR1))
		p.pids(3) // the keeper has passed the signal on
		b.stop(p.Process.Pid)
		assert.NotZero(t, b.holder("x"))
		require.NoError(t, syscall.Kill(pids[0], syscall.SIGTERM))
		b.free("x")
		require.NoError(t, p.Process.Signal(syscall.SIGCONT))
		assert.Equal(t, 143, p.code())
	})
}

// stop stops a process, and returns when all its threads have stopped. Until
// then they may run on for a while.
func (b *bench) stop(pid int) {
	b.Helper()
	require.NoError(b, syscall.Kill(pid, syscall.SIGSTOP))
	b.until(func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		require.NoError(b, err)
		for _, thread := range threads {
			if state(number(b, filepath.Base(thread))) != "T" {
				return false
			}
		}
		return len(threads) > 0
	}, "process %d stops", pid)
}

func TestWhatTheCommandLeavesBehindEnds(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		p := b.start("run", "-grace", "100ms", "x", "--", "sh", "-c", `setsid sh -c "trap '' TERM; exec sleep 1000" & sleep 1000 & echo $!; exit 5`)
		pids := p.pids(1)
		assert.Equal(t, 5, p.code()) // and no process has its standard output open any more
		b.gone(pids...)
		b.free("x")
	})
}

func TestOneOfTwentyRuns(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		file := filepath.Join(t.TempDir(), "ran")
		hold := filepath.Join(t.TempDir(), "hold")
		require.NoError(t, syscall.Mkfifo(hold, 0o600))
		var all []*process
		for range 20 {
			all = append(all, b.start("run", "-timeout", "0", "x", "--", "sh", "-c", "echo ran >> "+file+"; read x < "+hold))
		}
		ended := 0
		b.until(func() bool {
			ended = 0
			for _, p := range all {
				select {
				case <-p.ended:
					ended++
				default:
				}
			}
			return ended == 19
		}, "19 find it busy")
		require.NoError(t, os.WriteFile(hold, []byte("\n"), 0o600))
		codes := map[int]int{}
		for _, p := range all {
			codes[p.code()]++
		}
		assert.Equal(t, map[int]int{0: 1, 75: 19}, codes)
		ran, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, "ran\n", string(ran))
	})
}

func TestListAndHolder(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		b.hold("odd \x1b[31m\nname")
		p := b.start("holder", "-json", "odd \x1b[31m\nname")
		require.Equal(t, 0, p.code(), p.stderr.String())
		var held struct {
			ID   int64 `json:"connection_id"`
			User string
		}
		require.NoError(t, json.Unmarshal([]byte(p.stdout.String()), &held))
		assert.Equal(t, b.holder("odd \x1b[31m\nname"), held.ID)
		assert.NotEmpty(t, held.User)

		run := b.start("run", "-verbose", "p", "--", "sleep", "1000")
		b.until(func() bool { return strings.Contains(run.stderr.String(), "running ") }, "it runs")
		p = b.start("holder", "p")
		require.Equal(t, 0, p.code(), p.stderr.String())
		if b.server.Kind() == servers.MySQL { // MariaDB does not report it
			host, err := os.Hostname()
			require.NoError(t, err)
			assert.Regexp(t, ` \(sleep, pid \d+ on `+regexp.QuoteMeta(host)+`\)`, p.stdout.String(), "the program is the command, the process the keeper")
		}

		p = b.start("list", "odd")
		if p.code() != 0 { // MariaDB without its plugin: the error says how to install it
			assert.Equal(t, 69, p.code())
			assert.Contains(t, p.stderr.String(), "INSTALL SONAME")
			return
		}
		assert.Regexp(t, `^NAME +CONNECTION +USER +HOST +PROGRAM +PID +CLIENT_HOST +COMMAND +TIME\n`, p.stdout.String())
		assert.Contains(t, p.stdout.String(), `odd \x1b[31m\nname`)
		assert.NotContains(t, p.stdout.String(), "\x1b")
	})
}

func TestOptionFile(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		_, err := b.db.Exec("CREATE USER odd IDENTIFIED BY 'a\"b#c d'")
		defer b.db.Exec("DROP USER odd")
		require.NoError(t, err)
		host, port, _ := strings.Cut(b.server.Addr(), ":")
		file := filepath.Join(t.TempDir(), "my.cnf")
		write := func(text string) {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		}
		write("[mysqld]\nport=1\n[client]\nhost = " + host + "\nport=" + port + "\nuser=odd # comment\npassword='a\\\"b#c d'\n")
		p := b.start("run", "-defaults-file", file, "x", "--", "true")
		assert.Equal(t, 0, p.code(), p.stderr.String())

		write("[client]\nhost=x\npasword=x\n")
		p = b.start("run", "-defaults-file", file, "x", "--", "true")
		assert.Equal(t, 64, p.code())
		assert.Contains(t, p.stderr.String(), file+`, line 3: unknown key "pasword"`)

		write("[client]\nhost=" + host + "\nport=" + port + "\nuser=odd\npassword=\"a\\\"b#c d\"\n")
		cmd := exec.Command(binary, "run", "x", "--", "true")
		require.NoError(t, os.Rename(file, filepath.Join(filepath.Dir(file), ".my.cnf")))
		cmd.Env = []string{"HOME=" + filepath.Dir(file), "PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		assert.NoError(t, err, string(out))
	})
}
