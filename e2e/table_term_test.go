package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A termRow is the result of faults at a statement of a WithTerm that has
// committed one transaction and runs a second. It is the same with Open and
// with New.
type termRow struct {
	at        string
	faults    []fault
	fails     bool  // the WithTx of the second transaction
	returns   error // the error that its error matches; nil: it is the server's error itself
	runs      bool  // fn of the second transaction
	committed bool  // the row that fn wrote
	lost      bool  // WithTerm returns ErrLost, and the connection is discarded
}

var termTable = []termRow{
	{at: "START TRANSACTION", faults: []fault{badConn, badConnLate, invalidConn, brokeInReply, killed, notSent, answerLost}, fails: true, returns: namedlock.ErrLost, lost: true},
	{at: "START TRANSACTION", faults: errorsOf(1205, 1290, 1317), fails: true, returns: namedlock.ErrUnavailable},
	{at: "COMMIT", faults: []fault{badConn, invalidConn, killed, notSent}, fails: true, returns: namedlock.ErrCommitUnknown, runs: true, lost: true},
	{at: "COMMIT", faults: []fault{badConnLate, brokeInReply, answerLost}, fails: true, returns: namedlock.ErrCommitUnknown, runs: true, committed: true, lost: true},
	{at: "COMMIT", faults: errorsOf(1317, 3024, 2006, 2013), fails: true, returns: namedlock.ErrCommitUnknown, runs: true, lost: true},
	{at: "COMMIT", faults: errorsOf(1180, 1213, 1290), fails: true, runs: true},
	{at: locksql.ReleaseLock, faults: of(deadConnection, unknownError, these(silence, unheard, null, zero, nonsense, text, noRow)), runs: true, committed: true, lost: true},
	{at: locksql.ReleaseLock, faults: of(errorsOf(1142, 1205, 1317), lateErrorsOf(1205)), runs: true, committed: true, lost: true},
}

// Every fault at a statement of a term has the outcome of the table. Afterwards
// the name is free, uncommitted rows are gone, and the Locker still works. Real
// servers check a KILL, and one fault of each other kind with Open.
func TestFaultTable_Term(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, r := range termTable {
			seen := map[string]bool{}
			for _, f := range r.faults {
				if !f.kills && (seen[f.kind()] || at.way == byNew) || f.quiet {
					continue
				}
				seen[f.kind()] = true
				t.Run(r.statement()+": "+f.is, func(t *testing.T) {
					table := at.table(t, "n INT")
					r.require(t, onServer(at), f, table)
					assert.Equal(t, r.rows(), at.count(t, table))
				})
			}
		}
	})
}

// The same on a server in memory, which has no tables.
func TestFaultTable_TermInMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		for _, way := range []string{byOpen, byNew} {
			for _, r := range termTable {
				for _, f := range r.faults {
					if f.kills {
						continue
					}
					t.Run(string(kind)+"/"+way+"/"+r.statement()+": "+f.is, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { r.require(t, inMemory(t, kind, way), f, "t") })
					})
				}
			}
		}
	}
}

func (r termRow) statement() string { return strings.TrimSuffix(r.at, "(") }

// rows returns the number of committed transactions.
func (r termRow) rows() int {
	if r.committed {
		return 2
	}
	return 1
}

// inTermOfTable is the step for which the Lockers are made.
var inTermOfTable = &step{}

// require runs a term with the fault, and checks everything except the rows of
// the table.
func (r termRow) require(t *testing.T, on ground, f fault, table string) {
	l, next, name := on.lockerFor(t, inTermOfTable), on.foreign(t), newName("term")
	c := &faultCase{t: t, on: on, l: l, killer: on.foreign(t)}
	how := spy.Exec
	if r.at == locksql.ReleaseLock {
		how = spy.Query
	}
	ran := false
	var second error
	err := l.WithTerm(t.Context(), name, 0, func(ctx context.Context, term *namedlock.Term) error {
		require.NoError(t, term.WithTx(ctx, nil, insert(table)))
		l.spy.On(how, 1, r.at, f.make(c))
		second = term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
			ran = true
			return insert(table)(ctx, tx)
		})
		return nil
	})
	switch {
	case !r.fails:
		assert.NoError(t, second)
	case r.returns == nil:
		assert.ErrorAs(t, second, new(*mysql.MySQLError))
	default:
		assert.ErrorIs(t, second, r.returns)
	}
	for _, not := range []error{namedlock.ErrCommitUnknown, namedlock.ErrLost, namedlock.ErrUnavailable} {
		assert.Equal(t, not == r.returns, errors.Is(second, not), "%v: %v", not, second)
	}
	assert.Equal(t, r.runs, ran)
	if r.lost {
		requireError(t, err, namedlock.ErrLost, name)
	} else {
		require.NoError(t, err)
	}
	next.lockSoon(name)
	next.unlock(name)
	l.spy.Forgive()
	assert.Equal(t, r.lost, l.spy.Closed() > 0, "discarded")
	again := l.WithTerm(t.Context(), name, patience, func(ctx context.Context, term *namedlock.Term) error {
		return term.WithTx(ctx, nil, func(context.Context, *sql.Tx) error { return nil })
	})
	if on.way == byNew && r.lost {
		requireError(t, again, namedlock.ErrUnavailable, name)
	} else {
		require.NoError(t, again)
	}
	require.True(t, endsWithin(inBackground(l.Close), patience), "Close returns")
	if l.conn != nil {
		_ = l.conn.Close() // ErrConnDone if the Locker had to discard it
	}
	require.Zero(t, l.db.Stats().InUse, "connections in use")
	require.NoError(t, l.db.Close())
}

// termPage returns the table as a part of the page.
func termPage() string {
	var b strings.Builder
	b.WriteString("\n## WithTerm\n\nAt its own statements, in the second of two transactions or after it. The first transaction stays committed. If\nWithTerm returns `ErrLost`, the connection is discarded.\n\n" +
		"| Statement | Fault | WithTx returns | fn | What fn wrote | WithTerm returns |\n|---|---|---|---|---|---|\n")
	for _, r := range termTable {
		for _, f := range r.faults {
			returns, runs, wrote, lost := "nil", "does not run", "–", "nil"
			switch {
			case r.returns != nil:
				returns = "`" + sentinelNames[r.returns] + "`"
			case r.fails:
				returns = "the server's error"
			}
			if r.runs {
				runs, wrote = "runs", "is not committed"
			}
			if r.committed {
				wrote = "is committed"
			}
			if r.lost {
				lost = "`ErrLost`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.statement(), f.is, returns, runs, wrote, lost)
		}
	}
	return b.String()
}
