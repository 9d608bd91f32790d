//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package tree

import (
	"fmt"
	"syscall"
	"time"
)

func adopt() error { return nil }

func (c Command) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitGroup waits until the group has no process.
func (t *Tree) awaitGroup() {
	for t.inGroup() {
		time.Sleep(10 * time.Millisecond)
	}
}

func (t *Tree) inGroup() bool { return syscall.Kill(-t.pid, 0) != syscall.ESRCH }

func (t *Tree) outsiders() []int { return nil }

func (t *Tree) members() []int { return nil }

// Left says what runs: its names are not known.
func (t *Tree) Left() []string {
	if t.inGroup() {
		return []string{fmt.Sprintf("process group %d", t.pid)}
	}
	return nil
}

// Started would tell this process from others that had its number before.
func Started() string { return "" }

// Under reports whether the process with that number lives.
func Under(ancestor int, _ string) bool {
	return ancestor > 1 && syscall.Kill(ancestor, 0) != syscall.ESRCH
}
