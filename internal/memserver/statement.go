package memserver

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// As much of SQL as the library sends, and the code under its locks in the tests.

// version is what a session is greeted with.
const version = "10.11.0-MariaDB"

// defaults are the variables of a new session. Those that are missing are not known.
var defaults = map[string]string{
	"character_set_client":              "utf8mb4",
	"character_set_connection":          "utf8mb4",
	"character_set_results":             "utf8mb4",
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

var (
	ofMySQL   = regexp.MustCompile(`/\*!.*?\*/`)
	ofMariaDB = regexp.MustCompile(`/\*M!(.*?)\*/`)
	asHex     = regexp.MustCompile(`_utf8mb4 0x([0-9A-F]*)`)

	getLock     = regexp.MustCompile(`^GET_LOCK\('([^']*)', ([^)]*)\)$`)
	releaseLock = regexp.MustCompile(`^RELEASE_LOCK\('([^']*)'\)$`)
	isUsedLock  = regexp.MustCompile(`IS_USED_LOCK\('([^']*)'\)`)
	setSession  = regexp.MustCompile(`(?:SESSION )?(\w+) = ('?)([^',]*)'?`)
)

// run carries a statement out and returns its answer. It returns false if the client has
// gone.
func (c *session) run(text string) (answer *Reply, ok bool) {
	text = ofMySQL.ReplaceAllString(ofMariaDB.ReplaceAllString(text, "$1"), "")
	text = asHex.ReplaceAllStringFunc(text, func(literal string) string {
		name, err := hex.DecodeString(asHex.FindStringSubmatch(literal)[1])
		if err != nil {
			return literal // which nothing below understands
		}
		return "'" + string(name) + "'"
	})
	text = strings.TrimSuffix(strings.TrimSpace(text), " LIMIT 1")
	switch verb, rest, _ := strings.Cut(text, " "); {
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

// transact begins and ends transactions. It returns the number of an error, or 0.
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
	for _, e := range split(expressions) {
		if m := getLock.FindStringSubmatch(e); m != nil {
			seconds, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return &Reply{Number: erParse}, true
			}
			granted, ok := c.getLock(m[1], time.Duration(seconds*float64(time.Second)))
			if !ok {
				return nil, false
			}
			answer.Row = append(answer.Row, granted)
			continue
		}
		value, number := c.evaluate(e)
		if number != 0 {
			return &Reply{Number: number}, true
		}
		answer.Row = append(answer.Row, value)
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

// evaluate returns the value of an expression, nil for NULL, or the number of an error.
func (c *session) evaluate(e string) (value any, number uint16) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	variable, isVariable := strings.CutPrefix(e, "@@")
	switch {
	case e == "VERSION()":
		return version, 0
	case e == "RELEASE_ALL_LOCKS()":
		return s.releaseAllLocked(c), 0
	case variable == "read_only":
		return oneIf(s.readOnly), 0
	case isVariable:
		if value, ok := c.vars[variable]; ok {
			return value, 0
		}
		return nil, erUnknownVariable
	}
	if m := releaseLock.FindStringSubmatch(e); m != nil {
		return s.releaseLocked(c, m[1]), 0
	}
	if m := isUsedLock.FindStringSubmatch(e); m != nil {
		l := s.locks[m[1]]
		switch {
		case strings.HasSuffix(e, "= CONNECTION_ID()"):
			return oneIf(l != nil && l.holder == c), 0
		case l == nil || l.holder == nil:
			return nil, 0
		}
		return l.holder.id, 0
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

// releaseLocked is RELEASE_LOCK. s.mu must be held.
func (s *Server) releaseLocked(c *session, name string) any {
	l := s.locks[name]
	switch {
	case l == nil:
		return nil
	case l.holder != c:
		return 0
	}
	if l.entered--; l.entered == 0 {
		s.freeLocked(name)
	}
	return 1
}

// releaseAllLocked is RELEASE_ALL_LOCKS, which counts a lock as often as it was taken.
// s.mu must be held.
func (s *Server) releaseAllLocked(c *session) (released int) {
	for name, l := range s.locks {
		if l.holder == c {
			released += l.entered
			s.freeLocked(name)
		}
	}
	return released
}

func (c *session) getLock(name string, wait time.Duration) (granted int, ok bool) {
	s := c.server
	s.mu.Lock()
	l := s.locks[name]
	switch {
	case l == nil:
		s.locks[name] = &lock{holder: c, entered: 1}
		s.mu.Unlock()
		return 1, true
	case l.holder == c:
		l.entered++
		s.mu.Unlock()
		return 1, true
	case wait <= 0:
		s.mu.Unlock()
		return 0, true
	}
	w := &waiter{c, make(chan struct{})}
	l.waiters = append(l.waiters, w)
	s.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.granted:
		return 1, true
	case <-c.gone:
		return 0, false
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.holder == c {
		return 1, true // in the same moment
	}
	for i := range l.waiters {
		if l.waiters[i] == w {
			l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
			break
		}
	}
	return 0, true
}
