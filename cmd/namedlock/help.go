package main

import (
	"fmt"
	"strings"
)

// A verb is a subcommand, as its help shows it.
type verb struct {
	name, args string
	does       string // lines, of 80 columns with the table of the global help
	flags      []string
	example    string
}

var (
	serverFlagNames = []string{"dsn", "defaults-file"}
	jobFlagNames    = []string{"grace", "quiet", "verbose"}
	runFlagNames    = []string{"timeout", "retry", "exit-busy", "slots", "at-least", "at-most"}
)

var verbs = []verb{
	{"run", "[FLAG…] NAME [NAME…] -- COMMAND [ARG…]",
		"runs the command under the lock, or under all of them",
		join(runFlagNames, jobFlagNames, serverFlagNames), "namedlock run -timeout 0 report -- make-report"},
	{"lead", "[FLAG…] NAME -- COMMAND [ARG…]",
		"keeps the command running on one machine of many; runs it again,\nhere or there, after a loss, or when it has failed",
		join(jobFlagNames, serverFlagNames), "namedlock lead scheduler -- scheduler --every 5m"},
	{"held", "[FLAG…] NAME",
		"does this process run under the lock, by a run or lead that has\nstarted it: exit code 0 or 1; the server is not asked",
		serverFlagNames, `namedlock held report || exec namedlock run report -- "$0" "$@"`},
	{"holder", "[FLAG…] NAME",
		"who has the lock: connection, user, host, program, process,\nwhat it does",
		join([]string{"json"}, serverFlagNames), "namedlock holder report"},
	{"list", "[FLAG…] [PREFIX]",
		"all locks that are held, whose names begin with PREFIX",
		join([]string{"json"}, serverFlagNames), "namedlock list billing."},
	{"check", "[FLAG…]",
		"is this server fit for locks: version, read-only, cluster,\ncharacter set, privileges, wait_timeout, round trip, and what\na loss would be noticed by",
		join([]string{"json"}, serverFlagNames), "namedlock check -defaults-file /etc/namedlock.cnf"},
	{"completion", "bash|zsh",
		"prints a completion script",
		nil, `eval "$(namedlock completion bash)"`},
}

func join(lists ...[]string) (all []string) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// flagTexts are what a flag is written with, and what it does, by its name.
var flagTexts = map[string][2]string{
	"dsn":           {"DSN", "user:password@tcp(host:3306)/; shows in the process list"},
	"defaults-file": {"FILE", "an option file of MySQL, whose [client] names the server"},
	"json":          {"", "prints JSON"},
	"timeout":       {"5s|0|forever", "how long to wait for the lock; forever by default"},
	"retry":         {"1m", "how long a server that cannot be asked at the start is asked again;\nby default it is asked once"},
	"exit-busy":     {"N", "the exit code when the lock was not acquired in time; 75 by default"},
	"slots":         {"N", "runs the command in one of N slots of the name: at most N run at a\ntime; its number, from 0 to N-1, is in $NAMEDLOCK_SLOT"},
	"at-least":      {"30s", "how long the lock is held at least, counted from when it was\nacquired, though the command has ended"},
	"at-most":       {"1h", "how long the command may run: then it gets SIGTERM, SIGKILL after\n-grace, and the exit code is 124"},
	"grace":         {"10s", "how long the command may take to end, after SIGTERM, when the\nlock is lost or -at-most is over, before it is killed"},
	"quiet":         {"", "says nothing of a lock that is busy, an outage, a failure, or\nprocesses that the command has left behind"},
	"verbose":       {"", "says what happens"},
}

const serverSources = "The server is that of -dsn or -defaults-file, else of $NAMEDLOCK_DSN, else of ~/.my.cnf.\n"

const exitCodes = `Exit codes:
  N    of run, lead: that of the command, or 128 and the signal that ended it
  0    done; of holder: somebody holds the lock; of held: this process is under it
  1    nobody holds the lock; of held: this process is not under it
  64   a flag, a name, a DSN or an option file is wrong
  69   the server cannot be asked, or does not tell, or is not fit for locks
  70   the lock was lost while the command ran, which was ended
  75   the lock was not acquired in time
  77   the server refuses this user, or lacks a privilege for it
  124  the command ran for longer than -at-most, and was ended
  126  the command cannot be executed
  127  there is no such command
`

// usage is the help of the whole.
var usage = func() string {
	var b strings.Builder
	b.WriteString("usage: namedlock COMMAND [FLAG…] [ARG…]\n\n")
	for _, v := range verbs {
		synopsis := strings.TrimSpace(v.name + " " + strings.TrimPrefix(v.args, "[FLAG…] "))
		if v.args == "[FLAG…]" {
			synopsis = v.name
		}
		item(&b, synopsis, v.does, 19)
	}
	b.WriteString("  help [COMMAND], version\n\nFlags:\n")
	flagItems(&b, serverFlagNames)
	b.WriteString("Flags of holder, list and check:\n")
	flagItems(&b, []string{"json"})
	b.WriteString("Flags of run and lead:\n")
	flagItems(&b, jobFlagNames)
	b.WriteString("Flags of run:\n")
	flagItems(&b, runFlagNames)
	b.WriteString("\n" + serverSources + "\n" + exitCodes)
	return b.String()
}()

// helpOf returns the help of one subcommand, or of the whole.
func helpOf(name string) string {
	for _, v := range verbs {
		if v.name != name {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "usage: namedlock %s %s\n\n%s\n", v.name, v.args, v.does)
		if len(v.flags) > 0 {
			b.WriteString("\nFlags:\n")
			flagItems(&b, v.flags)
			b.WriteString("\n" + serverSources)
		}
		fmt.Fprintf(&b, "\nExample:\n  %s\n\nnamedlock help shows the other commands, and the exit codes.\n", v.example)
		return b.String()
	}
	return usage
}

func flagItems(b *strings.Builder, names []string) {
	for _, name := range names {
		item(b, strings.TrimSpace("-"+name+" "+flagTexts[name][0]), flagTexts[name][1], 26)
	}
}

// item writes a line of a table, and more where the text has more.
func item(b *strings.Builder, head, text string, column int) {
	head = "  " + head
	if len(head) >= column {
		b.WriteString(head + "\n")
		head = ""
	}
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			head = ""
		}
		fmt.Fprintf(b, "%-*s%s\n", column, head, line)
	}
}

// A helpError is a wish for the help of a subcommand, or of the whole.
type helpError struct{ of string }

func (helpError) Error() string { return "help is wanted" }
