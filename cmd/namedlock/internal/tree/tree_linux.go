package tree

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
)

const prSetChildSubreaper = 36 // linux/prctl.h

// adopt makes this process the parent of descendants whose own parent has ended. They are found in /proc, which has to be that of this
// process: with the numbers of another namespace, others would be killed.
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
	if c.Survives {
		return &syscall.SysProcAttr{Setpgid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitGroup has nothing to wait for: a descendant would be a child.
func (t *Tree) awaitGroup() {}

func (t *Tree) inGroup() bool {
	return slices.ContainsFunc(descendants(), func(p process) bool { return p.group == t.pid })
}

// outsiders returns the descendants that have left the group.
func (t *Tree) outsiders() (pids []int) {
	for _, p := range descendants() {
		if p.group != t.pid {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

type process struct{ pid, parent, group int }

// descendants returns those of this process, by /proc. Their numbers cannot have gone to others if this process is their parent, and
// hardly otherwise.
func descendants() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		end := bytes.LastIndexByte(stat, ')') // of the name, which may hold anything
		if err != nil || end < 0 {
			continue
		}
		p := process{pid: pid}
		var state string
		if _, err := fmt.Sscan(string(stat[end+1:]), &state, &p.parent, &p.group); err == nil {
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
