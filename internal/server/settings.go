package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"time"
)

// This file makes no assumption about a session on which code of the user's has
// run, that is, the session of a transaction. The code may change all that the
// library relies on: the character sets, which make a name another lock, time
// limits, autocommit, and the locks on the session. So the settings are read
// before the first transaction of a session, and again in the statement that
// releases its last lock. A session that was changed is closed. On a connection
// given to New, the settings are set back.
//
// Until then no other call chain has a turn on the session. Names are sent as
// literals, or in hexadecimal digits (releaseInHex). Both are the same locks in
// every character set. Answers are read as bytes (columns), and each SELECT has
// a LIMIT (unlimited).

// settings are the values of the session variables on which the library, and
// the next borrower of the connection, rely, in the order of settingNames. An
// unset one is NULL.
type settings [13]sql.NullString

// Where some of the settings are.
const (
	atWaitTimeout = 3
	atCompletion  = 6
	atIsolation   = 7
	atIdleLimits  = 10 // and the two after it
)

// settingNames returns the names of the settings. The collation implies
// character_set_connection. Setting that would set the character set's default
// collation.
func (c *Conn) settingNames() []string {
	names := []string{
		"character_set_client", "collation_connection", "character_set_results", atWaitTimeout: "wait_timeout",
		"autocommit", "sql_select_limit", atCompletion: "completion_type",
	}
	if !c.greeting.mariaDB() {
		return append(names, "transaction_isolation", "transaction_read_only", "max_execution_time")
	}
	return append(names, "tx_isolation", "tx_read_only", "max_statement_time",
		// In a transaction one of these replaces wait_timeout, unless it is 0.
		"idle_transaction_timeout", "idle_readonly_transaction_timeout", "idle_write_transaction_timeout")
}

func (set *settings) columns(names []string) []column {
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{"@@" + name, &set[i]}
	}
	return columns
}

// readyForCode prepares the session for code of the user's. It reads the
// settings, unless they are known, and limits every idle time in a transaction
// to the lease.
//
// It does nothing if no code of the user's can reach the session. The
// transaction of a test double is on another database. A connection given to
// New whose driver is not shown counts as such a session under
// WithoutServerCheck, which promises to send only the statements of the cycle.
func (c *Conn) readyForCode() error {
	var sealed bool
	err := c.raw(func(conn driver.Conn) error {
		_, inMemory := conn.(MemoryConn)
		sealed = inMemory || c.lent && !c.server.CheckServer && !c.driver.Shown
		return nil
	})
	if err != nil || sealed {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	known := c.settings != nil || c.hasCode // or it is too late to read them
	c.hasCode = true
	if known {
		return nil
	}
	err = c.readSettings()
	if err != nil {
		c.hasCode = false // no code has run: the next transaction begins here again
	}
	return err
}

// readSettings reads the settings before code of the user's can change them. A
// server that imitates MySQL does not have all of them. Then they stay unknown.
func (c *Conn) readSettings() error {
	set := new(settings)
	if err := c.read(c.patience(), nil, set.columns(c.settingNames())...); declined(err) {
		return nil
	} else if err != nil {
		return err
	}
	c.leaseRead(set[atWaitTimeout])
	if err := c.setIdleLimits(set); err != nil {
		return err
	}
	c.settings = set
	return nil
}

// setIdleLimits covers MariaDB's limits for a session that is idle in a
// transaction. A limit that is longer than the lease is set to the lease, and
// restore sets it back. A shorter one shortens the interval of the proofs.
func (c *Conn) setIdleLimits(set *settings) error {
	lease := c.server.leaseSeconds()
	for i, name := range c.settingNames()[atIdleLimits:] {
		limit := integer(set[atIdleLimits+i])
		if limit == 0 {
			continue
		}
		if lease > 0 && limit > lease {
			if err := c.setUntilRestored(name, lease, limit); err != nil {
				return err
			}
			limit = lease
			set[atIdleLimits+i].String = strconv.FormatInt(lease, 10)
		}
		c.setIdleLimit(min(c.IdleLimit(), time.Duration(limit)*time.Second))
	}
	return nil
}

// integer returns the number that a variable is set to, or 0.
func integer(value sql.NullString) int64 {
	n, _ := strconv.ParseInt(value.String, 10, 64)
	return n
}

// spoil makes ReleaseLock break the session after its last release, although no
// lock was lost.
func (c *Conn) spoil(why string) {
	if c.spoilt == nil {
		c.spoilt = errors.New("code under the lock left the session changed: " + why)
	}
}

// releaseAfterCode is RELEASE_LOCK on a session on which code of the user's has
// run. The code may have taken the same lock, or other locks, by hand. With the
// last lock of ours, RELEASE_ALL_LOCKS in the same statement frees those. The
// server evaluates RELEASE_LOCK first. The statement also reads the settings
// again.
//
// This statement is prepared from its second use on, because as text it takes a
// server about twice as long. (Measured: 59 µs as text, of which 27 µs remain
// without parsing, on MariaDB 10.11; 35 µs and 19 µs on MySQL 9.7.)
func (c *Conn) releaseAfterCode(name string, bound time.Duration) (answer sql.NullInt64, err error) {
	if c.locks > 1 {
		return c.releaseNested(name, bound)
	}
	var left sql.NullInt64
	var now settings
	columns, args := []column{{releaseLock, &answer}, {releaseAllLocks, &left}}, c.argsFor(name)[:1:1]
	if c.settings == nil {
		err = c.read(bound, args, columns...)
	} else {
		texts, dest := split(append(columns, now.columns(c.settingNames())...))
		if c.releaseAll.text == "" {
			text := c.selecting(texts...)
			c.releaseAll = statement{text: text, inHex: unlimited(strings.Replace(text, releaseLock, releaseInHex, 1)), short: true}
		}
		err = c.query(bound, &c.releaseAll, args, dest)
	}
	if err != nil || answer.Int64 != 1 {
		return answer, err
	}
	c.hasCode = false
	if left.Int64 > 0 {
		c.server.Logger.Warn("namedlock: released locks that code under a lock took with GET_LOCK", "name", name, "locks", left.Int64)
	}
	switch {
	case c.settings == nil && !c.lent:
		c.spoil("its settings cannot be read")
	case c.settings == nil || now == *c.settings:
	case c.lent:
		c.putBack(&now)
	default:
		var changed []string
		for i, name := range c.settingNames() {
			if now[i] != c.settings[i] {
				changed = append(changed, name)
			}
		}
		c.spoil(strings.Join(changed, ", "))
	}
	if c.lent {
		c.settings = nil // its owner may change them before the next transaction
	}
	return answer, nil
}

// releaseNested releases a lock while other locks of ours are on the session,
// so RELEASE_ALL_LOCKS is not possible. If the code took the same name by hand,
// GET_LOCK re-entered and counted, so RELEASE_LOCK is repeated until the
// session does not hold the name. Other locks that the code took are freed with
// the session's last lock.
func (c *Conn) releaseNested(name string, bound time.Duration) (sql.NullInt64, error) {
	const most = 1000
	var first sql.NullInt64
	for i := range most {
		var answer sql.NullInt64
		var held sql.NullBool
		err := c.read(bound, named(name, name), column{releaseLock, &answer}, column{provesLock, &held})
		if i == 0 {
			first = answer
		}
		if err != nil || !held.Bool {
			return first, err
		}
	}
	return first, errors.New("code under the lock took it again more than 1000 times (GET_LOCK)")
}

// putBack sets back the settings that code under a lock changed on a connection
// given to New. Its owner keeps that connection: it is closed only if this
// fails.
func (c *Conn) putBack(now *settings) {
	var sets []string
	for i, name := range c.settingNames() {
		if was := c.settings[i]; was != now[i] {
			sets = append(sets, name+" = "+literal(was))
		}
	}
	if c.settings[atCompletion] != now[atCompletion] { // the end of the transaction may have begun another
		c.must(c.endTime(), "ROLLBACK AND NO CHAIN")
	}
	if err := c.exec(c.patience(), "SET SESSION "+strings.Join(sets, ", SESSION ")); err != nil {
		c.spoil("its settings could not be restored: " + err.Error())
	}
}

// literal returns the SQL literal of a setting: a number, a name or NULL.
func literal(value sql.NullString) string {
	if !value.Valid {
		return "NULL"
	}
	if _, err := strconv.ParseFloat(value.String, 64); err == nil {
		return value.String
	}
	return "'" + value.String + "'" // a character set or an isolation level
}
