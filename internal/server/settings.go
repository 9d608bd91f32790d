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

// settings are the session variables on which the library, and the next
// borrower of the connection, rely.
type settings struct {
	// The collation implies character_set_connection. Setting that would set the
	// character set's default collation.
	clientCharset, collation, resultsCharset     sql.NullString
	waitTimeout                                  sql.NullInt64
	autocommit, selectLimit, isolation, readOnly sql.NullString
	completion, timeLimit                        sql.NullString

	// MariaDB: in a transaction one of these replaces wait_timeout, unless it
	// is 0.
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
		{"@@collation_connection", &set.collation},
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

// changed returns the names of the settings that are different now.
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

// sealed reports whether no code of the user's can reach the session. The
// transaction of a test double is on another database. A connection given to
// New whose driver is not shown counts as sealed under WithoutServerCheck,
// which promises to send only the statements of the cycle.
func (c *Conn) sealed(conn driver.Conn) bool {
	c.know(conn)
	return c.inMemory() != nil || c.lent && !c.server.CheckServer && !c.driver.Shown
}

// readyForCode prepares the session for code of the user's. It reads the
// settings, unless they are known, and limits every idle time in a transaction
// to the lease.
func (c *Conn) readyForCode() error {
	var sealed bool
	if err := c.raw(func(conn driver.Conn) error {
		sealed = c.sealed(conn)
		return nil
	}); err != nil || sealed {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	hadCode := c.hasCode
	c.hasCode = true
	if c.settings != nil || hadCode { // known, or too late to be read
		return nil
	}
	err := c.readSettings()
	if err != nil {
		c.hasCode = false // no code has run: the next transaction begins here again
	}
	return err
}

// readSettings reads the settings before code of the user's can change them. A
// server that imitates MySQL does not have all of them. Then they stay unknown.
func (c *Conn) readSettings() error {
	set := new(settings)
	texts, dest := split(set.columns(c.greeting.mariaDB()))
	if err := c.scan(c.patience(), c.selecting(texts...), dest...); declined(err) {
		return nil
	} else if err != nil {
		return err
	}
	c.leaseRead(set.waitTimeout)
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
		c.setIdleLimit(min(c.IdleLimit(), time.Duration(limit.value.Int64)*time.Second))
	}
	return nil
}

// A spoiled session is closed although no lock was lost.
type spoiled struct{ why string }

func (e *spoiled) Error() string {
	return "code under the lock left the session changed: " + e.why
}

// spoil makes ReleaseLock break the session after its last release.
func (c *Conn) spoil(why string) {
	if c.spoilt == "" {
		c.spoilt = why
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
				inHex: unlimited(c.selecting(append([]string{releaseInHex, releaseAllLocks}, texts...)...)),
				short: true,
			}
		}
	}
	err := c.query(bound, st, c.argsFor(name)[:1:1], dest)
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
		c.settings = nil // its owner may change them before the next transaction
	default:
		if changed := c.settings.changed(now, c.greeting.mariaDB()); len(changed) > 0 {
			c.spoil(strings.Join(changed, ", "))
		}
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
		st := &statement{text: c.selecting(releaseLock, provesLock)}
		err := c.query(bound, st, named(name, name), one{&answer, &held})
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
	before, after := c.settings.columns(c.greeting.mariaDB()), now.columns(c.greeting.mariaDB())
	for i := range before {
		if was := value(before[i].dest); was != value(after[i].dest) {
			sets = append(sets, strings.TrimPrefix(before[i].text, "@@")+" = "+literal(was))
		}
	}
	if len(sets) == 0 {
		return
	}
	if c.settings.completion != now.completion { // the end of the transaction may have begun another
		c.must(c.endTime(), "ROLLBACK AND NO CHAIN")
	}
	if err := c.exec(c.patience(), "SET SESSION "+strings.Join(sets, ", SESSION ")); err != nil {
		c.spoil("its settings could not be restored: " + err.Error())
	}
}

// literal returns the SQL literal of a setting's value: a number, a name or
// NULL.
func literal(v driver.Value) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		if _, err := strconv.ParseFloat(v, 64); err == nil {
			return v
		}
		return "'" + v + "'" // a character set or an isolation level
	}
	return fmt.Sprint(v)
}
