package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/go-namedlock/namedlock"
)

// A lock is a held lock, as -json prints it. A field that the server does not
// show is left out.
type lock struct {
	Name         string  `json:"name"`
	ConnectionID uint64  `json:"connection_id"`
	User         string  `json:"user,omitempty"`
	Host         string  `json:"host,omitempty"`
	Port         int     `json:"port,omitempty"`
	Program      string  `json:"program,omitempty"`
	PID          int     `json:"pid,omitempty"`
	ClientHost   string  `json:"client_host,omitempty"`
	Command      string  `json:"command,omitempty"`
	Seconds      float64 `json:"command_seconds"`
	Statement    string  `json:"statement,omitempty"`
}

func shown(h namedlock.Holder) lock {
	return lock{h.Name, h.ConnectionID, h.User, h.Host, h.Port, h.Program, h.PID, h.ClientHost, h.Command, h.CommandTime.Seconds(), h.Statement}
}

func holder(ctx context.Context, in *invocation) (int, error) {
	if len(in.args) != 1 {
		return 0, usagef("holder takes exactly one lock name, got %d", len(in.args))
	}
	locker, db, err := in.server.open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	h, held, err := locker.Holder(ctx, in.args[0])
	switch {
	case err != nil:
		return 0, err
	case !held && in.json:
		return exitNobody, printJSON(in.stdout, nil)
	case !held:
		return exitNobody, print(in.stdout, "nobody\n")
	case in.json:
		return exitOK, printJSON(in.stdout, shown(h))
	}
	text := clean(h.String()) + "\n"
	if h.Statement != "" {
		text += "statement: " + clean(h.Statement) + "\n"
	}
	if h.User == "" {
		text += "(to see user, host and statement: GRANT PROCESS ON *.* TO " + clean(value(ctx, db, "SELECT "+account)) + ")\n"
	}
	return exitOK, print(in.stdout, text)
}

func list(ctx context.Context, in *invocation) (int, error) {
	if len(in.args) > 1 {
		return 0, usagef("list takes at most one prefix, got %d arguments", len(in.args))
	}
	prefix := ""
	if len(in.args) == 1 {
		prefix = in.args[0]
	}
	locker, db, err := in.server.open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	holders, err := locker.Holders(ctx, prefix)
	if err != nil {
		return 0, err
	}
	locks := make([]lock, len(holders)) // [] in JSON, also for none
	for i, h := range holders {
		locks[i] = shown(h)
	}
	if in.json {
		return exitOK, printJSON(in.stdout, locks)
	}
	table := tabwriter.NewWriter(in.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NAME\tCONNECTION\tUSER\tHOST\tPROGRAM\tPID\tCLIENT_HOST\tCOMMAND\tTIME")
	for _, l := range locks {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clean(l.Name), l.ConnectionID,
			orDash(l.User), orDash(l.Host), orDash(l.Program),
			orDash(strings.TrimPrefix(strconv.Itoa(l.PID), "0")), orDash(l.ClientHost), orDash(l.Command), strconv.FormatFloat(l.Seconds, 'f', -1, 64)+"s")
	}
	return exitOK, table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return clean(text)
}
