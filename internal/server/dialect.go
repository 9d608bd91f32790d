package server

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A greeting contains what is known about the server and the session from the
// greeting, which is the first statement of a session.
type greeting struct {
	version, comment sql.NullString
	harmless         bool            // a name passes the session's character sets unchanged
	leaseUnread      bool            // the server accepted the lease, which was not read back yet
	timeLimit        sql.NullFloat64 // MariaDB's max_statement_time in seconds, read when it is first needed
	checked          time.Duration   // when the server's locks were last found to exclude, since epoch
}

func (g *greeting) mariaDB() bool {
	return strings.Contains(strings.ToLower(g.version.String), "mariadb")
}

// hidesDeadlocks reports whether the server's status flags still show an open
// transaction after a deadlock has rolled it back. MariaDB 10.5 does that, and
// 10.11 does not (measured). The versions between them are treated like 10.5.
func (g *greeting) hidesDeadlocks() bool {
	if !g.mariaDB() {
		return false
	}
	rest, ten := strings.CutPrefix(g.version.String, "10.")
	text, _, _ := strings.Cut(rest, ".")
	minor, err := strconv.Atoi(text)
	return ten && err == nil && minor < 11
}

// galera reports whether the server may be a node of a Galera cluster: MariaDB,
// or Percona XtraDB Cluster, which has a version number of MySQL.
func (g *greeting) galera() bool {
	return g.mariaDB() || strings.Contains(g.comment.String, "XtraDB Cluster")
}

func isUTF8(charset string) bool {
	return charset == "utf8mb4" || charset == "utf8mb3" || charset == "utf8"
}

// greet asks the server what it is, unless that is known. It changes nothing,
// so the session may hold locks.
func (c *Conn) greet() error {
	if c.greeting != nil {
		return nil
	}
	if _, err := c.hello(c.patience(), nil, nil); err != nil {
		return c.refusedOr(err, rejected)
	}
	return nil
}

const rejected = "the server rejected the first query on a new session"

// hello sends the greeting, with more columns in it and, unless cluster is nil,
// the question whether the server may be in a cluster. It returns the session's
// wait_timeout in seconds.
func (c *Conn) hello(bound time.Duration, more []column, cluster *sql.NullString) (waitTimeout int64, err error) {
	var g greeting
	var client, connection, results sql.NullString // the character sets that a name goes through on its way, and back
	var seconds sql.NullInt64
	columns := slices.Concat([]column{
		{"VERSION()", &g.version},
		{"@@version_comment", &g.comment},
		{"@@character_set_client", &client},
		{"@@character_set_connection", &connection},
		{"@@wait_timeout", &seconds},
	}, more, []column{{"@@character_set_results", &results}})
	if err := c.scanServer(bound, columns, cluster); err != nil {
		return 0, err
	}
	c.setIdleLimit(time.Duration(seconds.Int64) * time.Second)
	// If character_set_results is NULL, the server converts nothing on the way
	// back.
	g.harmless = isUTF8(client.String) && isUTF8(connection.String) && (!results.Valid || isUTF8(results.String))
	c.greeting = &g
	c.chooseSpelling()
	return seconds.Int64, nil
}

// Greet greets a session and refuses it if its server's locks do not exclude.
// It also sets the lease. bound is for the first answer.
//
// If no lock of ours is on the session, Greet sends RELEASE_ALL_LOCKS. That
// drops the locks that other code left on the connection in a pool: GET_LOCK
// would re-enter such a lock silently, and RELEASE_LOCK would leave it held. A
// lock of ours can be on the session at the first Check of a connection given
// to New.
func (c *Conn) Greet(bound time.Duration) error {
	var columns []column
	var leaked sql.NullInt64
	if c.locks == 0 { // RELEASE_ALL_LOCKS would give ours away
		columns = append(columns, column{releaseAllLocks, &leaked})
	}
	var mode writability
	if c.server.CheckServer {
		columns = append(columns, c.readOnlyColumns(&mode)...)
	}
	cluster := c.clusterQuestion()
	waitTimeout, err := c.hello(bound, columns, cluster)
	switch {
	case IsAnswer(err) && strings.Contains(err.Error(), "allowed only with dual"):
		return fault.Because(fault.ErrUnsupported, vitess, err)
	case Prohibits(err):
		return prohibited(err)
	case err != nil:
		return c.refusedOr(err, rejected)
	}
	if leaked.Int64 > 0 {
		c.server.Logger.Warn("namedlock: released locks that other code left on a connection", "locks", leaked.Int64)
	}
	if c.server.CheckServer {
		err = c.checkServer(&mode, cluster)
	}
	if err == nil {
		err = c.setLease(waitTimeout)
	}
	if err != nil {
		c.greeting = nil // the next use greets again
	}
	return err
}

// refusedOr returns the error for a question that failed. If the server
// answered with an error, the session goes on; otherwise it is broken.
func (c *Conn) refusedOr(err error, refused string) error {
	switch {
	case errorNumber(err) == erQueryInterrupted:
		return fault.Because(fault.ErrInterrupted, "", err)
	case IsAnswer(err):
		return fault.Because(fault.ErrUnavailable, refused, err)
	}
	return c.MarkBroken(err)
}

// selectInWait returns the beginning of a statement whose first column is a
// GET_LOCK that waits for d, and the timeout for that GET_LOCK. The wait is in
// milliseconds, whatever time limit the server has for statements. No session
// variable is changed.
//
// MySQL rounds the timeout of GET_LOCK to whole seconds. So the timeout is
// rounded up, and a hint ends the wait by error 3024. MariaDB takes fractions,
// but ends a statement at its max_statement_time, which is therefore switched
// off for this one.
func (c *Conn) selectInWait(d time.Duration) (verb string, timeout driver.Value, err error) {
	if !c.greeting.mariaDB() {
		ms, seconds := (d+time.Millisecond-1)/time.Millisecond, (d+time.Second-1)/time.Second
		return fmt.Sprintf("SELECT /*+ MAX_EXECUTION_TIME(%d) */ ", ms), int64(seconds), nil
	}
	if !c.greeting.timeLimit.Valid {
		if err := c.read(c.patience(), nil, column{"@@max_statement_time", &c.greeting.timeLimit}); err != nil {
			return "", nil, err
		}
	}
	verb = "SELECT "
	if c.greeting.timeLimit.Float64 != 0 {
		verb = "SET STATEMENT max_statement_time=0 FOR SELECT "
	}
	return verb, d.Seconds(), nil
}
