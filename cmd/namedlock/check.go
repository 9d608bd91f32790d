package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-namedlock/namedlock"
)

// A report is the output of check, as -json prints it. A field that the server
// does not show is empty.
type report struct {
	Fit         bool   `json:"fit"`
	Problem     string `json:"problem,omitempty"`
	Version     string `json:"version"`
	User        string `json:"user"`
	Encrypted   string `json:"encrypted"`
	ReadOnly    string `json:"read_only"`
	Cluster     string `json:"cluster"`
	Charset     string `json:"character_set"`
	Process     string `json:"sees_other_users"`
	Lists       string `json:"lists_locks"`
	WaitTimeout string `json:"wait_timeout"`
	RoundTrip   string `json:"round_trip"`
	Loss        string `json:"loss_noticed"`
}

func check(ctx context.Context, in *invocation) (int, error) {
	if len(in.args) != 0 {
		return 0, usagef("check takes no arguments, got %q", in.args)
	}
	locker, db, err := in.server.open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	if err := db.PingContext(ctx); err != nil {
		if ctx.Err() != nil { // the driver's error says less
			err = fmt.Errorf("no answer from the server within %v", patience)
		}
		return 0, err
	}
	r := examine(ctx, db)
	r.Lists = "yes"
	if _, err := locker.Holders(ctx, ""); err != nil {
		r.Lists = "no: " + oneLine(err)
	}
	unfit := locker.Check(ctx)
	r.Fit = unfit == nil
	if unfit != nil {
		r.Problem = oneLine(unfit)
	} else {
		r.Loss = noticed(ctx, locker)
	}
	if err := errors.Join(in.printReport(r), locker.Close()); err != nil {
		return 0, err
	}
	return exitOK, unfit
}

// examine queries the server. A value that it does not return stays empty. The
// verdict is the Locker's.
func examine(ctx context.Context, db *sql.DB) report {
	r := report{
		Version:   value(ctx, db, "SELECT CONCAT(@@version, ' (', @@version_comment, ')')"),
		User:      value(ctx, db, "SELECT CURRENT_USER()"),
		Encrypted: encrypted(ctx, db),
		ReadOnly:  map[string]string{"0": "no", "1": "yes"}[value(ctx, db, "SELECT @@global.read_only")],
		Charset:   value(ctx, db, "SELECT CONCAT(@@character_set_connection, ', ', @@collation_connection)"),
		Cluster:   "none",
		Process:   "no; to show them in holder and list: GRANT PROCESS ON *.* TO " + value(ctx, db, "SELECT "+account),
	}
	if value(ctx, db, "SELECT @@wsrep_on") == "1" {
		r.Cluster = "Galera"
	}
	if value(ctx, db, "SELECT @@group_replication_group_name") != "" {
		r.Cluster = "group replication"
	}
	if value(ctx, db, `SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES
		WHERE PRIVILEGE_TYPE = 'PROCESS' AND GRANTEE = `+account) == "1" {
		r.Process = "yes"
	}
	if seconds := value(ctx, db, "SELECT @@wait_timeout"); seconds != "" {
		r.WaitTimeout = seconds + "s"
	}
	r.RoundTrip = roundTrip(ctx, db)
	return r
}

// account is the user, as a GRANT names it.
const account = `CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')`

// encrypted returns the version of TLS.
func encrypted(ctx context.Context, db *sql.DB) string {
	var name, version string
	if err := db.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Ssl_version'").Scan(&name, &version); err != nil {
		return ""
	}
	return cmp.Or(version, "no")
}

// value returns the answer to a question, "" if there is none.
func value(ctx context.Context, db *sql.DB, question string) string {
	var answer sql.NullString
	if err := db.QueryRowContext(ctx, question).Scan(&answer); err != nil {
		return ""
	}
	return answer.String
}

// roundTrip returns the median of nine round trips.
func roundTrip(ctx context.Context, db *sql.DB) string {
	var took []time.Duration
	for range 9 {
		start := time.Now()
		if value(ctx, db, "SELECT 1") != "1" {
			return ""
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2].Round(time.Microsecond).String()
}

// noticed acquires a lock of a random name, to find out how its loss would be
// noticed.
func noticed(ctx context.Context, locker *namedlock.Locker) string {
	lock, err := locker.Acquire(ctx, namedlock.SafeName("namedlock check", fmt.Sprint(time.Now().UnixNano())), 0)
	if err != nil {
		return ""
	}
	text := "at once if the server closes the connection; within 10s otherwise"
	if locker.Stats().Unwatched > 0 {
		text = "within 10s, by keep-alive only: the driver cannot check its socket (for example, checkConnLiveness=false)"
	}
	if lock.Release() != nil {
		return ""
	}
	return text
}

func (in *invocation) printReport(r report) error {
	if in.json {
		return printJSON(in.stdout, r)
	}
	verdict := "yes"
	if !r.Fit {
		verdict = "NO: " + r.Problem
	}
	table := tabwriter.NewWriter(in.stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"suitable for locks", verdict}, {"version", r.Version}, {"user", r.User}, {"encrypted", r.Encrypted}, {"read-only", r.ReadOnly}, {"cluster", r.Cluster},
		{"character set", r.Charset}, {"sees other users' sessions", r.Process}, {"lists locks", r.Lists},
		{"wait_timeout", r.WaitTimeout + "; namedlock sets 1m on a session that holds locks, if that is less"}, {"round trip", r.RoundTrip}, {"a loss is noticed", r.Loss},
	} {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", row[0], strings.TrimSpace(clean(row[1])))
	}
	return table.Flush()
}
