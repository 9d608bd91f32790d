//go:build unix

package command

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

var moments = flag.Int("moments", 4, "at how many moments each process is killed, on each server")

// TestKilledAtEveryMoment kills each of the processes, and the connection, at
// random moments between the start and the end. No process is left, and none
// continues without the lock. The exit code is that of the kill, or 0 if the
// kill came too late. A command that does not end by itself is killed during
// its start. A command that ends soon is killed at any moment.
func TestKilledAtEveryMoment(t *testing.T) {
	onServers(t, func(t *testing.T, b *bench) {
		began := time.Now()
		require.Zero(t, startMarked(b, "0.1").code())
		lifetime := time.Since(began)
		for _, c := range []struct {
			victim string
			code   int
			strict bool // the lock must not be released before all processes have ended
		}{
			{"front", -1, true},
			{"keeper", 70, false},
			{"command", 137, true},
			{"connection", 70, false},
		} {
			t.Run(c.victim, func(t *testing.T) {
				for n := range *moments {
					endless := n%2 == 0
					p := startMarked(b, map[bool]string{true: "1000", false: "0.1"}[endless])
					moment := rand.N(lifetime)
					<-time.After(moment)
					b.until(func() bool { return p.kill(c.victim) || !endless }, "the %s begins", c.victim)
					b.until(func() bool {
						if c.strict {
							require.Empty(t, p.withoutTheLock(), "killed after %v of %v: these go on without the lock", moment, lifetime)
						}
						return len(p.running()) == 0
					}, "killed after %v of %v: nothing is left", moment, lifetime)
					if code := p.code(); endless || code != 0 {
						assert.Equal(t, c.code, code, "killed after %v of %v: %s", moment, lifetime, p.stderr.String())
					}
					b.free("x")
				}
			})
		}
	})
}

// A marked process has a mark in its environment, by which all processes that
// it started are found.
type marked struct {
	*process
	mark string
}

func startMarked(b *bench, seconds string) *marked {
	command := fmt.Sprintf("setsid sleep %[1]s & sleep %[1]s & wait", seconds)
	m := &marked{b.prepare("run", "x", "--", "sh", "-c", command), fmt.Sprintf("MARK=%d", rand.Uint64())}
	m.Env = append(m.Env, m.mark)
	m.launch()
	return m
}

// kill kills the victim, and reports whether there was one at this moment.
func (m *marked) kill(victim string) bool {
	front := m.Process.Pid
	keeper := m.child(front)
	switch victim {
	case "front":
		return syscall.Kill(front, syscall.SIGKILL) == nil
	case "keeper":
		return keeper != 0 && syscall.Kill(keeper, syscall.SIGKILL) == nil
	case "command":
		command := m.child(keeper)
		return command != 0 && syscall.Kill(command, syscall.SIGKILL) == nil
	}
	id := m.b.holder("x")
	if id == 0 {
		return false
	}
	return locksql.Kill(m.b.Context(), m.b.db, id) == nil
}

// child returns a child of the process, or 0 if there is none.
func (m *marked) child(parent int) int {
	for _, p := range m.running() {
		if p.parent == parent && parent != 0 {
			return p.pid
		}
	}
	return 0
}

// withoutTheLock returns the processes of the command that continued while the
// lock was not held.
func (m *marked) withoutTheLock() (pids []int) {
	before := m.running()
	if m.b.holder("x") != 0 {
		return nil
	}
	after := m.running()
	for _, p := range before {
		if p.name != "namedlock" && slices.Contains(after, p) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// A running is a process that has not ended.
type running struct {
	pid, parent int
	name        string
}

func (m *marked) running() (found []running) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), m.mark) {
			continue
		}
		pid := number(m.b, filepath.Base(filepath.Dir(file)))
		if name, fields := stat(pid); name != "" {
			found = append(found, running{pid, number(m.b, fields[1]), name})
		}
	}
	return found
}
