package tree

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const prSetChildSubreaper = 36 // linux/prctl.h

// adopt makes this process the parent of descendants whose own parent has
// ended. They are found in /proc, which has to be that of this process: with
// the numbers of another namespace, others would be killed.
func adopt() error {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("/proc does not show the processes of this PID namespace: mount it, as unshare --mount-proc does")
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("prctl(PR_SET_CHILD_SUBREAPER): %w", errno)
	}
	return nil
}

// attributes have the kernel kill the command when this process dies.
func (c Command) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: !c.Shared}
	if !c.Survives {
		attributes.Pdeathsig = syscall.SIGKILL
	}
	return attributes
}

// awaitGroup has nothing to wait for: a descendant would be a child.
func (t *Tree) awaitGroup() {}

func (t *Tree) inGroup() bool { return len(t.members()) > 0 }

// members returns the descendants that are in the group.
func (t *Tree) members() (pids []int) {
	for _, p := range descendants() {
		if p.group == t.group {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// outsiders returns the descendants that have left the group.
func (t *Tree) outsiders() (pids []int) {
	for _, p := range descendants() {
		if p.group != t.group {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// Left returns the names and the numbers of the descendants that run.
func (t *Tree) Left() (left []string) {
	for _, p := range descendants() {
		if p.state != "Z" && p.state != "X" {
			left = append(left, fmt.Sprintf("%s (%d)", p.name, p.pid))
		}
	}
	return left
}

// A process is what /proc/PID/stat says of it.
type process struct {
	pid, parent, group   int
	name, state, started string // started: in clock ticks since the machine has
}

func readProcess(pid string) (p process, err error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return p, err
	}
	begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')') // of the name, which may hold anything
	if begin < 0 || end < begin {
		return p, fmt.Errorf("/proc/%s/stat has no name", pid)
	}
	p.name = string(stat[begin+1 : end])
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return p, fmt.Errorf("/proc/%s/stat is short", pid)
	}
	p.state, p.started = fields[0], fields[19]
	_, err = fmt.Sscan(strings.Join([]string{string(stat[:begin]), fields[1], fields[2]}, " "), &p.pid, &p.parent, &p.group)
	return p, err
}

// descendants returns the descendants of this process, read from /proc. A
// number cannot be reused for another process if this process is the parent.
// For other descendants, a reuse is unlikely.
func descendants() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if p, err := readProcess(e.Name()); err == nil {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var found []process
	for next := children[os.Getpid()]; len(next) > 0; {
		p := next[0]
		found = append(found, p)
		next = append(next[1:len(next):len(next)], children[p.pid]...)
	}
	return found
}

// Started tells this process from others that had its number before.
func Started() string {
	p, _ := readProcess("self")
	return p.started
}

// Under reports whether this process is a descendant of the one with that
// number, which has Started so.
func Under(ancestor int, started string) bool {
	for pid := os.Getppid(); pid > 0; {
		p, err := readProcess(strconv.Itoa(pid))
		if err != nil {
			return false
		}
		if pid == ancestor {
			return p.started == started
		}
		pid = p.parent
	}
	return false
}
