// Command namedlock runs commands under named locks of a MySQL or MariaDB
// server. It also shows which locks are held, and by which sessions.
//
//	namedlock run NAME [NAME…] -- COMMAND [ARG…]    runs the command under the lock(s)
//	namedlock lead NAME -- COMMAND [ARG…]           keeps the command running on one machine of many
//	namedlock held NAME        report whether this process runs under the lock
//	namedlock holder NAME      report the holder of the lock: connection, user, host, program, process, state
//	namedlock list [PREFIX]    report all locks that are held
//	namedlock check            report whether the server is suitable for locks, and how a loss is noticed
//	namedlock completion bash|zsh
//
// docs/COMMAND.md has the flags, the exit codes and the form of -json.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// The exit codes. Those from 64 to 77 are from sysexits.h.
const (
	exitOK            = 0
	exitNobody        = 1   // no session holds the lock; this process does not run under it
	exitUsage         = 64  // a flag, a lock name, the DSN or the option file is invalid
	exitUnavailable   = 69  // the server is unreachable, or not suitable for locks
	exitLost          = 70  // the lock was lost while the command ran
	exitBusy          = 75  // the lock was not acquired in time
	exitDenied        = 77  // the server denied access to the user
	exitTooLong       = 124 // the command ran for longer than -at-most; timeout(1) uses the same code
	exitNotExecutable = 126
	exitNotFound      = 127
)

// patience bounds how long the server may take to answer.
const patience = 10 * time.Second

func main() {
	if code, done := runMain(os.Args[1:]); done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A usageError is a mistake on the command line, or in a file that it names.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is main, with its inputs and outputs as arguments. It returns the exit
// code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	code, err := dispatch(ctx, args, stdout, stderr)
	return say(code, err, stdout, stderr)
}

// say prints the help or the error, if there is one, and returns the exit code.
func say(code int, err error, stdout, stderr io.Writer) int {
	var help helpError
	if errors.As(err, &help) {
		if code, err = exitOK, print(stdout, helpOf(help.of)); err != nil {
			code = exitUnavailable
		}
	}
	if err != nil {
		sayTo(stderr, oneLine(err))
	}
	return code
}

const subcommands = "run, lead, held, holder, list, check or completion"

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	if len(args) == 0 {
		return exitUsage, usagef("no subcommand; use %s (see namedlock help)", subcommands)
	}
	commands := map[string]func(context.Context, *invocation) (int, error){
		"held": held, "holder": holder, "list": list, "check": check, "completion": completion,
		"names": namesForShell,
	}
	command, ok := commands[args[0]]
	switch {
	case ok:
	case args[0] == "version", args[0] == "-version", args[0] == "--version", args[0] == "-V":
		return exitOK, print(stdout, "namedlock "+version()+"\n")
	case args[0] == "help", args[0] == "-h", args[0] == "-help", args[0] == "--help":
		return exitOK, helpError{strings.Join(args[1:], " ")}
	default:
		return exitUsage, usagef("unknown subcommand %q; use %s (see namedlock help)", args[0], subcommands)
	}
	in := &invocation{server: serverFlags{stderr: stderr}, stdout: stdout}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	in.define(args[0], flags)
	var err error
	if in.args, err = parseFlags(flags, args[1:]); err != nil {
		return exitUsage, err
	}
	code, err := command(ctx, in)
	if err != nil {
		code = codeOf(err)
	}
	return code, err
}

// version returns the version of the module, with the commit if the build
// recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown version)"
	}
	return cmp.Or(info.Main.Version, "(unknown version)") + ", " + info.GoVersion
}

// parseFlags returns the arguments after the flags.
func parseFlags(flags *flag.FlagSet, args []string) (rest []string, err error) {
	flags.SetOutput(io.Discard)
	isOfFlock := func(name string) bool { return flags.Name() == "run" && insteadOf(name, args) != "" }
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, helpError{flags.Name()}
	case err != nil:
		if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: "); ok && isOfFlock(name) {
			return nil, usagef("%s is a flag of flock: %s", name, insteadOf(name, args))
		}
		return nil, usagef("%w (see namedlock %s -h)", err, flags.Name())
	}
	rest = flags.Args()
	if before := args[:len(args)-len(rest)]; len(before) > 0 && before[len(before)-1] == "--" {
		return rest, nil
	}
	for _, name := range rest {
		if name == "--" { // a command follows
			break
		}
		if isOfFlock(name) {
			return nil, usagef("%s is a flag of flock: %s", name, insteadOf(name, args))
		}
		if strings.HasPrefix(name, "-") {
			return nil, usagef("%s must come before the lock names; for a lock name that begins with -, put -- before it", name)
		}
	}
	return rest, nil
}

// insteadOf returns the replacement for a flag of flock, "" for any other
// argument.
func insteadOf(flag string, args []string) string {
	if !strings.HasPrefix(flag, "-") {
		return ""
	}
	name, value, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	for i, arg := range args[:max(len(args)-1, 0)] {
		if value == "" && strings.TrimLeft(arg, "-") == name {
			value = args[i+1]
		}
	}
	switch name {
	case "n", "nb", "nonblock":
		return "write -timeout 0"
	case "w", "wait":
		return fmt.Sprintf("write -timeout %s", cmp.Or(value, "5s"))
	case "E", "conflict-exit-code":
		return fmt.Sprintf("write -exit-busy %s", cmp.Or(value, "1"))
	case "c", "command":
		return "write namedlock run NAME -- sh -c 'COMMAND'"
	case "x", "e", "exclusive":
		return "leave it out: every lock is exclusive"
	case "s", "shared":
		return "MySQL has no shared named locks"
	case "u", "unlock", "o", "close", "F", "no-fork":
		return "leave it out: the lock is held until the command and all processes that it started have ended"
	}
	return ""
}

// An invocation is the parsed command line.
type invocation struct {
	server serverFlags
	json   bool
	args   []string
	stdout io.Writer
}

// define adds the flags of a subcommand other than run and lead.
func (in *invocation) define(name string, flags *flag.FlagSet) {
	if name != "completion" {
		in.server.define(flags)
	}
	if name != "completion" && name != "held" {
		flags.BoolVar(&in.json, "json", false, "")
	}
}
