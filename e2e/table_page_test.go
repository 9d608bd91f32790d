package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/FAULTS.md")

const faultsPage = "../docs/FAULTS.md"

// docs/FAULTS.md is the table that is tested.
func TestFaultTable_Page(t *testing.T) {
	want := page()
	if *update {
		require.NoError(t, os.WriteFile(faultsPage, []byte(want), 0o644))
	}
	got, err := os.ReadFile(faultsPage)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "go test -run TestFaultTable_Page -update writes it")
}

// Each fault occurs once at each step, and every outcome is used.
func TestFaultTable_IsInOrder(t *testing.T) {
	known := map[*outcome]bool{notHere: true}
	for _, o := range outcomes {
		known[o] = true
	}
	seen := map[string]bool{}
	used := map[*outcome]bool{}
	for _, r := range faultTable {
		for _, f := range r.faults {
			key := r.step.is + ": " + f.is
			assert.False(t, seen[key], "twice: %s", key)
			seen[key] = true
			assert.True(t, known[r.open] && known[r.new], key)
			used[r.open], used[r.new] = true, true
		}
	}
	for _, o := range outcomes {
		assert.True(t, used[o], "never the outcome: %s", o.is)
	}
}

const pageHead = `# Failure table

Each line below is a test ([table_test.go](../e2e/table_test.go)): one statement in the life of a lock fails in one way.
The page shows the result. [TESTING.md](TESTING.md) describes how this fits in.

The **greeting** is the first query on a session: it reads what the server is, and releases locks that other code left.
[STATEMENTS.md](STATEMENTS.md) has the full text of each statement.

## Reading the table

- The outcomes of the columns Open and New are explained under [Outcomes](#outcomes). "–" means that the fault cannot
  happen there.
- "Done, then" means that the server has executed the statement, but the client does not get the answer.
- "Silence" ends at the caller's deadline, or at the bound of a silent statement. That is 5 s without a lock on the
  session, three quarters of a keep-alive interval with one, and WithReleaseTimeout for RELEASE_LOCK.
- Errors are those of the server:

| number | error |
|---|---|
| 1040, 1226 | too many connections; the user's resource limit |
| 1045, 1142, 1227 | access denied; a privilege is missing |
| 1059, 3057, 4163 | invalid lock name |
| 1064, 1193, 1231, 1305 | syntax; unknown variable; invalid value; unknown function |
| 1129 | host blocked |
| 1205, 1213, 3058 | lock wait timeout; deadlock; deadlock |
| 1243, 1615, 1295, 1461 | prepared statement unknown; out of date; cannot be prepared; too many |
| 1317, 1969, 3024 | interrupted; statement time limit (MariaDB, MySQL) |
| 2013 | connection lost (a proxy's answer) |
| 4031 | closed for idleness |

Whatever the outcome, each test also checks that

- the name is free on the server afterwards: another session acquires it;
- the code under the lock runs if and only if the call does not return an error of acquiring;
- the Locker still works. One from New whose connection has been discarded returns ErrUnavailable;
- Close returns, no connection stays in use, and a connection that is not listed as discarded goes back to the db.

## Where each test runs

| the fault | WithLock | Acquire |
|---|---|---|
| a KILL | MySQL, MariaDB | MySQL, MariaDB |
| another fault in which the server takes part | MySQL, MariaDB | a server in memory |
| the server gets nothing | a server in memory; MySQL and MariaDB check one fault of each kind | a server in memory |

The statements of WithSlot and WithTerm are tested in memory. MySQL and MariaDB check each KILL. They also check one
fault of each other kind with Open, except for the wait for a slot.

` + "`go test -C e2e -run TestFaultTable_Page -update`" + ` writes this page from the table that the tests read. A test fails if
the two differ.

`

// page returns the table as a page.
func page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("## Outcomes\n\n")
	b.WriteString("| Outcome | The call returns | The code under the lock | Its context | Connections discarded |\n|---|---|---|---|---|\n")
	for _, o := range outcomes {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", o.is, o.returned(), o.ran(), o.context(), o.discards())
	}
	var last *step
	for _, r := range faultTable {
		if r.step != last {
			last = r.step
			fmt.Fprintf(&b, "\n## %s\n\n%s%s\n\n| Fault | Open | New |\n|---|---|---|\n", r.step.is, sentence(r.step.says), r.step.where())
		}
		for _, f := range r.faults {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", f.is, r.open.name(), r.new.name())
		}
	}
	b.WriteString(txPage())
	b.WriteString(termPage())
	return b.String()
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

func (st *step) where() string {
	if st.only == "" {
		return ""
	}
	return fmt.Sprintf(" On %s only.", map[string]string{"mysql": "MySQL", "mariadb": "MariaDB"}[string(st.only)])
}

func (o *outcome) name() string {
	if o == notHere {
		return "–"
	}
	return o.is
}

func (o *outcome) returned() string {
	if o.returns == nil {
		return "nil"
	}
	return "`" + sentinelNames[o.returns] + "`"
}

var sentinelNames = map[error]string{
	namedlock.ErrLost:        "ErrLost",
	namedlock.ErrDeadlock:    "ErrDeadlock",
	namedlock.ErrInterrupted: "ErrInterrupted",
	namedlock.ErrUnavailable: "ErrUnavailable",
	namedlock.ErrInvalidName: "ErrInvalidName",
	namedlock.ErrTimeout:     "ErrTimeout",
	namedlock.ErrUnsupported: "ErrUnsupported",
	context.DeadlineExceeded: "context.DeadlineExceeded",

	namedlock.ErrCommitUnknown: "ErrCommitUnknown",
}

func (o *outcome) ran() string {
	if o.runs {
		return "runs"
	}
	return "does not run"
}

func (o *outcome) context() string {
	switch {
	case o.ends:
		return "ends, cause `ErrLost`"
	case o.runs:
		return "stays"
	}
	return "–"
}

func (o *outcome) discards() string {
	if o.slow {
		return fmt.Sprintf("%d, after 5 s", o.discarded)
	}
	return fmt.Sprint(o.discarded)
}
