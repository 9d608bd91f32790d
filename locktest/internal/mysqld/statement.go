package mysqld

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// MySQL's errors.
var (
	errDeadlock      = server.Error(3058, "Deadlock found when trying to get user-level lock; try rolling back transaction/releasing locks and restarting lock acquisition.")
	errStatementTime = server.Error(3024, "Query execution was interrupted, maximum statement execution time exceeded")
)

func errSyntax(text string) error {
	return server.Error(1064, fmt.Sprintf("You have an error in your SQL syntax: locktest's server, which knows named locks alone, does not understand %q", text))
}

// A statement is a SELECT of expressions, a SELECT of holders, or a SET
// SESSION.
type statement struct {
	text    string
	columns []expression
	limit   time.Duration // MAX_EXECUTION_TIME, 0 for none
	holders func(*execution) ([][]driver.Value, error)
	set     func(*execution) error
}

// An expression yields a column's value.
type expression func(*execution) (driver.Value, error)

// An execution is a statement on its way.
type execution struct {
	ctx   context.Context
	conn  *conn
	args  []driver.Value
	limit time.Duration
}

func (x *execution) arg(i int) (driver.Value, error) {
	if i >= len(x.args) {
		return nil, server.Error(1210, "Incorrect arguments to EXECUTE")
	}
	return x.args[i], nil
}

// run returns the rows of the answer.
func (st statement) run(x *execution) ([][]driver.Value, error) {
	switch {
	case st.set != nil:
		return nil, st.set(x)
	case st.holders != nil:
		return st.holders(x)
	}
	row := make([]driver.Value, 0, len(st.columns))
	for _, column := range st.columns {
		value, err := column(x)
		if err != nil {
			return nil, err
		}
		row = append(row, value)
	}
	return [][]driver.Value{row}, nil
}

var (
	hint            = regexp.MustCompile(`/\*\+\s*MAX_EXECUTION_TIME\((\d+)\)\s*\*/`)
	ofMySQL         = regexp.MustCompile(`/\*!\d*(.*?)\*/`) // a comment that MySQL reads
	comment         = regexp.MustCompile(`/\*.*?\*/`)       // and all others, MariaDB's among them
	countsPlugins   = regexp.MustCompile(`\(SELECT COUNT\(\*\) FROM information_schema\.PLUGINS WHERE PLUGIN_NAME IN \([^)]*\)\)`)
	setsWaitTimeout = regexp.MustCompile(`^SET SESSION wait_timeout\s*=\s*(\d+)$`)
)

// subqueries puts what they yield in the place of those it knows.
func subqueries(plain string) string {
	plain = countsPlugins.ReplaceAllString(plain, "0") // it has none
	plain = isInstrumentOn.ReplaceAllString(plain, "'YES'")
	return countsNoRoom.ReplaceAllString(plain, "0")
}

func parse(text string) (statement, error) {
	st := statement{text: text}
	if m := hint.FindStringSubmatch(text); m != nil {
		ms, err := strconv.ParseInt(m[1], 10, 32)
		if err != nil {
			return st, errSyntax(text)
		}
		st.limit = time.Duration(ms) * time.Millisecond
	}
	plain := comment.ReplaceAllString(ofMySQL.ReplaceAllString(text, "$1"), " ")
	plain = strings.TrimSpace(subqueries(plain))
	if m := setsWaitTimeout.FindStringSubmatch(plain); m != nil {
		seconds, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return st, errSyntax(text)
		}
		st.set = func(x *execution) error { return x.conn.setWaitTimeout(seconds) }
		return st, nil
	}
	if st.holders = holdersOf(plain); st.holders != nil {
		return st, nil
	}
	list, ok := strings.CutPrefix(plain, "SELECT ")
	if !ok {
		return st, errSyntax(text)
	}
	p := &parser{rest: tokens.FindAllString(list, -1)}
	st.columns = p.list()
	if p.err != nil {
		return st, p.err
	}
	if len(p.rest) > 0 {
		return st, errSyntax(text)
	}
	return st, nil
}

// A parser reads
//
//	list    = expression { "," expression }
//	expression = operand [ "=" operand ]
//	operand = "?" | number | string | "_utf8mb4 0x" digits | "NULL" | "@@" variable | function "(" [ list ] ")"
type parser struct {
	rest   []string
	params int
	err    error // the first
}

var tokens = regexp.MustCompile(`@@[\w.]+|'[^']*'|_utf8mb4 0x[0-9A-F]+|\w+|[^\s\w]`)

func (p *parser) list() []expression {
	list := []expression{p.expression()}
	for p.skip(",") {
		list = append(list, p.expression())
	}
	return list
}

func (p *parser) expression() expression {
	left := p.operand()
	if !p.skip("=") {
		return left
	}
	right := p.operand()
	return func(x *execution) (driver.Value, error) {
		a, err := left(x)
		if err != nil {
			return nil, err
		}
		b, err := right(x)
		switch {
		case err != nil || a == nil || b == nil:
			return nil, err
		case fmt.Sprint(a) == fmt.Sprint(b):
			return int64(1), nil
		}
		return int64(0), nil
	}
}

func (p *parser) operand() expression {
	token := p.next()
	if n, err := strconv.ParseInt(token, 10, 64); err == nil {
		return constant(n)
	}
	if name, ok := strings.CutPrefix(token, "@@"); ok {
		return variable(name)
	}
	if len(token) > 1 && token[0] == '\'' {
		return constant([]byte(token[1 : len(token)-1]))
	}
	if digits, ok := strings.CutPrefix(token, "_utf8mb4 0x"); ok {
		name, err := hex.DecodeString(digits)
		if err != nil {
			p.fail(errSyntax(token))
		}
		return constant(name)
	}
	switch token {
	case "NULL":
		return constant(nil)
	case "?":
		i := p.params
		p.params++
		return func(x *execution) (driver.Value, error) { return x.arg(i) }
	}
	if !p.skip("(") {
		p.fail(errSyntax(token))
		return nil
	}
	var args []expression
	if !p.skip(")") {
		args = p.list()
		if !p.skip(")") {
			p.fail(errSyntax(token))
		}
	}
	return p.call(token, args)
}

// call calls a function.
func (p *parser) call(name string, args []expression) expression {
	f, ok := functions[name]
	if !ok || len(args) != f.args {
		p.fail(server.Error(1305, fmt.Sprintf("FUNCTION %s does not exist", name)))
		return nil
	}
	return func(x *execution) (driver.Value, error) {
		values := make([]driver.Value, len(args))
		for i, arg := range args {
			var err error
			if values[i], err = arg(x); err != nil {
				return nil, err
			}
		}
		return f.call(x, values)
	}
}

func (p *parser) next() string {
	if len(p.rest) == 0 {
		p.fail(errSyntax(""))
		return ""
	}
	token := p.rest[0]
	p.rest = p.rest[1:]
	return token
}

func (p *parser) skip(token string) bool {
	if len(p.rest) == 0 || p.rest[0] != token {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func constant(v driver.Value) expression {
	return func(*execution) (driver.Value, error) { return v, nil }
}

type function struct {
	args int
	call func(x *execution, args []driver.Value) (driver.Value, error)
}

var functions = map[string]function{
	"GET_LOCK": {2, func(x *execution, args []driver.Value) (driver.Value, error) {
		name, seconds, err := text(args[0]), int64(0), error(nil)
		if seconds, err = strconv.ParseInt(text(args[1]), 10, 64); err != nil {
			return nil, errSyntax(text(args[1])) // the library rounds by itself
		}
		return x.conn.getLock(x.ctx, name, time.Duration(seconds)*time.Second, x.limit)
	}},
	"RELEASE_LOCK": {1, func(x *execution, args []driver.Value) (driver.Value, error) {
		return x.conn.releaseLock(text(args[0]))
	}},
	"RELEASE_ALL_LOCKS": {0, func(x *execution, _ []driver.Value) (driver.Value, error) {
		return x.conn.locks.ReleaseAll(), nil
	}},
	"IS_USED_LOCK": {1, func(x *execution, args []driver.Value) (driver.Value, error) {
		return x.conn.server.isUsedLock(text(args[0])), nil
	}},
	"CONNECTION_ID": {0, func(x *execution, _ []driver.Value) (driver.Value, error) { return x.conn.id, nil }},
	"VERSION":       {0, func(*execution, []driver.Value) (driver.Value, error) { return []byte("9.7.0-locktest"), nil }},
}

// text is what a value looks like in a statement.
func text(v driver.Value) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// variable yields a system variable. An unknown one is an error when the
// statement runs, as it is to a server that prepares.
func variable(name string) expression {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "global."), "session.")
	switch name {
	case "wait_timeout":
		return func(x *execution) (driver.Value, error) { return x.conn.getWaitTimeout(), nil }
	case "version_comment":
		return constant([]byte("namedlock/locktest"))
	case "character_set_client", "character_set_connection", "character_set_results":
		return constant([]byte("utf8mb4"))
	case "performance_schema":
		return constant(int64(1))
	case "read_only", "innodb_read_only":
		return constant(int64(0))
	}
	return func(*execution) (driver.Value, error) {
		return nil, server.Error(1193, fmt.Sprintf("Unknown system variable '%s'", name))
	}
}

func (c *conn) setWaitTimeout(seconds int64) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.waitTimeout = seconds
	return nil
}

func (c *conn) getWaitTimeout() int64 {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.waitTimeout
}
