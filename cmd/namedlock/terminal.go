//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// A terminal is the one that controls this process. The zero terminal is none.
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

// give has the terminal's keys go to the process group.
func (t terminal) give(group int) {
	if t.file == nil {
		return
	}
	signal.Ignore(syscall.SIGTTOU) // what a background process gets that does this
	to := int32(group)
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, t.file.Fd(), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&to)))
}

// isTerminal reports whether a file is the terminal that controls this process.
func isTerminal(file *os.File) bool {
	_, ok := foregroundOf(file)
	return ok
}
