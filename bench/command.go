package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// commandLine measures the processor time of a namedlock run that acquires its
// lock at once, including the server's processor time. It measures flock for
// comparison.
func commandLine(t target, e effort) ([]row, error) {
	if runtime.GOOS == "windows" { // the command has no run on Windows
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "namedlock-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "namedlock")
	build := exec.Command("go", "build", "-o", program, "github.com/go-namedlock/namedlock/cmd/namedlock")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	run := func(addr string) *exec.Cmd {
		cmd := exec.Command(program, "run", "-timeout", "0", newName("command"), "--", "true")
		cmd.Env = append(os.Environ(), "NAMEDLOCK_DSN="+t.DSNAt(addr))
		return cmd
	}

	p, err := newProxy(t.Addr())
	if err != nil {
		return nil, err
	}
	defer p.close()
	if _, err := perCommand(1, func() *exec.Cmd { return run(p.listener.Addr().String()) }); err != nil {
		return nil, err
	}
	p.mu.Lock()
	connections, trips := len(p.conns)/2, p.trips
	p.mu.Unlock()

	var ours, server samples
	for range e.pairs {
		before, err := t.cpuTime()
		if err != nil {
			return nil, err
		}
		client, err := perCommand(e.commands, func() *exec.Cmd { return run(t.Addr()) })
		if err != nil {
			return nil, err
		}
		after, err := t.cpuTime()
		if err != nil {
			return nil, err
		}
		server = append(server, (after-before).Seconds()/float64(e.commands))
		ours = append(ours, (client+server[len(server)-1])*1e3)
	}
	cost := count("`namedlock run NAME -- true`, uncontended: processor time of its processes and the server", ours, atMost(40, " ms"))
	cost.ours = duration(server.median()) + " in the server"
	if flock, err := exec.LookPath("flock"); err == nil {
		s, err := perCommand(e.commands, func() *exec.Cmd { return exec.Command(flock, filepath.Join(dir, "lock"), "true") })
		if err != nil {
			return nil, err
		}
		cost = cost.beside(duration(s) + " of flock")
	}
	return []row{
		cost,
		count("connections of that", samples{float64(connections)}, atMost(1, "")),
		count("round trips of that", samples{float64(trips)}, atMost(20, "")),
	}, nil
}

// perCommand runs n commands and returns the mean processor time of one, in
// seconds. The time includes that of the processes that the command started.
func perCommand(n int, command func() *exec.Cmd) (float64, error) {
	var sum time.Duration
	for range n {
		cmd := command()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, stderr.String())
		}
		sum += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return sum.Seconds() / float64(n), nil
}

// cpuTime returns the processor time that the server has used, and 0 if there
// is no /proc.
func (t target) cpuTime() (time.Duration, error) {
	db, err := t.connect(t.Addr())
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var file, folder string
	if err := db.QueryRow("SELECT @@pid_file, @@datadir").Scan(&file, &folder); err != nil {
		return 0, err
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(folder, file)
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	if os.IsNotExist(err) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	// The fields from the third on.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	// Linux counts 100 ticks a second.
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
