package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A verb is a subcommand, as its help shows it.
type verb struct {
	name, args string
	does       string // lines, of 80 columns with the table of the global help
	flags      []string
	example    string
	exits      string // its exit codes
	zero, one  string // the meaning of exit codes 0 and 1, if exits has them
}

var (
	serverFlagNames = []string{"dsn", "defaults-file"}
	jobFlagNames    = []string{"grace", "quiet", "verbose"}
	runFlagNames    = []string{"timeout", "retry", "exit-busy", "slots", "at-least", "at-most"}
)

var verbs = []verb{
	{
		name: "run", args: "[FLAG…] NAME [NAME…] -- COMMAND [ARG…]",
		does:    "run the command under the lock, or under all of the locks",
		flags:   join(runFlagNames, jobFlagNames, serverFlagNames),
		example: "namedlock run -timeout 0 report -- make-report",
		exits:   "N 64 69 70 75 77 124 126 127",
	},
	{
		name: "lead", args: "[FLAG…] NAME -- COMMAND [ARG…]",
		does:    "keep the command running on one of many machines; run it again,\nthere or elsewhere, if the lock is lost or the command fails",
		flags:   join(jobFlagNames, serverFlagNames),
		example: "namedlock lead scheduler -- scheduler --every 5m",
		exits:   "N 64 69 70 77 126 127",
	},
	{
		name: "held", args: "[FLAG…] NAME",
		does:    "exit with 0 if this process runs under the lock, by a run or lead\nthat started it, and with 1 if not; does not ask the server",
		flags:   serverFlagNames,
		example: `namedlock held report || exec namedlock run report -- "$0" "$@"`,
		exits:   "0 1 64", zero: "this process runs under the lock", one: "this process does not run under the lock",
	},
	{
		name: "holder", args: "[FLAG…] NAME",
		does:    "print the holder of the lock: connection, user, host, program,\nprocess, statement",
		flags:   join([]string{"json"}, serverFlagNames),
		example: "namedlock holder report",
		exits:   "0 1 64 69 77", zero: "a session holds the lock", one: "no session holds the lock",
	},
	{
		name: "list", args: "[FLAG…] [PREFIX]",
		does:    "list all held locks whose names begin with PREFIX",
		flags:   join([]string{"json"}, serverFlagNames),
		example: "namedlock list billing.",
		exits:   "0 64 69 77", zero: "the list is complete; it may be empty",
	},
	{
		name: "check", args: "[FLAG…]",
		does:    "check whether the server is suitable for locks: version, read-only,\ncluster, character set, privileges, wait_timeout, round trip, and\nhow soon a lost lock is noticed",
		flags:   join([]string{"json"}, serverFlagNames),
		example: "namedlock check -defaults-file /etc/namedlock.cnf",
		exits:   "0 64 69 77", zero: "the server is suitable for locks",
	},
	{
		name: "completion", args: "bash|zsh",
		does:    "print a completion script",
		example: `eval "$(namedlock completion bash)"`,
		exits:   "0 64", zero: "the script was printed",
	},
}

func join(lists ...[]string) (all []string) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

// flagTexts are the argument of a flag, and its effect, by its name.
var flagTexts = map[string][2]string{
	"dsn":           {"DSN", "the server: user:password@tcp(host:3306)/; visible in the process\nlist"},
	"defaults-file": {"FILE", "a MySQL option file, whose group [client] sets the server"},
	"json":          {"", "print JSON"},
	"timeout":       {"5s|0|forever", "how long to wait for the lock (default forever); 0 tries once"},
	"retry":         {"1m", "how long to retry a server that is unreachable at the start\n(default 0: try once)"},
	"exit-busy":     {"N", "the exit code if the lock was not acquired in time (default 75)"},
	"slots":         {"N", "run the command in one of N slots of the name, so at most N run at\na time; $NAMEDLOCK_SLOT is the number of the slot, 0 to N-1"},
	"at-least":      {"30s", "hold the lock for at least this long after it was acquired, even if\nthe command ends earlier"},
	"at-most":       {"1h", "end the command if it runs for longer than this: SIGTERM, SIGKILL\nafter -grace, exit code 124"},
	"grace":         {"10s", "how long the command has to end after SIGTERM, which it gets when\nthe lock is lost, before it gets SIGKILL (default 10s)"},
	"quiet":         {"", "do not report a busy lock, an outage, a command that failed, or\nprocesses that the command left behind"},
	"verbose":       {"", "report every step"},
}

const serverSources = "The server is set by -dsn or -defaults-file, else by $NAMEDLOCK_DSN, else by ~/.my.cnf.\n"

// exitTexts are the exit codes and their meanings.
var exitTexts = [][2]string{
	{"N", "the exit code of the command, or 128 plus the number of the signal that ended it"},
	{"0", "success; holder: a session holds the lock; held: this process runs under it"},
	{"1", "holder: no session holds the lock; held: this process does not run under it"},
	{"64", "a flag, a lock name, the DSN or the option file is invalid"},
	{"69", "the server is unreachable or not suitable for locks, or it ended the wait (KILL QUERY)"},
	{"70", "the lock may not have been held to the end"},
	{"75", "the lock was not acquired in time (-exit-busy changes this code)"},
	{"77", "the server denied access to the user, or the user lacks a privilege"},
	{"124", "the command ran for longer than -at-most, and was ended"},
	{"126", "the command is not executable"},
	{"127", "the command was not found"},
}

// usage is the global help.
var usage = func() string {
	var b strings.Builder
	b.WriteString("usage: namedlock COMMAND [FLAG…] [ARG…]\n\n")
	for _, v := range verbs {
		synopsis := strings.TrimSpace(v.name + " " + strings.TrimPrefix(v.args, "[FLAG…] "))
		if v.args == "[FLAG…]" {
			synopsis = v.name
		}
		item(&b, synopsis, v.does, 15)
	}
	b.WriteString("  help [COMMAND], version\n\nFlags:\n")
	flagItems(&b, serverFlagNames)
	b.WriteString("Flags of holder, list and check:\n")
	flagItems(&b, []string{"json"})
	b.WriteString("Flags of run and lead:\n")
	flagItems(&b, jobFlagNames)
	b.WriteString("Flags of run:\n")
	flagItems(&b, runFlagNames)
	b.WriteString("\n" + serverSources + "\nExit codes (N: of run and lead):\n")
	for _, exit := range exitTexts {
		item(&b, exit[0], exit[1], 7)
	}
	return b.String()
}()

// helpOf returns the help of one subcommand, or the global help.
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
		fmt.Fprintf(&b, "\nExample:\n  %s\n\nExit codes:\n", v.example)
		own := map[string]string{"0": v.zero, "1": v.one}
		for _, exit := range exitTexts {
			if slices.Contains(strings.Fields(v.exits), exit[0]) {
				item(&b, exit[0], cmp.Or(own[exit[0]], exit[1]), 7)
			}
		}
		return b.String()
	}
	return usage
}

func flagItems(b *strings.Builder, names []string) {
	for _, name := range names {
		item(b, strings.TrimSpace("-"+name+" "+flagTexts[name][0]), flagTexts[name][1], 26)
	}
}

// item writes a row of a table: one line for each line of the text.
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

// A helpError asks for the help of a subcommand, or for the global help.
type helpError struct{ of string }

func (helpError) Error() string { return "help requested" }
