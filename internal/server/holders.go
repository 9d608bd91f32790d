package server

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A Holder is a session that holds a lock. The fields are documented at
// namedlock.Holder.
type Holder struct {
	Name         string
	ConnectionID uint64
	Local        bool
	HeldFor      time.Duration
	User         string
	Host         string
	Port         int
	Program      string
	PID          int
	ClientHost   string
	Command      string
	CommandTime  time.Duration
	Statement    string
}

// The statements that ask who holds a lock. They are listed in
// docs/STATEMENTS.md. Each question is one statement: a proxy may send the next
// one to another server, where the same connection id is another session.
//
// Every user may call IS_USED_LOCK. The process list contains the sessions of
// other users only for the privilege PROCESS. The attributes of a connection
// are in two tables. session_connect_attrs needs the right to read the
// performance schema. session_account_connect_attrs contains only the sessions
// of the user's own account, and every user may read it. So each question has
// two texts. Measured on MySQL 9.7 and MariaDB 10.11.
//
// Each column is converted to UTF-8 and sent as bytes, which the server does
// not convert to the session's character_set_results.
const (
	usedBy = "IS_USED_LOCK(?)"

	withProcess = " LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = l.ID"

	oneLock = " FROM (SELECT IS_USED_LOCK(?) AS ID, NULL AS NAME) AS l"

	// MySQL returns a name folded, by the rules of utf8mb3_general_ci. LOWER in
	// that character set folds every character of the BMP in the same way.
	locksOfMySQL = " FROM (SELECT t.PROCESSLIST_ID AS ID, m.OBJECT_NAME AS NAME" +
		" FROM performance_schema.metadata_locks AS m JOIN performance_schema.threads AS t ON t.THREAD_ID = m.OWNER_THREAD_ID" +
		" WHERE m.OBJECT_TYPE = 'USER LEVEL LOCK' AND m.LOCK_STATUS = 'GRANTED'" +
		" AND CAST(LEFT(m.OBJECT_NAME, CHAR_LENGTH(?)) AS BINARY) = CAST(LOWER(CONVERT(? USING utf8mb3)) AS BINARY)) AS l"

	// The plugin lists no lock that a session only waits for.
	locksOfMariaDB = " FROM (SELECT THREAD_ID AS ID, TABLE_SCHEMA AS NAME FROM information_schema.METADATA_LOCK_INFO" +
		" WHERE LOCK_TYPE = 'User lock' AND CAST(LEFT(TABLE_SCHEMA, CHAR_LENGTH(?)) AS BINARY) = CAST(? AS BINARY)) AS l"

	// Whether MySQL's list of locks is complete. It is empty without the
	// performance schema or without that instrument. Locks are missing if its
	// memory is full.
	isListComplete = "SELECT @@performance_schema," +
		" (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl')," +
		" (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost')"
)

var (
	holderColumns = "SELECT " + asUTF8("l.ID", "p.USER", "p.HOST", "p.COMMAND", "p.TIME", "p.INFO", "a.ATTR_VALUE", "i.ATTR_VALUE", "h.ATTR_VALUE", "l.NAME")
	ofHolder      = withProcess + attributes("session_connect_attrs")
	ofHolderOfOwn = withProcess + attributes("session_account_connect_attrs")
)

// attributes returns the joins for the attributes of the connection, from that
// table.
func attributes(table string) (joins string) {
	for _, a := range [][2]string{{"a", "program_name"}, {"i", "_pid"}, {"h", "client_host"}} {
		joins += fmt.Sprintf(" LEFT JOIN performance_schema.%s AS %s ON %[2]s.PROCESSLIST_ID = l.ID AND %[2]s.ATTR_NAME = '%s'", table, a[0], a[1])
	}
	return joins
}

func asUTF8(columns ...string) string {
	for i, column := range columns {
		columns[i] = "CAST(CONVERT(" + column + " USING utf8mb4) AS BINARY)"
	}
	return strings.Join(columns, ", ")
}

// Holder asks the server for the holder of the lock, with IS_USED_LOCK; false:
// the lock is free. The Conn may hold locks.
func (c *Conn) Holder(name string) (Holder, bool, error) {
	if err := c.greet(); err != nil {
		return Holder{}, false, err
	}
	if strings.Contains(c.greeting.version.String, "TiDB") {
		return Holder{}, false, fault.Because(fault.ErrUnsupported, "TiDB cannot report who holds a lock", nil)
	}
	found, err := c.holders(named(name), holderColumns+oneLock+ofHolder, holderColumns+oneLock+ofHolderOfOwn, c.selecting(usedBy))
	switch {
	case err != nil:
		return Holder{}, false, c.noHolder(err)
	case len(found) == 0 || found[0].ConnectionID == 0:
		return Holder{}, false, nil
	}
	found[0].Name = name
	return found[0], true, nil
}

// HolderIDs asks, in one statement, which sessions hold the locks. It returns
// their connection ids in the order of names, 0 for a lock that is free. The
// Conn may hold locks.
//
// The statement also shows which leftovers are on the session. They are
// released, and count as free.
func (c *Conn) HolderIDs(names []string) ([]int64, error) {
	if err := c.greet(); err != nil {
		return nil, err
	}
	ids, ours := make([]sql.NullInt64, len(names)), make([]sql.NullBool, len(c.leftovers))
	var columns []column
	var args []driver.Value
	for i, name := range names {
		columns, args = append(columns, column{usedBy, &ids[i]}), append(args, name)
	}
	for i, name := range c.leftovers {
		columns, args = append(columns, column{provesLock, &ours[i]}), append(args, name)
	}
	if err := c.read(c.patience(), named(args...), columns...); err != nil {
		return nil, c.noHolder(err)
	}
	holders := make([]int64, len(names))
	for i, id := range ids {
		holders[i] = id.Int64
	}
	left := c.leftovers
	c.leftovers = nil
	for i, name := range left {
		if !ours[i].Bool {
			continue
		}
		c.leftovers = append(c.leftovers, name)
		if i := slices.Index(names, name); i >= 0 {
			holders[i] = 0 // it is ours, and released below
		}
	}
	if err := c.releaseLeftovers(); err != nil && c.Broken() {
		return nil, err
	}
	return holders, nil
}

// noHolder returns the error for a server that did not report a holder.
func (c *Conn) noHolder(err error) error {
	if errorNumber(err) == erNoSuchFunction {
		return fault.Because(fault.ErrUnsupported, "the server cannot report who holds a lock", err)
	}
	return c.refusedOr(err, "could not read who holds the lock")
}

// Holders asks for the holders of all locks whose names begin with prefix. It
// returns the names as the server lists them: folded on MySQL.
func (c *Conn) Holders(prefix string) ([]Holder, error) {
	if err := c.greet(); err != nil {
		return nil, err
	}
	locks, remedy := locksOfMariaDB, "INSTALL SONAME 'metadata_lock_info'"
	if !c.greeting.mariaDB() {
		locks, remedy = locksOfMySQL, "GRANT SELECT ON performance_schema.* (MySQL 8.0 and later)"
		if err := c.checkList(remedy); err != nil {
			return nil, err
		}
	}
	found, err := c.holders(named(prefix, prefix), holderColumns+locks+ofHolder, holderColumns+locks+ofHolderOfOwn)
	if err != nil {
		return nil, c.noList(err, remedy)
	}
	return found, nil
}

// checkList returns an error if MySQL's list of locks is incomplete.
func (c *Conn) checkList(remedy string) error {
	var on, instrument, lost sql.NullString
	err := c.scan(c.patience(), isListComplete, &on, &instrument, &lost)
	switch {
	case err != nil:
		return c.noList(err, remedy)
	case !isOn(on.String):
		return fault.Because(fault.ErrUnsupported, "the server does not list locks: set performance_schema=ON in its configuration and restart it", nil)
	case instrument.String != "YES":
		return fault.Because(fault.ErrUnsupported, "the server does not list locks: enable the instrument wait/lock/metadata/sql/mdl in performance_schema.setup_instruments", nil)
	case lost.String != "0":
		return fault.Because(fault.ErrUnsupported, fmt.Sprintf("the list of locks may be incomplete, %s did not fit; raise performance_schema_max_metadata_locks", strconv.Quote(lost.String)), nil)
	}
	return nil
}

// noList returns the error for a server that did not list its locks. Unless the
// server declined the question, nothing is concluded about the privileges.
func (c *Conn) noList(err error, remedy string) error {
	if !declined(err) {
		return c.refusedOr(err, "could not list the locks")
	}
	return fault.Because(fault.ErrUnsupported, "the server does not list locks to this user: "+remedy, err)
}

// holders sends the first of the texts that the server does not decline. After
// an interruption or a time limit, no other text is tried.
func (c *Conn) holders(args []driver.NamedValue, texts ...string) (found holders, err error) {
	for _, text := range texts {
		found = nil
		err = c.query(c.patience(), &statement{text: text}, args, &found)
		if !declined(err) {
			break
		}
	}
	return found, err
}

// holders receives a row for each holder. Columns that the server left out stay
// unset.
type holders []Holder

func (found *holders) receive(rows driver.Rows) error {
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(row); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var id, seconds sql.NullInt64
		var user, host, command, statement, program, pid, machine, name sql.NullString
		dest := one{&id, &user, &host, &command, &seconds, &statement, &program, &pid, &machine, &name}
		if err := dest.scan(row); err != nil {
			return err
		}
		h := Holder{
			Name:         name.String,
			ConnectionID: uint64(id.Int64),
			User:         user.String,
			Program:      program.String,
			PID:          processID(pid.String),
			ClientHost:   machine.String,
			Command:      command.String,
			CommandTime:  commandTime(seconds.Int64),
			Statement:    statement.String,
		}
		h.Host, h.Port = splitHost(host.String)
		*found = append(*found, h)
	}
}

// processID returns the process id, or 0 if text is not one: clients choose
// that attribute.
func processID(text string) int {
	pid, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(pid)
}

// commandTime returns the TIME of the process list, or 0 if it is not
// plausible: a session that has SET TIMESTAMP can have any.
func commandTime(seconds int64) time.Duration {
	const year = 365 * 24 * 60 * 60
	if seconds < 0 || seconds > 10*year {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// splitHost splits the HOST of the process list: an address or a name and,
// after the last colon, the port. This includes IPv6 addresses. A Unix socket
// has no port.
func splitHost(host string) (string, int) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 {
		return host, 0
	}
	port, err := strconv.ParseUint(host[i+1:], 10, 16)
	if err != nil {
		return host, 0
	}
	return host[:i], int(port)
}

// IsPrimary returns an error if the server's locks are not those that the
// Locker takes. A replica would report every lock as free.
func (c *Conn) IsPrimary() error {
	if err := c.greet(); err != nil || !c.server.CheckServer {
		return err
	}
	return c.checkAgain()
}
