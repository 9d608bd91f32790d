//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/cmd/namedlock/internal/tree"
	"github.com/go-namedlock/namedlock/internal/names"
)

// A job is the command line of run or lead, parsed.
type job struct {
	server   serverFlags
	timeout  time.Duration
	retry    time.Duration // how long to retry a server that is unreachable at the start
	grace    time.Duration
	atLeast  time.Duration // how long the locks are held at least, counted from when they were acquired
	atMost   time.Duration // how long the command may run; 0: without limit
	slots    int           // how many slots the name has, one of which the command gets; 0: it gets the lock
	exitBusy int
	quiet    bool
	verbose  bool

	names []string
	slot  int // the number of its slot
	argv  []string
	path  string // of argv[0]

	stderr *voice
	config *mysql.Config
	outer  inheritance
}

func parseJob(verb string, args []string) (*job, error) {
	j := &job{timeout: namedlock.Forever, grace: 10 * time.Second, exitBusy: exitBusy}
	rest, err := parseFlags(j.flags(verb), args)
	if err != nil {
		return nil, err
	}
	end := slices.Index(rest, "--")
	switch {
	case len(rest) == 0:
		return nil, usagef("missing lock name and command: namedlock %s NAME -- COMMAND", verb)
	case end < 0 && len(args) > len(rest) && args[len(args)-len(rest)-1] == "--":
		return nil, usagef("missing lock name before --: namedlock %s NAME -- COMMAND", verb)
	case end < 0:
		return nil, usagef("missing -- before the command: namedlock %s NAME -- COMMAND", verb)
	case end == 0:
		return nil, usagef("missing lock name before --: namedlock %s NAME -- COMMAND", verb)
	case end == len(rest)-1:
		return nil, usagef("missing command after --: namedlock %s NAME -- COMMAND", verb)
	case verb == "lead" && end > 1:
		return nil, usagef("lead takes exactly one lock name, got %d", end)
	case j.slots > 0 && end > 1:
		return nil, usagef("-slots takes exactly one lock name, got %d", end)
	case j.exitBusy < 0 || j.exitBusy > 255:
		return nil, usagef("-exit-busy is a number from 0 to 255, not %d", j.exitBusy)
	}
	j.names, j.argv = rest[:end], rest[end+1:]
	j.server.program = filepath.Base(j.argv[0])
	j.path, err = exec.LookPath(j.argv[0])
	if err != nil {
		return nil, startError{err}
	}
	return j, nil
}

// flags returns the flags that run or lead has.
func (j *job) flags(verb string) *flag.FlagSet {
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	j.server.define(flags)
	if verb == "run" {
		flags.Func("timeout", "", func(text string) (err error) { j.timeout, err = parseTimeout(text); return err })
		flags.Func("retry", "", func(text string) (err error) { j.retry, err = parseTimeout(text); return err })
		flags.Func("at-least", "", func(text string) (err error) { j.atLeast, err = parsePositive(text); return err })
		flags.Func("at-most", "", func(text string) (err error) { j.atMost, err = parsePositive(text); return err })
		flags.Func("slots", "", func(text string) (err error) { j.slots, err = parseSlots(text); return err })
		flags.IntVar(&j.exitBusy, "exit-busy", j.exitBusy, "")
	}
	flags.Func("grace", "", func(text string) (err error) {
		if j.grace, err = parseDuration(text); err != nil {
			err = errors.New("a grace is 10s, 1m30s, or 0")
		}
		return err
	})
	flags.BoolVar(&j.quiet, "quiet", false, "")
	flags.BoolVar(&j.verbose, "verbose", false, "")
	return flags
}

// parseTimeout reads a duration, a number of seconds, or "forever".
func parseTimeout(text string) (time.Duration, error) {
	if text == "forever" {
		return namedlock.Forever, nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return 0, errors.New("a timeout is 5s, 1m30s, 0, or forever")
	}
	return d, nil
}

// parsePositive reads a duration, or a number of seconds, above 0.
func parsePositive(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil || d == 0 {
		return 0, errors.New("a duration is 30s, 1h or 1m30s")
	}
	return d, nil
}

// parseSlots reads how many slots a name has.
func parseSlots(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > names.MaxSlots {
		return 0, fmt.Errorf("a number of slots is 1 to %d", names.MaxSlots)
	}
	return n, nil
}

// parseDuration reads a duration that is not negative, or a number of seconds.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, notNumber := strconv.ParseFloat(text, 64); notNumber == nil && seconds < 1e9 {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err == nil && d < 0 {
		err = errors.New("it is negative")
	}
	return d, err
}

// prepare checks everything that can be checked without the server.
func (j *job) prepare(stderr *voice) (err error) {
	j.stderr, j.server.stderr = stderr, stderr
	for _, name := range j.names {
		err := names.Check(name)
		if j.slots > 0 {
			err = names.CheckSlots(name, j.slots)
		}
		if err != nil {
			return &namedlock.Error{Op: namedlock.OpAcquire, Name: name, Err: err}
		}
	}
	if j.config, err = j.server.config(); err != nil {
		return usageError{err}
	}
	j.outer = inherited()
	for _, name := range j.names {
		if slot, has := j.outer.slot(j.config, name); has && j.slots > 0 {
			return usagef("this process already runs in slot %d of %q (by the namedlock with process id %d)", slot, name, j.outer.Keeper)
		}
		if j.slots > 0 {
			continue // the lock of the name itself is another
		}
		if j.outer.has(j.config, name) { // it would wait for itself
			return usagef("this process already runs under %q (by the namedlock with process id %d); check with namedlock held before", name, j.outer.Keeper)
		}
	}
	return nil
}

// open returns a Locker, which done closes.
func (j *job) open(opts ...namedlock.Option) (locker *namedlock.Locker, done func(), err error) {
	if j.verbose {
		opts = append(opts, namedlock.WithLogger(slog.New(logLines{j.stderr, slog.LevelInfo, ""})))
	}
	locker, db, err := j.server.openConfig(j.config, opts...)
	if err != nil {
		return nil, nil, err
	}
	db.SetConnMaxIdleTime(time.Second) // the connection that asks about holders is not needed again
	return locker, func() { _, _ = locker.Close(), db.Close() }, nil
}

// A startError is the reason why the command could not be started.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// tell writes a message of -verbose.
func (j *job) tell(format string, args ...any) {
	if j.verbose {
		j.stderr.sayf(format, args...)
	}
}

// complain writes a message unless -quiet is set.
func (j *job) complain(format string, args ...any) {
	if !j.quiet {
		j.stderr.sayf(format, args...)
	}
}

// locks returns the names of the locks that the command runs under.
func (j *job) locks() []string {
	if j.slots > 0 {
		return []string{names.Slot(j.names[0], j.slot)}
	}
	return j.names
}

// wanted returns the names of the locks that a wait may be for.
func (j *job) wanted() []string {
	if j.slots == 0 {
		return j.names
	}
	wanted := make([]string, j.slots)
	for i := range wanted {
		wanted[i] = names.Slot(j.names[0], i)
	}
	return wanted
}

// connection returns the id of the connection that holds the lock, 0 if the
// server does not return it. transaction runs a function on that connection, so
// that no other connection is needed. Behind a proxy, CONNECTION_ID() can be
// the proxy's.
func connection(ctx context.Context, name string, transaction func(context.Context, func(context.Context, *sql.Tx) error) error) (id uint64) {
	// If ctx ended during the statement, the connection would be closed, and the
	// lock lost.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", name).Scan(&id)
	})
	if err != nil {
		return 0
	}
	return id
}

// environment returns the environment of the command.
func (j *job) environment(id uint64) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		return key == nameVariable || key == heldVariable || key == connectionVariable || key == slotVariable && j.slots > 0
	})
	if j.slots > 0 {
		env = append(env, fmt.Sprintf("%s=%d", slotVariable, j.slot))
	}
	env = append(env, j.outer.environment(os.Getpid(), tree.Started(), j.config, j.locks())...)
	if id != 0 {
		env = append(env, fmt.Sprintf("%s=%d", connectionVariable, id))
	}
	return env
}

// ending returns the exit code for an error of run, and the message.
func (j *job) ending(err error) (int, error) {
	var start startError
	var failed *namedlock.Error
	switch {
	case errors.As(err, &start):
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return exitNotFound, err
		}
		return exitNotExecutable, err
	case errors.Is(err, namedlock.ErrLost):
		return exitLost, errors.New("lost: " + oneLine(err))
	case errors.Is(err, namedlock.ErrTimeout):
		if j.quiet {
			return j.exitBusy, nil
		}
		which := ""
		if errors.As(err, &failed) && failed.Holder != nil {
			switch {
			case j.slots > 0:
				which = fmt.Sprintf("no free slot (of %d): %s: ", j.slots, failed.Holder.Name)
			case len(j.names) > 1:
				which = failed.Name + ": "
			}
			return j.exitBusy, fmt.Errorf("busy: %sheld by %v", which, failed.Holder)
		}
		return j.exitBusy, errors.New("busy: " + oneLine(err))
	}
	return codeOf(err), err
}
