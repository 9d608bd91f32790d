//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

// Package tree runs a command, and ends it and all processes that it started.
//
// On Linux, the process that starts a [Command] becomes the reaper of all
// descendants, even if they move to another session or group. The kernel kills
// the command when its parent dies. On other systems, only the process group is
// ended; a process that leaves the group is not found.
package tree

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// A Tree is a command that was started, and its descendants. A process has one
// Tree at a time.
type Tree struct {
	pid     int
	group   int                               // the command's: its own, unless it shares that of its parent
	stopped func(pid int, sig syscall.Signal) // called by the goroutine that reaps; may be nil

	exited chan struct{} // closed when the command has ended
	gone   chan struct{} // closed when its descendants have, too
	status syscall.WaitStatus
}

// A Command is what to start.
type Command struct {
	Path      string
	Argv, Env []string
	Stderr    uintptr                           // the descriptor that is its standard error
	Stopped   func(pid int, sig syscall.Signal) // if not nil, called when a signal has stopped the command; no process is reaped during the call
	Survives  bool                              // the end of its parent, which it handles itself
	Shared    bool                              // stays in the process group of its parent; on Linux alone
}

// Start starts the command, as the leader of a process group of its own unless
// it is Shared.
func (c Command) Start() (*Tree, error) {
	if err := adopt(); err != nil {
		return nil, err
	}
	t := &Tree{stopped: c.Stopped, exited: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of this thread for the parent's death.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		t.pid, err = syscall.ForkExec(c.Path, c.Argv, &syscall.ProcAttr{Env: c.Env, Files: []uintptr{0, 1, c.Stderr}, Sys: c.attributes()})
		if t.group = t.pid; c.Shared {
			t.group = syscall.Getpgrp()
		}
		started <- err
		if err == nil {
			t.reap()
		}
	}()
	if err := <-started; err != nil {
		return nil, &os.PathError{Op: "start", Path: c.Path, Err: err}
	}
	return t, nil
}

// reap collects every process that ends, until there is none.
func (t *Tree) reap() {
	defer close(t.gone)
	reaped := false
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // ECHILD
			t.awaitGroup()
			return
		case pid != t.pid || reaped:
		case status.Stopped():
			if t.stopped != nil {
				t.stopped(pid, status.StopSignal())
			}
		case status.Exited(), status.Signaled():
			t.status, reaped = status, true
			close(t.exited)
		}
	}
}

// PID is the command's, and its group's unless it shares that of its parent.
func (t *Tree) PID() int { return t.pid }

// Exited is closed when the command has ended. Descendants may be left.
func (t *Tree) Exited() <-chan struct{} { return t.exited }

// Gone is closed when nothing is left.
func (t *Tree) Gone() <-chan struct{} { return t.gone }

// Status is the command's exit status, or 128 and the signal that ended it. It
// is valid when Exited is closed.
func (t *Tree) Status() int {
	if t.status.Signaled() {
		return 128 + int(t.status.Signal())
	}
	return t.status.ExitStatus()
}

// Signal sends the signal to the command's group, as a terminal does. Of a
// group that it shares the command and its descendants alone get it.
func (t *Tree) Signal(sig syscall.Signal) {
	switch {
	case t.group != t.pid:
		for _, pid := range t.members() {
			_ = syscall.Kill(pid, sig)
		}
	case t.hasGroup():
		_ = syscall.Kill(-t.pid, sig)
	}
}

// hasGroup reports whether the group number still belongs to the command. It
// does until the command is reaped, and while a process is in the group.
func (t *Tree) hasGroup() bool {
	select {
	case <-t.gone:
		return false
	case <-t.exited:
		return t.inGroup()
	default:
		return true
	}
}

// End asks all processes to end, and kills those that are left after grace, or
// when now is closed. It returns when nothing is left, and reports whether it
// has killed.
func (t *Tree) End(grace time.Duration, now <-chan struct{}) (killed bool) {
	t.signalAll(syscall.SIGTERM)
	t.signalAll(syscall.SIGCONT) // a stopped process cannot end
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-t.gone:
		return false
	case <-timer.C:
	case <-now:
	}
	t.Kill()
	return true
}

// Kill kills all processes, repeatedly, since a process may start another one
// in between. It returns when no process is left.
func (t *Tree) Kill() {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		t.signalAll(syscall.SIGKILL)
		select {
		case <-t.gone:
			return
		case <-time.After(pause):
		}
	}
}

func (t *Tree) signalAll(sig syscall.Signal) {
	t.Signal(sig)
	for _, pid := range t.outsiders() {
		_ = syscall.Kill(pid, sig)
	}
}
