//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package tree

import (
	"syscall"
	"time"
)

func adopt() error { return nil }

func (c Command) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitGroup waits until nobody is left in the group.
func (t *Tree) awaitGroup() {
	for t.inGroup() {
		time.Sleep(10 * time.Millisecond)
	}
}

func (t *Tree) inGroup() bool { return syscall.Kill(-t.pid, 0) != syscall.ESRCH }

func (t *Tree) outsiders() []int { return nil }
