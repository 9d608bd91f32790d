package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"net"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

// This file contains everything that is read from go-sql-driver and from
// database/sql by reflection: state that they keep and do not publish. Each
// field is looked up once, by name and type. A field that a version does not
// have counts as not known. The comment of each field says what happens without
// it. TestPeek_Versions lists the versions that have all of them.

// A driverConn is the readable state of a connection of go-sql-driver. Reading
// it causes no traffic. Conn.Raw holds the mutex that guards it.
type driverConn struct {
	conn any // the connection itself: that of the session's *sql.Conn, or the one wrapped in it

	// false if the connection is closed, or if its buffer contains something
	// unread.
	valid driver.Validator

	// The driver closed the connection after a failure. (Sending a statement to
	// find that out would make the driver close a connection with unread rows.)
	//
	// nil: valid is used, which is also false for unread rows. A connection of
	// our own has no unread rows, so it counts as closed. On one that was given
	// to New, the keep-alive detects a loss.
	closed *atomic.Bool

	// Why the driver closed it, if a context ended in the middle of a
	// statement. nil: a transaction that was cut off by its own code counts as
	// a loss.
	canceled ender

	// The driver is watching a context for the connection. It does that while
	// rows are read under a context that can end, as fn's can. valid does not
	// show such rows while the driver's buffer is empty and they come straight
	// from the socket. Probing the socket at that moment would swallow a byte
	// of them. (It stays set on a connection that is closed in the middle.)
	//
	// nil: such rows on a connection given to New are not detected. "Leave conn
	// to the Locker" has no exception then.
	watching *bool

	// The status flags of the last answer that was not an error: see seenTx.
	// nil: a savepoint shows whether a transaction has ended under its code.
	status *uint16

	// nil: no warning is logged that checkConnLiveness=false delays the notice
	// of a loss.
	config *mysql.Config

	// The network connection beneath TLS, if there is TLS. nil: the kernel does
	// not report hang-ups, and the watch ticks. All statements run under the
	// session's context. The socket of a connection that code of the user's may
	// use cannot be closed.
	socket net.Conn
}

// An ender contains the reason why something has ended; nil: it has not.
type ender interface{ Value() error }

// fromGoSQLDriver reports whether conn is a connection of go-sql-driver itself,
// without a wrapper. No other driver is probed: its ResetSession may do
// anything, for example reset the session, which would free its locks.
func fromGoSQLDriver(conn any) bool {
	t := reflect.TypeOf(conn)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}

// peek reads the fields of a connection of go-sql-driver.
func peek(conn any) *driverConn {
	d := &driverConn{conn: conn}
	d.valid, _ = conn.(driver.Validator)
	d.closed, _ = driverField(conn, &fields.closed).(*atomic.Bool)
	d.canceled, _ = driverField(conn, &fields.canceled).(ender)
	d.watching, _ = driverField(conn, &fields.watching).(*bool)
	if fields.status >= 0 {
		d.status = (*uint16)(reflect.ValueOf(conn).Elem().Field(fields.status).Addr().UnsafePointer())
	}
	if config, ok := driverField(conn, &fields.config).(**mysql.Config); ok {
		d.config = *config
	}
	if socket, ok := driverField(conn, &fields.socket).(*net.Conn); ok {
		d.socket = *socket
	}
	return d
}

// socketOpen probes the socket: ResetSession of go-sql-driver tries to read,
// without blocking, where nothing may be unread.
func (d *driverConn) socketOpen() bool {
	r, ok := d.conn.(driver.SessionResetter)
	return !ok || r.ResetSession(context.Background()) == nil
}

// fields contains the indexes of the fields of the driver's connection; -1: the
// driver does not have the field.
var fields struct {
	sync.Once
	closed, watching, canceled, socket, config, status int
}

// findFields looks up the fields, once.
func findFields(conn any) {
	fields.Do(func() {
		driverConn := reflect.TypeOf(conn).Elem()
		fields.closed = fieldOf(driverConn, "closed", reflect.TypeFor[atomic.Bool]())
		fields.watching = fieldOf(driverConn, "watching", reflect.TypeFor[bool]())
		fields.canceled = -1
		if f, ok := driverConn.FieldByName("canceled"); ok && reflect.PointerTo(f.Type).Implements(reflect.TypeFor[ender]()) {
			fields.canceled = f.Index[0]
		}
		fields.socket = fieldOf(driverConn, "rawConn", reflect.TypeFor[net.Conn]())
		fields.config = fieldOf(driverConn, "cfg", reflect.TypeFor[*mysql.Config]())
		fields.status = -1
		if f, ok := driverConn.FieldByName("status"); ok && f.Type.Kind() == reflect.Uint16 && len(f.Index) == 1 {
			fields.status = f.Index[0]
		}
	})
}

func fieldOf(driverConn reflect.Type, name string, kind reflect.Type) int {
	if f, ok := driverConn.FieldByName(name); ok && f.Type == kind && len(f.Index) == 1 {
		return f.Index[0]
	}
	return -1
}

// driverField returns a pointer to the field; nil: there is none.
func driverField(conn any, index *int) any {
	findFields(conn)
	if *index < 0 {
		return nil
	}
	f := reflect.ValueOf(conn).Elem().Field(*index)
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Interface()
}

// missingFields returns the names of the fields that this version of
// go-sql-driver does not have. Call it after peek.
func missingFields() (missing []string) {
	for name, at := range map[string]int{"closed": fields.closed, "watching": fields.watching, "canceled": fields.canceled, "rawConn": fields.socket, "cfg": fields.config, "status": fields.status} {
		if at < 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// indexOf returns where a struct of database/sql has a field of type F; nil: it
// has none.
func indexOf[S, F any](name string) []int {
	f, ok := reflect.TypeFor[S]().FieldByName(name)
	if !ok || f.Type != reflect.TypeFor[F]() {
		return nil
	}
	return f.Index
}

// fieldAt returns the field of s at that index, nil if the index is nil.
func fieldAt[F, S any](s *S, index []int) *F {
	if index == nil {
		return nil
	}
	return (*F)(reflect.ValueOf(s).Elem().FieldByIndex(index).Addr().UnsafePointer())
}

// txFields are the fields of a *sql.Tx. closemu is locked for reading while
// rows are open or a statement is about to run. done is set once Commit or
// Rollback has been called.
var txFields = sync.OnceValue(func() (fields struct{ closemu, done []int }) {
	fields.closemu = indexOf[sql.Tx, sync.RWMutex]("closemu")
	fields.done = indexOf[sql.Tx, atomic.Bool]("done")
	return fields
})

// connMutex is a field of a *sql.Conn. It is locked for reading while the
// connection is used by a statement, its rows, or a transaction. Commit and
// Rollback unlock it when they have returned.
var connMutex = sync.OnceValue(func() []int { return indexOf[sql.Conn, sync.RWMutex]("closemu") })

// isLocked reports whether mu is locked.
func isLocked(mu *sync.RWMutex) bool {
	if !mu.TryLock() {
		return true
	}
	mu.Unlock()
	return false
}

// isDone reports whether Commit or Rollback has been called on tx. If
// database/sql does not have the field, it reports false, and the next call on
// tx finds out.
func isDone(tx *sql.Tx) bool {
	done := fieldAt[atomic.Bool](tx, txFields().done)
	return done != nil && done.Load()
}

// rowsOpen reports whether rows of tx are open, or a statement of it is about
// to run. The driver cannot show rows that are read under a context that cannot
// end. If database/sql does not have the mutex, rows count as open until the
// transaction has ended, and no proof is sent in that time.
func rowsOpen(tx *sql.Tx) bool {
	mu := fieldAt[sync.RWMutex](tx, txFields().closemu)
	return mu == nil || isLocked(mu)
}

// inUse reports whether conn is used. If database/sql does not have the mutex,
// it reports false.
func inUse(conn *sql.Conn) bool {
	mu := fieldAt[sync.RWMutex](conn, connMutex())
	return mu != nil && isLocked(mu)
}
