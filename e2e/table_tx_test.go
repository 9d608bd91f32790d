package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
)

// A txRow is the result of faults at a statement that WithLockTx itself sends.
// It is the same with Open and with New.
type txRow struct {
	at        string
	faults    []fault
	returns   error // nil: the server's error itself
	runs      bool
	committed bool
	discarded bool
}

var txTable = []txRow{
	{at: "START TRANSACTION", faults: []fault{badConn, badConnLate, invalidConn, brokeInReply, killed, notSent, answerLost}, returns: namedlock.ErrUnavailable, discarded: true},
	{at: "START TRANSACTION", faults: errorsOf(1205, 1290), returns: namedlock.ErrUnavailable},
	{at: "SAVEPOINT", faults: []fault{badConn, badConnLate, invalidConn, brokeInReply, killed}, returns: namedlock.ErrUnavailable, discarded: true},
	{at: "SAVEPOINT", faults: errorsOf(1205), returns: namedlock.ErrUnavailable},
	{at: "RELEASE SAVEPOINT", faults: of([]fault{badConn, badConnLate, invalidConn, brokeInReply, killed}, errorsOf(2013)), returns: namedlock.ErrLost, runs: true, discarded: true},
	{at: "RELEASE SAVEPOINT", faults: errorsOf(1317), runs: true},
	{at: "COMMIT", faults: []fault{badConn, invalidConn, killed, notSent}, returns: namedlock.ErrCommitUnknown, runs: true, discarded: true},
	{at: "COMMIT", faults: []fault{badConnLate, brokeInReply, answerLost}, returns: namedlock.ErrCommitUnknown, runs: true, committed: true, discarded: true},
	{at: "COMMIT", faults: errorsOf(1317, 3024, 2006, 2013), returns: namedlock.ErrCommitUnknown, runs: true, discarded: true},
	{at: "COMMIT", faults: errorsOf(1180, 1213, 1290), runs: true},
	{at: "ROLLBACK", faults: []fault{badConn, badConnLate, invalidConn, brokeInReply, killed, notSent, answerLost}, returns: namedlock.ErrLost, runs: true, discarded: true},
	{at: "ROLLBACK", faults: errorsOf(1290, 1317), returns: namedlock.ErrLost, runs: true, discarded: true},
}

// Every fault at a statement that WithLockTx itself sends has the outcome of
// the table. Afterwards the name is free, uncommitted rows are gone, and the
// Locker still works.
func TestFaultTable_Tx(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, r := range txTable {
			for _, f := range r.faults {
				t.Run(r.at+": "+f.is, func(t *testing.T) {
					l, next, name, table := at.spied(t), at.foreign(t), newName("tx"), at.table(t, "n INT")
					require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(context.Context, *sql.Tx) error { return nil }))
					c := &faultCase{t: t, on: onServer(at), l: l, killer: at.foreign(t)}
					closed := l.spy.Closed()
					how := spy.Exec
					if strings.Contains(r.at, "SAVEPOINT") {
						how = spy.Query
					}
					l.spy.On(how, 1, r.at, f.make(c))
					ran := false
					err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
						ran = true
						if err := insert(table)(ctx, tx); err != nil || r.at != "ROLLBACK" {
							return err
						}
						return errTx
					})
					require.Error(t, err)
					assert.Equal(t, r.runs, ran)
					switch {
					case r.returns != nil:
						assert.ErrorIs(t, err, r.returns)
					default:
						assert.ErrorAs(t, err, new(*mysql.MySQLError))
					}
					for _, not := range []error{namedlock.ErrCommitUnknown, namedlock.ErrLost, namedlock.ErrUnavailable} {
						assert.Equal(t, not == r.returns, errors.Is(err, not), "%v: %v", not, err)
					}
					assert.Equal(t, r.at == "ROLLBACK", errors.Is(err, errTx))
					next.lockSoon(name)
					want := 0
					if r.committed {
						want = 1
					}
					assert.Equal(t, want, at.count(t, table))
					next.unlock(name)
					eventually(t, func() bool { return l.spy.Closed() > closed == r.discarded }, "discarded: %v", r.discarded)
					err = l.WithLockTx(t.Context(), name, patience, nil, insert(table))
					if at.way == byNew && r.discarded {
						requireError(t, err, namedlock.ErrUnavailable, name)
					} else {
						require.NoError(t, err)
					}
				})
			}
		}
	})
}

// txPage returns the table as a part of the page.
func txPage() string {
	var b strings.Builder
	b.WriteString("\n## WithLockTx\n\nAt its own statements, in addition to those above. The savepoint is for drivers that do not show whether the\ntransaction is open. Everything that is not committed is rolled back before the next holder has the lock.\n\n" +
		"| Statement | Fault | The call returns | fn | What fn wrote | Connection |\n|---|---|---|---|---|---|\n")
	for _, r := range txTable {
		for _, f := range r.faults {
			returns, runs, wrote, discarded := "the server's error", "does not run", "is not committed", "stays"
			if r.returns != nil {
				returns = "`" + sentinelNames[r.returns] + "`"
			}
			if r.runs {
				runs = "runs"
			} else {
				wrote = "–"
			}
			if r.committed {
				wrote = "is committed"
			}
			if r.discarded {
				discarded = "discarded"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.at, f.is, returns, runs, wrote, discarded)
		}
	}
	return b.String()
}
