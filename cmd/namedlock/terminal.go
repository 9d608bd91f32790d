//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// A terminal is the controlling terminal of this process. The zero terminal
// stands for none.
type terminal struct{ file *os.File }

func openTerminal() terminal {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return terminal{}
	}
	return terminal{file}
}

// foreground returns the process group that the terminal's keys go to, 0 if
// there is no terminal.
func (t terminal) foreground() int {
	if t.file == nil {
		return 0
	}
	group, _ := foregroundOf(t.file)
	return group
}

// foregroundOf returns 0 also for a group of another PID namespace.
func foregroundOf(file *os.File) (group int, ok bool) {
	var id int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&id)))
	return int(id), errno == 0
}

// give makes the process group the terminal's foreground group.
func (t terminal) give(group int) {
	if t.file == nil {
		return
	}
	signal.Ignore(syscall.SIGTTOU) // a background process that does this gets it
	to := int32(group)
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, t.file.Fd(), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&to)))
}

// isTerminal reports whether a file is the terminal that controls this process.
func isTerminal(file *os.File) bool {
	_, ok := foregroundOf(file)
	return ok
}
