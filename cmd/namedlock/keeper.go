//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/cmd/namedlock/internal/tree"
)

// A keeper holds the lock, and runs the command under it.
type keeper struct {
	*job

	term        terminal
	interactive bool // the command gets the terminal at once; otherwise when it reads from it
	front       int  // the front's process group
	jobs        bool // a shell continues the front when it stops
	leads       bool // the subcommand is lead, not run
	end         context.CancelCauseFunc
	frontDied   chan struct{}
	interrupted bool // Ctrl-C has ended the command, or the wait for it
	toldLoss    bool // the loss of the last lock was reported

	shared    bool           // the command is in the front's group, and so is this process
	own       chan os.Signal // signals to this process itself
	begin     func()         // reports to the front that the command was started
	ttinStays bool           // SIGTTIN was ignored, as in bash's $(…)

	mu       sync.Mutex
	command  *tree.Tree              // nil before it begins and after it has ended. Guarded by mu, as are:
	asked    syscall.Signal          // the last signal that asked the command to end
	withdraw context.CancelCauseFunc // ends the wait for the lock; nil before the first
	halted   chan struct{}           // nil unless the job was stopped without a command; closed when it goes on
}

// A signalled is the signal that ended a wait.
type signalled syscall.Signal

func (s signalled) Error() string { return "ended by a signal: " + syscall.Signal(s).String() }

// endings are the signals that ask for the end.
var endings = map[syscall.Signal]bool{syscall.SIGHUP: true, syscall.SIGINT: true, syscall.SIGQUIT: true, syscall.SIGTERM: true}

// errHalted ends a wait of a stopped job, so that it does not delay other
// waiters.
var errHalted = errors.New("the job is stopped")

var errFrontDied = errors.New("parent process died")

// keeperMain is the main function of a keeper.
func keeperMain(rights string, args []string) int {
	r, err := parseBirthright(rights)
	if err != nil || len(args) == 0 {
		return say(exitUsage, usagef("keeper is internal; use namedlock run"), os.Stdout, os.Stderr)
	}
	for _, fd := range []int{r.orders, r.results, r.stderr} {
		syscall.CloseOnExec(fd)
	}
	// A signal to all processes of a service or a terminal also arrives through
	// the pipe. The copy that arrives here is dropped.
	own := make(chan os.Signal, 64)
	signal.Notify(own, append(passedOn(), syscall.SIGPIPE)...)
	signal.Ignore(syscall.SIGTTOU) // sent under stty tostop, or when the terminal is given away; it would stop the keeper

	stderr := newVoice(os.NewFile(uintptr(r.stderr), "stderr"))
	k := &keeper{
		front: r.group, term: openTerminal(), jobs: r.jobs, interactive: isTerminal(os.Stdin) && isTerminal(os.Stdout), frontDied: make(chan struct{}),
		shared: r.shared, own: own, begin: sync.OnceFunc(func() { _, _ = syscall.Write(r.results, []byte{begun}) }), ttinStays: signal.Ignored(syscall.SIGTTIN),
	}
	if r.shared {
		k.front = -1 // not the group of any terminal
	}
	code, err := k.keep(os.NewFile(uintptr(r.orders), "pipe"), args, stderr)
	code = say(code, err, os.Stdout, stderr)
	stderr.finish()
	outcome{code, k.interrupted && code == 128+int(syscall.SIGINT)}.send(r.results)
	return code
}

// keep takes the lock, runs the command, and returns the exit code.
func (k *keeper) keep(orders io.Reader, args []string, stderr *voice) (code int, err error) {
	k.job, err = parseJob(args[0], args[1:])
	if errors.As(err, new(helpError)) {
		return exitOK, err
	}
	if err == nil {
		err = k.prepare(stderr)
	}
	if err != nil {
		return (&job{}).ending(err)
	}
	ctx, end := context.WithCancelCause(context.Background())
	k.end, k.leads = end, args[0] == "lead"
	go k.obey(orders) // until this process ends
	if k.leads {
		code, err = k.lead(ctx)
	} else {
		code, err = k.once(ctx)
	}
	lost := errors.Is(err, namedlock.ErrLost)
	if lost && k.toldLoss {
		return exitLost, nil
	}
	if err == nil {
		return code, nil
	}
	if sig, ok := context.Cause(ctx).(signalled); ok && !lost {
		k.interrupted = sig == signalled(syscall.SIGINT) && k.term.foreground() == k.front
		return 128 + int(sig), nil
	}
	return k.ending(err)
}

// obey delivers the signals that the front forwards, and ends everything when
// the front dies.
func (k *keeper) obey(pipe io.Reader) {
	for sig := make([]byte, 1); ; {
		if _, err := io.ReadFull(pipe, sig); err != nil {
			close(k.frontDied)
			k.end(errFrontDied)
			return
		}
		k.deliver(syscall.Signal(sig[0]), k.fromKeys(syscall.Signal(sig[0])))
	}
}

// fromKeys reports whether a signal was sent by a key of the terminal to the
// whole shared group. The command then has received it, like this process.
func (k *keeper) fromKeys(sig syscall.Signal) bool {
	if !k.shared || (sig != syscall.SIGINT && sig != syscall.SIGQUIT && sig != syscall.SIGTSTP) {
		return false
	}
	for soon := time.After(100 * time.Millisecond); ; {
		select {
		case own := <-k.own:
			if own == sig {
				return true
			}
		case <-soon:
			return false
		}
	}
}

func (k *keeper) deliver(sig syscall.Signal, hasIt bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.command != nil && sig == syscall.SIGCONT:
		if k.interactive && k.term.foreground() == k.front {
			k.term.give(k.command.PID())
		}
		k.command.Signal(sig)
	case k.command != nil:
		if !hasIt {
			k.command.Signal(sig)
		}
		if endings[sig] {
			k.asked = sig
		}
	case sig == syscall.SIGTSTP && k.jobs:
		if k.halted == nil {
			k.halted = make(chan struct{})
		}
		if k.withdraw != nil {
			k.withdraw(errHalted)
		}
		k.stopFront()
	case sig == syscall.SIGCONT && k.halted != nil:
		close(k.halted)
		k.halted = nil
	case sig == syscall.SIGHUP && k.leads && k.term.file == nil: // probably a request to reload a configuration, sent to all machines
	case endings[sig]:
		k.end(signalled(sig))
	}
}

// once runs the command under the lock, once or not at all.
func (k *keeper) once(ctx context.Context) (code int, err error) {
	for {
		began := false
		wait, end := k.wait(ctx)
		code, err = k.under(wait, func(ctx context.Context, id uint64) (int, error) {
			acquired := time.Now()
			code, err := k.run(ctx, id)
			began = err == nil
			if began {
				k.holdOn(ctx, k.atLeast-time.Since(acquired))
			}
			return code, err
		})
		end()
		if began || context.Cause(wait) != errHalted {
			return code, err
		}
	}
}

// holdOn keeps the locks for that long after the command has ended, unless they
// are lost or a signal asks for the end.
func (k *keeper) holdOn(ctx context.Context, left time.Duration) {
	if left <= 0 {
		return
	}
	k.tell("holding the lock for another %v (-at-least)", left.Round(time.Millisecond))
	select {
	case <-time.After(left):
	case <-ctx.Done():
	}
}

// wait returns the context of a wait for the lock. It ends by errHalted when
// the job is stopped and there is no command. While the job is stopped no wait
// begins.
func (k *keeper) wait(ctx context.Context) (wait context.Context, end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.halted != nil && ctx.Err() == nil {
		halted := k.halted
		k.mu.Unlock()
		select {
		case <-halted:
		case <-ctx.Done():
		}
		k.mu.Lock()
	}
	wait, withdraw := context.WithCancelCause(ctx)
	k.withdraw = withdraw
	return wait, func() { withdraw(nil) }
}

// stopFront stops the front, so that the shell reports its job as stopped.
// There must be a job.
func (k *keeper) stopFront() { _ = syscall.Kill(-k.front, syscall.SIGSTOP) }

// run runs the command under the lock. ctx ends with the lock. It returns the
// command's exit status after all processes that the command started have
// ended.
func (k *keeper) run(ctx context.Context, id uint64) (int, error) {
	command, err := k.start(ctx, id)
	if err != nil {
		return 0, err
	}
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.command = nil
		if k.term.foreground() == command.PID() {
			k.term.give(k.front)
			k.interrupted = command.Status() == 128+int(syscall.SIGINT)
		}
	}()
	var tooLong <-chan time.Time
	if k.atMost > 0 {
		tooLong = time.After(k.atMost)
	}
	select {
	case <-command.Exited():
		k.endRest(command)
	case <-tooLong:
		k.stderr.sayf("the command ran for %v (-at-most); ending it", k.atMost)
		k.endCommand(command)
		return exitTooLong, nil
	case <-ctx.Done():
		if context.Cause(ctx) == errFrontDied {
			command.Kill()
			break
		}
		k.tellLoss("lost the lock, ending the command: %s", oneLine(context.Cause(ctx)))
		k.endCommand(command)
	}
	return command.Status(), nil
}

// endCommand ends the command and all processes that it started.
func (k *keeper) endCommand(command *tree.Tree) {
	if command.End(k.grace, k.frontDied) {
		k.stderr.sayf("killed the command, which had not ended %v after SIGTERM", k.grace)
	}
}

// tellLoss reports a loss of the lock, once.
func (k *keeper) tellLoss(format string, args ...any) {
	if !k.toldLoss {
		k.stderr.sayf(format, args...)
	}
	k.toldLoss = true
}

// settling is how long processes that the command left behind have to end by
// themselves before they are reported. The other end of a pipe, for example,
// ends by itself.
const settling = 100 * time.Millisecond

// mostLeft bounds how many processes a message names.
const mostLeft = 5

// endRest ends the processes that the command left behind, and reports them.
func (k *keeper) endRest(command *tree.Tree) {
	select {
	case <-command.Gone():
		return
	case <-k.frontDied:
	case <-time.After(settling):
	}
	left := command.Left()
	if more := len(left) - mostLeft; more > 0 {
		left = append(left[:mostLeft], fmt.Sprintf("%d more", more))
	}
	if len(left) > 0 {
		k.complain("ending processes that the command left behind: %s", strings.Join(left, ", "))
	}
	command.End(k.grace, k.frontDied)
}

func (k *keeper) start(ctx context.Context, id uint64) (*tree.Tree, error) {
	k.mu.Lock() // a signal goes to the wait, or to the command
	defer k.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case k.halted != nil:
		return nil, errHalted
	}
	front := k.term.foreground() == k.front
	own := front && k.interactive
	speak := k.stderr.hush()                 // writing now could stop the child before its exec
	defaults := []os.Signal{syscall.SIGTTOU} // otherwise the command would ignore it
	if front || !k.ttinStays {
		defaults = append(defaults, syscall.SIGTTIN) // by it, stopped detects that the command reads from the terminal
	}
	signal.Notify(make(chan os.Signal, 1), defaults...)
	command, err := k.execute(id)
	signal.Ignore(defaults...)
	speak()
	if err != nil {
		return nil, startError{err}
	}
	k.begin()
	k.command, k.asked, k.interrupted = command, 0, false
	if own {
		k.term.give(command.PID())
		command.Signal(syscall.SIGCONT) // it may have used the terminal a moment too early
	}
	k.tell("running %q, process %d", k.argv, command.PID())
	return command, nil
}

// execute starts the command. A script without a #! is for sh, as execvp(3) has
// it.
func (k *keeper) execute(id uint64) (*tree.Tree, error) {
	command := tree.Command{Path: k.path, Argv: k.argv, Env: k.environment(id), Stderr: k.stderr.file.Fd(), Stopped: k.stopped, Shared: k.shared}
	started, err := command.Start()
	if errors.Is(err, syscall.ENOEXEC) && isText(k.path) {
		command.Path, command.Argv = "/bin/sh", append([]string{"sh", k.path}, k.argv[1:]...)
		started, err = command.Start()
	}
	return started, err
}

// isText reports whether a file may be a script: its beginning has no zero
// byte.
func isText(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	begin := make([]byte, 256)
	n, err := io.ReadFull(file, begin)
	return (err == nil || err == io.EOF || err == io.ErrUnexpectedEOF) && !bytes.Contains(begin[:n], []byte{0})
}

// stopped acts as a shell does if the command was stopped by a key, or because
// it read from a terminal that it does not have.
func (k *keeper) stopped(pid int, sig syscall.Signal) {
	k.mu.Lock() // start has given the terminal away before, and does not take it from a process that gets it here
	defer k.mu.Unlock()
	keys := k.term.foreground()
	wants := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	switch {
	case keys == 0: // no terminal: the sender of the signal continues it
	case wants && (keys == k.front || keys == pid):
		k.term.give(pid)
		_ = syscall.Kill(-pid, syscall.SIGCONT)
	case k.jobs:
		if keys == pid {
			k.term.give(k.front)
		}
		k.stopFront()
	case keys == pid: // no shell would continue it
		_ = syscall.Kill(-pid, syscall.SIGCONT)
	}
}
