//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock/cmd/namedlock/internal/tree"
)

// run and lead are two processes. The front is the process that the shell, cron
// or systemd started. It only forwards signals. The keeper holds the lock and
// runs the command. So the lock is kept while the front is stopped. If either
// process is killed or crashes, the other ends the command and the processes
// that it started (see package tree):
//
//	front == pipes ==> keeper ──> the command, in a process group of its own
//
// One pipe carries signals, a byte each. When it is closed, the front has died.
// The second pipe carries the outcome. If it carries none, the keeper has died.
// The third pipe is the keeper's standard error, for the output of the Go
// runtime in a crash. Messages of the keeper and of the command go to the
// front's standard error.

// keeperCommand is the first argument of a keeper. The second is its
// birthright.
const keeperCommand = "keeper"

// runMain is the main function of these two processes. done reports whether
// this process is one of them.
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

// An outcome is the last message of a keeper to its front.
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

// begun is sent before that, when the command has been started for the first
// time.
const begun byte = 0xff

// receiveOutcome returns what was sent; ok is false if no outcome was.
func receiveOutcome(pipe int) (o outcome, began, ok bool) {
	message, _ := io.ReadAll(os.NewFile(uintptr(pipe), "pipe"))
	if len(message)%2 == 1 { // an outcome has two bytes
		began, message = message[0] == begun, message[1:]
	}
	if len(message) != 2 {
		return outcome{}, began, false
	}
	return outcome{int(message[0]), message[1] == 1}, began, true
}

// A birthright is the first argument of a keeper. It has the descriptors of two
// pipes and of the front's standard error, and the front's process group. jobs:
// the front is under job control. shared: the keeper and the command are in the
// front's process group.
type birthright struct {
	orders, results, stderr, group int
	jobs, shared                   bool
}

func (b birthright) String() string {
	return fmt.Sprintf("%d,%d,%d,%d,%t,%t", b.orders, b.results, b.stderr, b.group, b.jobs, b.shared)
}

func parseBirthright(text string) (b birthright, err error) {
	_, err = fmt.Sscanf(text, "%d,%d,%d,%d,%t,%t", &b.orders, &b.results, &b.stderr, &b.group, &b.jobs, &b.shared)
	return b, err
}

// front starts a keeper with args, and returns its exit code.
func front(args []string) (int, error) {
	if err := roomToRun(); err != nil {
		return exitUnavailable, err
	}
	self, err := os.Executable()
	if err != nil {
		return exitUnavailable, err
	}
	var orders, results, crash [2]int
	if err := errors.Join(syscall.Pipe(orders[:]), syscall.Pipe(results[:]), syscall.Pipe(crash[:])); err != nil {
		return exitUnavailable, err
	}
	stderr, err := syscall.Dup(2)
	if err != nil {
		return exitUnavailable, err
	}
	for _, own := range []int{orders[1], results[0], crash[0], crash[1]} { // the keeper inherits the others
		syscall.CloseOnExec(own)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passedOn()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a closed standard error does not end this process
	term, job := openTerminal(), isJob()
	// In a PID namespace of its own, on a terminal of another namespace, its group
	// has no number. Another group could not give the terminal back to it.
	shared := syscall.Getpgrp() == 0 && term.file != nil
	rights := birthright{orders[0], results[1], stderr, syscall.Getpgrp(), job && !shared, shared}
	command := tree.Command{
		Path: self, Argv: append([]string{"namedlock", keeperCommand, rights.String()}, args...), Env: os.Environ(), Stderr: uintptr(crash[1]),
		Stopped: goOn, Survives: true, // the pipe tells it
		Shared: shared,
	}
	keeper, err := command.Start()
	if err != nil {
		return exitUnavailable, err
	}
	for _, end := range []int{orders[0], results[1], crash[1], stderr} {
		_ = syscall.Close(end)
	}
	crashed := readCrash(crash[0])
	interrupted := false
	for {
		select {
		case sig := <-signals:
			interrupted = interrupted || sig == syscall.SIGINT
			_, _ = syscall.Write(orders[1], []byte{byte(sig.(syscall.Signal))})
			continue
		case <-keeper.Exited():
		}
		o, began, ok := receiveOutcome(results[0])
		if !ok {
			keeper.Kill()
			term.give(syscall.Getpgrp())
			return died(keeper.Status(), began, crashed())
		}
		if o.interrupted {
			interrupt(!job && !interrupted)
		}
		return o.code, nil
	}
}

// readCrash reads the pipe. crashed returns its content; call it after the
// keeper has died.
func readCrash(pipe int) (crashed func() string) {
	text := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(os.NewFile(uintptr(pipe), "pipe"))
		text <- string(all)
	}()
	return func() string { return <-text }
}

// died is the end of a keeper that has sent no outcome.
func died(status int, began bool, crash string) (int, error) {
	why := limit(crash)
	if why == "" {
		_, _ = os.Stderr.WriteString(crash)
		why = fmt.Sprintf("status %d", status)
	} else if why += " (ulimit -u, -v)"; !began {
		return exitUnavailable, fmt.Errorf("namedlock cannot run: %s", why)
	}
	command := "the command was ended"
	if runtime.GOOS != "linux" {
		command = "the command may still be running" // see docs/COMMAND.md
	}
	return exitLost, fmt.Errorf("lost: the process holding the lock died (%s); %s", why, command)
}

// limit returns the resource that the runtime could not get, "" if it crashed
// for another reason.
func limit(crash string) string {
	for _, phrase := range []string{"pthread_create failed", "failed to create new OS thread", "out of memory", "failed to reserve", "cannot reserve", "cannot allocate memory"} {
		if strings.Contains(crash, phrase) {
			return phrase
		}
	}
	return ""
}

// interrupt ends this process as Ctrl-C would have ended it without the command
// on the terminal. A shell checks for that, to end a loop or a script. If group
// is true, the shell shares this process's group and gets the signal as well as
// this process.
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

// goOn continues a stopped keeper. A keeper that stays stopped would lose its
// lock without ending the command.
func goOn(keeper int, _ syscall.Signal) { _ = syscall.Kill(keeper, syscall.SIGCONT) }

// isJob reports whether the parent is a shell that has put this process into a
// group of its own, and continues it when it stops.
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

// passedOn returns the signals that are forwarded to the command. These are all
// that can be caught, except for signals about this process itself. SIGHUP and
// SIGINT are left out if they were ignored at the start, as under nohup. (The
// Go runtime does not report this for other signals.)
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
