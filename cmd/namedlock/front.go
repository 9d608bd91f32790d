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

// run and lead are two processes. The front is the one that the shell, cron or
// systemd has started. It passes on signals, and nothing else. The keeper has
// the lock and the command. So the lock is kept while the front is stopped; and
// whichever of the two is killed, or crashes, the other ends the command with
// all that it has started (package tree says what of it):
//
//	front == pipes ==> keeper ──> the command, in a process group of its own
//
// One pipe takes signals, a byte each. Its end tells the keeper that the front
// has died. The other takes the outcome. If there is none, the keeper has died.
// A third is the keeper's standard error, for what the Go runtime writes when
// it crashes: what the keeper and the command have to say goes to the front's
// own.

// keeperCommand is the first argument of a keeper. The second is its
// birthright.
const keeperCommand = "keeper"

// runMain is the main function of these two processes; done reports whether
// this is one of them.
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

// A birthright is what a keeper gets by its arguments: the numbers of its ends
// of two pipes, of the front's standard error, and of the front's process
// group; whether it is under job control; and whether all share that group.
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
	for _, own := range []int{orders[1], results[0], crash[0], crash[1]} { // the others are inherited, at numbers that nobody else uses
		syscall.CloseOnExec(own)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passedOn()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody reads what there is to say: that is no reason to end
	term, job := openTerminal(), isJob()
	// In a PID namespace of its own, on the terminal of another, its group has no
	// number: no other group could give the terminal back to it.
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

// readCrash reads the pipe, and returns what it has read when asked, which is
// to be after the keeper's death.
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

// limit returns what the runtime has failed to get, "" if it has crashed for
// another reason.
func limit(crash string) string {
	for _, phrase := range []string{"pthread_create failed", "failed to create new OS thread", "out of memory", "failed to reserve", "cannot reserve", "cannot allocate memory"} {
		if strings.Contains(crash, phrase) {
			return phrase
		}
	}
	return ""
}

// interrupt ends this process as Ctrl-C would have, had the command not had the
// terminal. A shell looks for that, to end a loop or a script. If it has
// started this process in its own group it would have had the Ctrl-C, too.
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

// goOn has a keeper go on that somebody has stopped: it would lose its lock,
// and the command would not be told.
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

// passedOn returns the signals that go to the command: all that can be caught,
// but for those that tell of this process itself, and SIGHUP and SIGINT if
// whoever has started it wants them to be ignored, as nohup does. (The runtime
// does not tell of others.)
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
