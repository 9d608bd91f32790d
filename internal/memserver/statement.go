package memserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/locktable"
)

// As much of SQL as the library sends, and the code under its locks in the
// tests.

// version is a MariaDB's.
const version = "10.11.0-MariaDB"

// defaults are the variables of a new session. Those that are missing are not
// known.
var defaults = map[string]string{
	"character_set_client":              "utf8mb4",
	"character_set_connection":          "utf8mb4",
	"character_set_results":             "utf8mb4",
	"collation_connection":              "utf8mb4_general_ci",
	"wait_timeout":                      "28800",
	"autocommit":                        "1",
	"sql_select_limit":                  "18446744073709551615",
	"completion_type":                   "NO_CHAIN",
	"tx_isolation":                      "REPEATABLE-READ",
	"tx_read_only":                      "0",
	"max_statement_time":                "0",
	"idle_transaction_timeout":          "0",
	"idle_readonly_transaction_timeout": "0",
	"idle_write_transaction_timeout":    "0",
	"innodb_read_only":                  "0",
	"wsrep_on":                          "0",
	"version_comment":                   "in memory",
}

// defaultsOfMySQL are in addition to, or instead of, the defaults.
var defaultsOfMySQL = map[string]string{
	"transaction_isolation": "REPEATABLE-READ",
	"transaction_read_only": "0",
	"max_execution_time":    "0",
}

var ofMariaDBAlone = map[string]bool{
	"tx_isolation":                      true,
	"tx_read_only":                      true,
	"max_statement_time":                true,
	"idle_transaction_timeout":          true,
	"idle_readonly_transaction_timeout": true,
	"idle_write_transaction_timeout":    true,
	"wsrep_on":                          true,
}

// version is what VERSION() returns.
func (c *session) version() string {
	if c.mySQL {
		return "9.7.0"
	}
	return version
}

var (
	ofMySQL   = regexp.MustCompile(`/\*!\d*(.*?)\*/`)
	ofMariaDB = regexp.MustCompile(`/\*M!(.*?)\*/`)
	hint      = regexp.MustCompile(`/\*\+ MAX_EXECUTION_TIME\((\d+)\) \*/ `)
	plugins   = regexp.MustCompile(`\(SELECT COUNT\(\*\) FROM information_schema\.PLUGINS .*?\)\)`)
	asBytes   = regexp.MustCompile(`^CAST\((.*) AS BINARY\)$`)
	asHex     = regexp.MustCompile(`_utf8mb4 0x([0-9A-F]*)|CONVERT\(UNHEX\(CONVERT\('([0-9a-f]*)' USING latin1\)\) USING utf8mb4\)`)

	getLock     = regexp.MustCompile(`^GET_LOCK\('([^']*)', ([^)]*)\)$`)
	releaseLock = regexp.MustCompile(`^RELEASE_LOCK\('([^']*)'\)$`)
	isUsedLock  = regexp.MustCompile(`IS_USED_LOCK\('([^']*)'\)`)
	setSession  = regexp.MustCompile(`(?:SESSION )?(\w+) = ('?)([^',]*)'?`)
)

// run carries a statement out and returns its answer. It returns false if the
// client has gone.
func (c *session) run(text string) (answer *Reply, ok bool) {
	mine, theirs := ofMariaDB, ofMySQL
	if c.mySQL {
		mine, theirs = theirs, mine
	}
	text = theirs.ReplaceAllString(mine.ReplaceAllString(text, "$1"), "")
	text = plugins.ReplaceAllString(text, "0") // it has none
	text = asHex.ReplaceAllStringFunc(text, func(literal string) string {
		found := asHex.FindStringSubmatch(literal)
		name, err := hex.DecodeString(found[1] + found[2])
		if err != nil {
			return literal // which nothing below understands
		}
		return "'" + string(name) + "'"
	})
	text = strings.TrimSuffix(strings.TrimSpace(text), " LIMIT 18446744073709551615")
	switch verb, rest, _ := strings.Cut(text, " "); {
	case text == "SHOW STATUS LIKE 'wsrep_cluster_size'":
		return &Reply{Row: []any{"wsrep_cluster_size", 0}}, true
	case strings.Contains(text, " FROM performance_schema.replication_group_members "):
		return &Reply{Row: []any{0}}, true
	case verb == "SELECT" && strings.Contains(text, " FROM "): // who holds a lock
		return c.selectRow(isUsedLock.FindString(text))
	case verb == "SELECT":
		return c.selectRow(rest)
	case verb == "SET":
		c.set(rest)
	case verb == "INSERT":
		return &Reply{Affected: 1}, true
	default:
		return &Reply{Number: c.transact(text)}, true
	}
	return new(Reply), true
}

// set changes variables of the session.
func (c *session) set(text string) {
	if charset, ok := strings.CutPrefix(text, "NAMES "); ok {
		for _, of := range []string{"client", "connection", "results"} {
			c.vars["character_set_"+of] = charset
		}
		return
	}
	for _, m := range setSession.FindAllStringSubmatch(text, -1) {
		if _, ok := c.vars[m[1]]; ok {
			c.vars[m[1]] = m[3]
		}
	}
}

// transact begins and ends transactions. It returns the number of an error, or
// 0.
func (c *session) transact(text string) (number uint16) {
	c.server.mu.Lock()
	inTx := c.inTx
	c.server.mu.Unlock()
	_, name, _ := strings.Cut(text, "SAVEPOINT ")
	switch {
	case strings.HasPrefix(text, "START TRANSACTION"):
		c.endTx()
		c.server.mu.Lock()
		c.inTx = true
		c.server.mu.Unlock()
	case text == "COMMIT", text == "ROLLBACK":
		c.endTx()
	case strings.HasPrefix(text, "SAVEPOINT ") && inTx:
		c.savepoints[name] = true
	case strings.HasPrefix(text, "RELEASE SAVEPOINT ") && !c.savepoints[name]:
		return erNoSuchSavepoint
	case strings.HasPrefix(text, "SAVEPOINT "), strings.HasPrefix(text, "RELEASE SAVEPOINT "):
	case text == "UNLOCK TABLES":
	default:
		return erParse
	}
	return 0
}

func (c *session) endTx() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.inTx, c.savepoints = false, make(map[string]bool)
}

// status returns the flags that go with an answer.
func (c *session) status() (flags byte) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.inTx {
		flags |= inTransaction
	}
	if c.vars["autocommit"] == "1" {
		flags |= autocommit
	}
	return flags
}

// selectRow evaluates expressions from left to right.
func (c *session) selectRow(expressions string) (answer *Reply, ok bool) {
	answer = new(Reply)
	var limit time.Duration // 0: none
	if m := hint.FindStringSubmatch(expressions); m != nil {
		ms, err := strconv.Atoi(m[1])
		if err != nil {
			return &Reply{Number: erParse}, true
		}
		limit, expressions = time.Duration(ms)*time.Millisecond, strings.Replace(expressions, m[0], "", 1)
	}
	for _, e := range split(expressions) {
		m := asBytes.FindStringSubmatch(e)
		cast := m != nil
		if cast {
			e = m[1]
		}
		if m := getLock.FindStringSubmatch(e); m != nil {
			seconds, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return &Reply{Number: erParse}, true
			}
			if c.mySQL {
				seconds = math.Round(seconds)
			}
			wait := max(0, time.Duration(seconds*float64(time.Second)))
			limited := limit > 0 && limit < wait
			if limited {
				wait = limit
			}
			granted, err := c.locks.Get(c.gone, m[1], wait)
			switch {
			case errors.Is(err, locktable.ErrDeadlock):
				return &Reply{Number: erDeadlock}, true
			case err != nil:
				return nil, false
			case !granted && limited:
				return &Reply{Number: erQueryTimeout}, true
			}
			answer.Row = append(answer.Row, bytesIf(cast, oneIf(granted)))
			continue
		}
		value, number := c.evaluate(e)
		if number != 0 {
			return &Reply{Number: number}, true
		}
		answer.Row = append(answer.Row, bytesIf(cast, value))
	}
	return answer, true
}

// split splits at the commas that are not in parentheses.
func split(list string) (parts []string) {
	depth, begin := 0, 0
	for i, r := range list {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts, begin = append(parts, strings.TrimSpace(list[begin:i])), i+1
		}
	}
	return append(parts, strings.TrimSpace(list[begin:]))
}

// evaluate returns the value of an expression, nil for NULL, or the number of
// an error.
func (c *session) evaluate(e string) (value any, number uint16) {
	variable, isVariable := strings.CutPrefix(e, "@@")
	switch {
	case e == "VERSION()":
		return c.version(), 0
	case e == "CONNECTION_ID()":
		return c.id, 0
	case e == "RELEASE_ALL_LOCKS()":
		return c.locks.ReleaseAll(), 0
	case variable == "read_only":
		return oneIf(c.server.isReadOnly()), 0
	case isVariable:
		if value, ok := c.vars[variable]; ok {
			return value, 0
		}
		return nil, erUnknownVariable
	}
	if m := releaseLock.FindStringSubmatch(e); m != nil {
		return c.locks.Release(m[1]), 0
	}
	if m := isUsedLock.FindStringSubmatch(e); m != nil {
		holder, held := c.server.locks.Holder(m[1])
		switch {
		case strings.HasSuffix(e, "= CONNECTION_ID()"):
			return oneIf(holder == c), 0
		case !held:
			return nil, 0
		case holder == nil:
			return foreignID, 0
		}
		return holder.id, 0
	}
	if n, err := strconv.Atoi(e); err == nil {
		return n, 0
	}
	return nil, erParse
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// bytesIf returns a value as bytes, if it is cast to them.
func bytesIf(cast bool, value any) any {
	if !cast || value == nil {
		return value
	}
	return []byte(fmt.Sprint(value))
}
