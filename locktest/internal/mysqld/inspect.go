package mysqld

import (
	"database/sql/driver"
	"regexp"
	"strings"
	"time"
)

// The statements that ask who holds a lock join a list of locks to the process
// list and to the connections' attributes. They are known by their shape, and
// not read.
var (
	asksForHolders = regexp.MustCompile(`^SELECT ` + asUTF8("l.ID", "p.USER", "p.HOST", "p.COMMAND", "p.TIME", "p.INFO", "a.ATTR_VALUE", "i.ATTR_VALUE", "h.ATTR_VALUE", "l.NAME") + ` FROM \((.*)\) AS l` +
		` LEFT JOIN information_schema\.PROCESSLIST AS p ON p\.ID = l\.ID` + attribute("a", "program_name") + attribute("i", "_pid") + attribute("h", "client_host") + `$`)
	ofOneLock = regexp.MustCompile(`^SELECT IS_USED_LOCK\(\?\) AS ID, NULL AS NAME$`)
	ofPrefix  = regexp.MustCompile(`^SELECT t\.PROCESSLIST_ID AS ID, m\.OBJECT_NAME AS NAME FROM performance_schema\.metadata_locks AS m JOIN .*` +
		`LEFT\(m\.OBJECT_NAME, CHAR_LENGTH\(\?\)\) AS BINARY\) = CAST\(LOWER\(CONVERT\(\? USING utf8mb3\)\) AS BINARY\)$`)
)

// attribute is the join of an attribute of the connections.
func attribute(as, name string) string {
	return ` LEFT JOIN performance_schema\.session_(?:account_)?connect_attrs AS ` + as + ` ON ` + as + `\.PROCESSLIST_ID = l\.ID AND ` + as + `\.ATTR_NAME = '` + name + `'`
}

// asUTF8 is an expression for columns of a text that does not depend on the
// session.
func asUTF8(columns ...string) string {
	for i, column := range columns {
		columns[i] = regexp.QuoteMeta("CAST(CONVERT(" + column + " USING utf8mb4) AS BINARY)")
	}
	return strings.Join(columns, ", ")
}

// Whether the list of locks is complete is a row of subqueries: it always is.
var (
	isInstrumentOn = regexp.MustCompile(`\(SELECT ENABLED FROM performance_schema\.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'\)`)
	countsNoRoom   = regexp.MustCompile(`\(SELECT VARIABLE_VALUE FROM performance_schema\.global_status WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost'\)`)
)

// What the process list shows of every session. There is no network, as on a
// socket. The processes of a test are one; so no session shows a pid.
const (
	user = "locktest"
	host = "localhost"
)

// holdersOf returns what answers the statement if it asks for holders, and else
// nil.
func holdersOf(plain string) func(*execution) ([][]driver.Value, error) {
	m := asksForHolders.FindStringSubmatch(plain)
	switch {
	case m == nil:
		return nil
	case ofOneLock.MatchString(m[1]):
		return func(x *execution) ([][]driver.Value, error) {
			name, err := x.arg(0)
			if err != nil {
				return nil, err
			}
			return [][]driver.Value{x.conn.server.holder(text(name))}, nil
		}
	case ofPrefix.MatchString(m[1]):
		return func(x *execution) ([][]driver.Value, error) {
			prefix, err := x.arg(1) // the first is the same
			if err != nil {
				return nil, err
			}
			return x.conn.server.holders(text(prefix)), nil
		}
	}
	return nil
}

// holder returns the row about the lock's holder. It is full of NULL for a free
// one.
func (s *Server) holder(name string) []driver.Value {
	if c, held := s.locks.Holder(name); held {
		return c.shown(nil)
	}
	return make([]driver.Value, 10)
}

// holders returns the rows about all locks whose names begin with prefix.
func (s *Server) holders(prefix string) (rows [][]driver.Value) {
	for _, g := range s.locks.Grants() {
		if strings.HasPrefix(g.Key, fold(prefix)) {
			rows = append(rows, g.Client.shown(g.Key))
		}
	}
	return rows
}

// shown is the row about c and the name of a lock that it holds.
func (c *conn) shown(name driver.Value) []driver.Value {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	command, statement := "Sleep", driver.Value(nil)
	if c.statement != "" {
		command, statement = "Query", c.statement
	}
	return []driver.Value{c.id, user, host, command, int64(time.Since(c.since) / time.Second), statement, c.process.program, nil, nil, name}
}

// granted ends the statement that has waited for the lock.
func (c *conn) granted() { c.does("") }

// does notes what c does from now on: a statement, or "" for nothing.
func (c *conn) does(statement string) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.statement, c.since = statement, time.Now()
}
