// Package peek reads what go-sql-driver/mysql and database/sql have noted about
// a connection and do not publish. It sends nothing, and knows nothing about
// locks.
//
//	conn.go    a connection of go-sql-driver
//	sql.go     a transaction and a connection of database/sql
//	unwrap.go  the connection beneath a wrapper
//	field.go   a field that is not exported
//
// A field is found by name and type. If a version does not have it, its value
// counts as not known. Its comment says what happens then. TestVersions names
// the versions that have all of the fields.
package peek

import (
	"context"
	"database/sql/driver"
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// A Conn is a driver's connection. Call its methods in sql.Conn.Raw, which
// holds the mutex that guards the connection. Reading it causes no traffic.
type Conn struct {
	// The connection of go-sql-driver if Shown: that of the *sql.Conn, or the
	// one that is wrapped in it. Otherwise the connection of the *sql.Conn.
	Conn  driver.Conn
	Shown bool

	// The network connection beneath TLS, if there is TLS. nil: the kernel does
	// not report hang-ups, and the watch ticks. All statements run under the
	// session's context. The socket of a connection that code of the user's may
	// use cannot be closed.
	Socket net.Conn

	// The driver closed the connection after a failure. (Sending a statement to
	// find that out would make the driver close a connection with unread rows.)
	//
	// nil: the state is Unread. A connection of our own has no unread rows, so
	// it counts as closed. On one that was given to New, the keep-alive detects
	// a loss.
	closed *atomic.Bool

	// Why the driver closed it, if a context ended in the middle of a
	// statement. nil: a transaction that was cut off by its own code counts as
	// a loss.
	canceled ender

	// The driver is watching a context for the connection. It does that while
	// rows are read under a context that can end, as fn's can. Valid does not
	// show such rows while the driver's buffer is empty and they come straight
	// from the socket. Probing the socket at that moment would swallow a byte
	// of them. (It stays set on a connection that is closed in the middle.)
	//
	// nil: such rows on a connection given to New are not detected. "Leave conn
	// to the Locker" has no exception then.
	watching *bool

	// The status flags of the last answer that was not an error. nil: a
	// savepoint shows whether a transaction has ended under its code.
	status *uint16

	// nil: no warning is logged that checkConnLiveness=false delays the notice
	// of a loss.
	config **mysql.Config
}

// An ender contains the reason why something has ended; nil: it has not.
type ender interface{ Value() error }

// The status flags that the server sends with every answer except an error.
const (
	flagInTransaction = 1 << 0
	flagAutocommit    = 1 << 1
)

// Find finds the connection of go-sql-driver that conn is, or wraps. It calls
// unwrap, the user's function, unless that is nil. If unwrap, or a method of
// the wrapper, panics or does not return, that is logged.
func Find(conn driver.Conn, unwrap func(driver.Conn) driver.Conn, logger *slog.Logger) *Conn {
	inner := conn
	if !isMySQL(conn) {
		inner = beneath(conn, unwrap, logger)
	}
	if inner == nil {
		return &Conn{Conn: conn}
	}
	c := &Conn{
		Conn:     inner,
		Shown:    true,
		closed:   field[atomic.Bool](inner, "closed"),
		watching: field[bool](inner, "watching"),
		status:   field[uint16](inner, "status"),
		config:   field[*mysql.Config](inner, "cfg"),
	}
	c.canceled, _ = pointerTo(inner, "canceled").(ender)
	if socket := field[net.Conn](inner, "rawConn"); socket != nil {
		c.Socket = *socket
	}
	return c
}

// isMySQL reports whether conn is a connection of go-sql-driver itself, without
// a wrapper. No other driver is probed: its ResetSession may do anything, for
// example reset the session, which would free its locks.
func isMySQL(conn driver.Conn) bool {
	t := reflect.TypeOf(conn)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}

// Missing returns the names of the fields that this version of go-sql-driver
// does not have.
func (c *Conn) Missing() (missing []string) {
	for _, f := range []struct {
		name  string
		found bool
	}{
		{"closed", c.closed != nil}, {"watching", c.watching != nil}, {"canceled", c.canceled != nil},
		{"rawConn", c.Socket != nil}, {"cfg", c.config != nil}, {"status", c.status != nil},
	} {
		if c.Shown && !f.found {
			missing = append(missing, f.name)
		}
	}
	return missing
}

// A State is the state of a connection as its driver has noted it.
type State int

const (
	Unseen State = iota // not known: no connection of go-sql-driver is shown
	Open
	Unread // it has unread rows, or is closed
	Closed // by the driver, after a failure
	CutOff // by the driver, because a context ended during a statement
)

// State returns the state of the connection.
func (c *Conn) State() State {
	switch {
	case !c.Shown:
		return Unseen
	case c.canceled != nil && c.canceled.Value() != nil:
		return CutOff
	case c.closed != nil && c.closed.Load():
		return Closed
	case c.watching != nil && *c.watching || !c.Valid():
		return Unread
	}
	return Open
}

// Valid reports whether the driver, go-sql-driver or another, calls the
// connection valid. It is not if it is closed, or if its buffer contains
// something unread.
func (c *Conn) Valid() bool {
	v, ok := c.Conn.(driver.Validator)
	return ok && v.IsValid()
}

// SocketOpen probes the socket: ResetSession of go-sql-driver tries to read,
// without blocking, where nothing may be unread. It returns true if it cannot
// probe: see Blind.
func (c *Conn) SocketOpen() bool {
	r, ok := c.Conn.(driver.SessionResetter)
	return !c.Shown || !ok || r.ResetSession(context.Background()) == nil
}

// Blind returns why SocketOpen cannot detect that the server has closed the
// connection of go-sql-driver; "": it can.
func (c *Conn) Blind() string {
	if c.config != nil && !(*c.config).CheckConnLiveness {
		return "checkConnLiveness=false in the DSN"
	}
	if _, ok := c.Socket.(syscall.Conn); !ok && c.Socket != nil {
		return "the connection is not a syscall.Conn: a custom dialer made it"
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // go-sql-driver does not check there
		return "sockets cannot be checked on " + runtime.GOOS
	}
	return ""
}

// InTx reports whether a transaction is open, by the status flags. Under
// autocommit=0 they show nothing, because the next statement begins another
// transaction.
func (c *Conn) InTx() (open, known bool) {
	if c.status == nil || *c.status&flagAutocommit == 0 {
		return false, false
	}
	return *c.status&flagInTransaction != 0, true
}
