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

var update = flag.Bool("update", false, "write docs/FAULTS.md anew")

const faultsPage = "../docs/FAULTS.md"

// docs/FAULTS.md is the table that is tested.
func TestFaultTable_Page(t *testing.T) {
	want := page()
	if *update {
		require.NoError(t, os.WriteFile(faultsPage, []byte(want), 0o644))
	}
	got, err := os.ReadFile(faultsPage)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "go test -run TestFaultTable_Page -update writes it anew")
}

// Each fault stands once at each step, and every outcome has been thought of.
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

const pageHead = `# What becomes of a fault

Each line below is a test (e2e/table_test.go) with WithLock and with Acquire: at one statement in the life of a lock one
thing goes wrong. If the server takes part in the fault, the test runs on MySQL and on MariaDB; with Acquire it runs on a
server in memory, unless the fault is a KILL. If the server gets nothing, both tests run on the server in memory, and MySQL
and MariaDB check one fault of each kind. The statements of WithSlot and WithTerm are tested in memory; MySQL and MariaDB check
each KILL, and one fault of each other kind with Open, except for the wait for a slot. This page is written by
` + "`go test -C e2e -run TestFaultTable_Page -update`" + ` from the table that the tests read, and a test fails where the two differ.

Whatever the fault and its outcome, each test also checks that

- the name is free on the server afterwards: another session takes it;
- the code under the lock runs if and only if the call does not return an acquire error;
- the Locker goes on. One from New whose connection has been discarded returns ErrUnavailable;
- Close returns, no connection stays in use, and a connection that is not listed as discarded goes back to the db.

"Done" means that the server has carried the statement out, though the client does not know. "Silence" ends with the caller's
deadline, or with what bounds a silent statement: 5 s where no lock is held on the session, three quarters of
a keep-alive interval where one is, WithReleaseTimeout for RELEASE_LOCK. Errors are the server's, by their
number: 1040 too many connections, 1045 access denied, 1059, 3057 and 4163 bad lock name, 1064 syntax, 1129 host blocked, 1142 and 1227
privilege missing, 1193 unknown variable, 1205 lock wait timeout, 1213 and 3058 deadlock, 1226 resource limit of
the user, 1231 bad value, 1243 and 1615 prepared statement unknown or out of date, 1295 cannot be prepared, 1305 unknown
function, 1317 interrupted, 1461 too many prepared statements, 1969 and 3024 statement limit, 2013 connection lost (a proxy's
answer), 4031 closed for idleness.

`

// page writes the table as a page.
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
