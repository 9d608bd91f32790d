//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock/cmd/namedlock/internal/tree"
)

// run and lead are two processes. The front is the one that the shell, cron or systemd has started. It passes on signals, and nothing else. The
// keeper has the lock and the command. So the lock is kept while the front is stopped; and whichever of the two is killed, or crashes, the
// other ends the command with all that it has started (package tree says what of it):
//
//	front == pipes ==> keeper ──> the command, in a process group of its own
//
// One pipe takes signals, a byte each. Its end tells the keeper that the front has died. The other takes the outcome. If there is
// none, the keeper has died.

// keeperCommand is the first argument of a keeper. The second has numbers: see keeperMain.
const keeperCommand = "keeper"

// runMain is the main function of these two processes; done reports whether this is one of them.
func runMain(args []string) (code int, done bool) {
	switch {
	case len(args) > 0 && (args[0] == "run" || args[0] == "lead"):
		code, err := front(args)
		return say(code, err, os.Stdout, os.Stderr), true
	case len(args) > 1 && args[0] == keeperCommand:
		return keeperMain(args[1], args[2:]), true
	}
	return 0, false
}

// An outcome is what a keeper hands over at its end.
type outcome struct {
	code        int
	interrupted bool // by Ctrl-C
}

func (o outcome) send(pipe int) {
	message := []byte{byte(o.code), 0}
	if o.interrupted {
		message[1] = 1
	}
	_, _ = syscall.Write(pipe, message)
}

// receiveOutcome returns what was sent; ok is false if nothing was.
func receiveOutcome(pipe int) (o outcome, ok bool) {
	message := make([]byte, 2)
	if n, err := io.ReadFull(os.NewFile(uintptr(pipe), "pipe"), message); err != nil || n != len(message) {
		return outcome{}, false
	}
	return outcome{int(message[0]), message[1] == 1}, true
}

// front starts a keeper with args, and returns its exit code.
func front(args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return exitUnavailable, err
	}
	var orders, results [2]int // two ends are inherited, at numbers that nobody else uses
	if err := errors.Join(syscall.Pipe(orders[:]), syscall.Pipe(results[:])); err != nil {
		return exitUnavailable, err
	}
	syscall.CloseOnExec(orders[1])
	syscall.CloseOnExec(results[0])
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passedOn()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody reads what there is to say: that is no reason to end
	term, job := openTerminal(), isJob()
	numbers := fmt.Sprintf("%d,%d,%d", orders[0], results[1], syscall.Getpgrp())
	if job {
		numbers += "j"
	}
	argv := append([]string{"namedlock", keeperCommand, numbers}, args...)
	command := tree.Command{Path: self, Argv: argv, Env: os.Environ(), Stopped: goOn, Survives: true} // the pipe tells it
	keeper, err := command.Start()
	if err != nil {
		return exitUnavailable, err
	}
	_ = syscall.Close(orders[0])
	_ = syscall.Close(results[1])
	interrupted := false
	for {
		select {
		case sig := <-signals:
			interrupted = interrupted || sig == syscall.SIGINT
			_, _ = syscall.Write(orders[1], []byte{byte(sig.(syscall.Signal))})
			continue
		case <-keeper.Exited():
		}
		o, ok := receiveOutcome(results[0])
		if !ok {
			keeper.Kill()
			term.give(syscall.Getpgrp())
			command := "the command with it"
			if runtime.GOOS != "linux" {
				command = "the command may go on" // see docs/COMMAND.md
			}
			return exitLost, fmt.Errorf("lost: the process that held the lock has died (%d), and %s", keeper.Status(), command)
		}
		if o.interrupted {
			interrupt(!job && !interrupted)
		}
		return o.code, nil
	}
}

// interrupt ends this process as Ctrl-C would have, had the command not had the terminal. A shell looks for that, to end a loop or a
// script. If it has started this process in its own group it would have had the Ctrl-C, too.
func interrupt(group bool) {
	if signal.Ignored(syscall.SIGINT) || os.Getpid() == 1 { // of a container, whose first process no signal ends
		return
	}
	signal.Reset(syscall.SIGINT)
	to := os.Getpid()
	if group {
		to = 0
	}
	if syscall.Kill(to, syscall.SIGINT) == nil {
		<-time.After(time.Second) // it comes at once
	}
}

// goOn has a keeper go on that somebody has stopped: it would lose its lock, and the command would not be told.
func goOn(keeper int, _ syscall.Signal) { _ = syscall.Kill(keeper, syscall.SIGCONT) }

// isJob reports whether the parent is a shell that has put this process into a group of its own, and continues it when it stops.
func isJob() bool {
	parent := syscall.Getppid()
	group, err := syscall.Getpgid(parent)
	return err == nil && group != syscall.Getpgrp() && session(parent) == session(0)
}

func session(pid int) int {
	id, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(id)
}

// passedOn returns the signals that go to the command: all that can be caught, but for those that tell of this process itself, and
// SIGHUP and SIGINT if whoever has started it wants them to be ignored, as nohup does. (The runtime does not tell of others.)
func passedOn() (signals []os.Signal) {
	for n := syscall.Signal(1); n < 65; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE, syscall.SIGTTIN, syscall.SIGTTOU,
			syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGPROF, syscall.SIGABRT:
		default:
			if !signal.Ignored(n) {
				signals = append(signals, n)
			}
		}
	}
	return signals
}
