package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Code of the user's runs on the session of a transaction. It may change
// everything that the library relies on: the character sets, in which a name
// may be another lock, limits, autocommit, and the locks on the session. So the
// settings are read before the first transaction of a session, and again in the
// statement that releases its last lock. A session whose settings have changed
// is closed.
//
// Until then no other call chain has a turn there, and names go as literals,
// which are the same locks in every character set.

// settings are what the library relies on, and the next borrower of the
// connection.
type settings struct {
	clientCharset, connectionCharset, resultsCharset sql.NullString
	waitTimeout                                      sql.NullInt64
	autocommit, selectLimit, isolation, readOnly     sql.NullString
	completion                                       sql.NullString
	timeLimit                                        decimal

	// MariaDB: inside a transaction one of these takes the place of wait_timeout,
	// unless it is 0.
	idle, idleReadOnly, idleWrite sql.NullInt64
}

const (
	idleTransaction         = "idle_transaction_timeout"
	idleReadOnlyTransaction = "idle_readonly_transaction_timeout"
	idleWriteTransaction    = "idle_write_transaction_timeout"
)

func (set *settings) columns(mariaDB bool) []column {
	columns := []column{
		{"@@character_set_client", &set.clientCharset},
		{"@@character_set_connection", &set.connectionCharset},
		{"@@character_set_results", &set.resultsCharset},
		{"@@wait_timeout", &set.waitTimeout},
		{"@@autocommit", &set.autocommit},
		{"@@sql_select_limit", &set.selectLimit},
		{"@@completion_type", &set.completion},
	}
	if !mariaDB {
		return append(columns,
			column{"@@transaction_isolation", &set.isolation},
			column{"@@transaction_read_only", &set.readOnly},
			column{"@@max_execution_time", &set.timeLimit})
	}
	return append(columns,
		column{"@@tx_isolation", &set.isolation},
		column{"@@tx_read_only", &set.readOnly},
		column{"@@max_statement_time", &set.timeLimit},
		column{"@@" + idleTransaction, &set.idle},
		column{"@@" + idleReadOnlyTransaction, &set.idleReadOnly},
		column{"@@" + idleWriteTransaction, &set.idleWrite})
}

// A decimal is a number as MariaDB writes one of seconds in a text: a prepared
// statement is answered by a float.
type decimal struct{ sql.NullString }

func (d *decimal) Scan(value any) error {
	if seconds, ok := value.(float64); ok {
		value = strconv.FormatFloat(seconds, 'f', 6, 64)
	}
	return d.NullString.Scan(value)
}

// changed names the settings that are others now.
func (set *settings) changed(now *settings, mariaDB bool) (names []string) {
	if *set == *now {
		return nil
	}
	before, after := set.columns(mariaDB), now.columns(mariaDB)
	for i := range before {
		if value(before[i].dest) != value(after[i].dest) {
			names = append(names, before[i].text)
		}
	}
	return names
}

func value(of sql.Scanner) driver.Value {
	v, _ := of.(driver.Valuer).Value()
	return v
}

// sealed reports whether no code of the user's reaches the session: the
// transaction of a test double is on another database. A connection that was
// given to New and whose driver cannot be seen counts as such under
// WithoutServerCheck, which promises to send nothing but the statements of the
// cycle.
func (c *Conn) sealed(conn any) bool {
	if _, inMemory := conn.(MemoryConn); inMemory {
		return true
	}
	c.know(conn)
	return c.lent && !c.server.CheckServer && c.driver == nil
}

// readyForCode reads the settings before code of the user's runs on the
// session, unless they are known, and has every limit for an idle transaction
// be within the lease.
func (c *Conn) readyForCode() error {
	var sealed bool
	if err := c.raw(func(conn any) error {
		sealed = c.sealed(conn)
		return nil
	}); err != nil || sealed {
		return err
	}
	c.hasCode = true
	if err := c.greet(); err != nil {
		return err
	}
	if c.settings != nil {
		return nil
	}
	set := new(settings)
	if err := c.scanColumns(set.columns(c.greeting.mariaDB())); err != nil {
		if IsAnswer(err) { // a server that is like MySQL, and lacks one of them
			return nil
		}
		return err
	}
	c.settings = set
	return c.setIdleLimits()
}

func (c *Conn) scanColumns(columns []column) error {
	texts, dest := split(columns)
	return c.scan(c.patience(), c.selecting(texts...), dest...)
}

// setIdleLimits takes into account that MariaDB has other limits for a session
// that is idle in a transaction. Those that are longer than the lease are set
// to it; restore sets them back.
func (c *Conn) setIdleLimits() error {
	set := c.settings
	lease := int64(c.server.Lease / time.Second)
	for _, limit := range []struct {
		name  string
		value *sql.NullInt64
	}{{idleTransaction, &set.idle}, {idleReadOnlyTransaction, &set.idleReadOnly}, {idleWriteTransaction, &set.idleWrite}} {
		if !limit.value.Valid || limit.value.Int64 == 0 {
			continue
		}
		if lease > 0 && limit.value.Int64 > lease {
			if err := c.exec(c.patience(), fmt.Sprintf("SET SESSION %s = %d", limit.name, lease)); err != nil {
				return err
			}
			c.toRestore = append(c.toRestore, fmt.Sprintf("SET SESSION %s = %d", limit.name, limit.value.Int64))
			limit.value.Int64 = lease
		}
		c.greeting.idleLimit = min(c.greeting.idleLimit, time.Duration(limit.value.Int64)*time.Second)
	}
	return nil
}

// A spoiled session is closed though no lock was lost.
type spoiled struct{ why string }

func (e *spoiled) Error() string {
	return "code under the lock left the session changed: " + e.why
}

// spoil makes the release of the last lock close the session.
func (c *Conn) spoil(why string) {
	if c.spoilt == "" {
		c.spoilt = why
	}
}

// releaseAfterCode is RELEASE_LOCK where code of the user's has run on the
// session. The code may have taken the same lock, or others, by hand. The statement
// with all settings takes a server two to three times as long to parse as to run, so
// that it is worth preparing from its second use on (measured: 59 µs and 27 µs on
// MariaDB 10.11, 35 µs and 19 µs on MySQL 9.7).
func (c *Conn) releaseAfterCode(name string, bound time.Duration) (sql.NullInt64, error) {
	if c.locks > 1 {
		return c.releaseNested(name, bound)
	}
	var answer, left sql.NullInt64
	now := new(settings)
	var st *statement
	dest := one{&answer, &left}
	if c.settings == nil {
		st = &statement{text: c.selecting(releaseLock, releaseAllLocks)}
	} else {
		texts, settings := split(now.columns(c.greeting.mariaDB()))
		st, dest = &c.releaseAll, append(dest, settings...)
		if !st.short {
			*st = statement{
				text:  c.selecting(append([]string{releaseLock, releaseAllLocks}, texts...)...),
				inHex: c.selecting(append([]string{releaseInHex, releaseAllLocks}, texts...)...) + " LIMIT 1",
				short: true,
			}
		}
	}
	err := c.query(bound, st, []driver.Value{name}, dest)
	if err != nil || answer.Int64 != 1 {
		return answer, err
	}
	c.hasCode = false
	if left.Int64 > 0 {
		c.server.Logger.Warn("namedlock: released locks that code under a lock took with GET_LOCK", "name", name, "locks", left.Int64)
	}
	switch {
	case c.settings == nil:
		if !c.lent {
			c.spoil("its settings cannot be read")
		}
	case c.lent:
		c.putBack(now)
		c.settings = nil // its owner may change them until the next transaction
	default:
		if changed := c.settings.changed(now, c.greeting.mariaDB()); len(changed) > 0 {
			c.spoil(strings.Join(changed, ", "))
		}
	}
	return answer, nil
}

// releaseNested releases a lock while other locks are on the session. What the
// code may have taken by hand is released with the last of them. This name is
// released here: GET_LOCK re-enters, and counts.
func (c *Conn) releaseNested(name string, bound time.Duration) (sql.NullInt64, error) {
	const most = 1000
	var first sql.NullInt64
	for i := range most {
		var answer sql.NullInt64
		var held sql.NullBool
		st := &statement{text: c.selecting(releaseLock, provesLock)}
		err := c.query(bound, st, []driver.Value{name, name}, one{&answer, &held})
		if i == 0 {
			first = answer
		}
		if err != nil || !held.Bool {
			return first, err
		}
	}
	return first, errors.New("code under the lock took it again more than 1000 times (GET_LOCK)")
}

// putBack sets what the code under a lock has changed on a connection that was
// given to New. That one is its owner's, and is closed only if this fails.
func (c *Conn) putBack(now *settings) {
	var sets []string
	before, after := c.settings.columns(c.greeting.mariaDB()), now.columns(c.greeting.mariaDB())
	for i := range before {
		if was := value(before[i].dest); was != value(after[i].dest) {
			sets = append(sets, strings.TrimPrefix(before[i].text, "@@")+" = "+literal(was))
		}
	}
	if len(sets) == 0 {
		return
	}
	if c.settings.completion != now.completion { // a transaction may have begun with the end of the last
		c.endChain()
	}
	if err := c.exec(c.patience(), "SET SESSION "+strings.Join(sets, ", SESSION ")); err != nil {
		c.spoil("its settings could not be restored: " + err.Error())
	}
}

// literal writes the value of a setting: a number, a name, or NULL.
func literal(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		if _, err := strconv.ParseFloat(v, 64); err == nil {
			return v
		}
		return "'" + v + "'" // of a character set, or an isolation level
	}
	return fmt.Sprint(v)
}
