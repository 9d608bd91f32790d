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

// This file has everything that is read of go-sql-driver and of database/sql by
// reflection: what they have noted and do not publish. Each field is looked up
// once, by name and type. A field that a version does not have counts as not
// known; the comment of the field describes the effect. TestPeek_Versions names
// the versions that have them all.

// A driverConn is what can be read of a connection of go-sql-driver, without
// traffic. Conn.Raw holds the mutex that guards it.
type driverConn struct {
	conn any // itself: what the session's *sql.Conn has, or what that wraps

	// false for one with something unread in its buffer, as for one that is
	// closed.
	valid driver.Validator

	// By the driver, after a failure. Sending a statement to find out would close
	// it on unread rows. nil: valid, which does not tell it from unread rows. On a
	// connection of our own there are none, so that it counts as closed; on one
	// that was given to New a loss shows by the keep-alive.
	closed *atomic.Bool

	// Why it is closed, if it was for the end of a context in the middle of a
	// statement. nil: a transaction that its own code has cut off counts as a
	// loss.
	canceled ender

	// The driver watches a context on behalf of the connection, as it does while
	// rows are being read under one that can end, as fn's is. valid does not show
	// it while they come straight from the socket, the driver's buffer being
	// empty, and to look at the socket then would swallow a byte of them. (It
	// stays set on a connection that is closed in the middle.) nil: such rows on a
	// connection given to New are not seen; "Leave conn to the Locker" has no
	// exception then.
	watching *bool

	// The flags of the last answer that was not an error: see seenTx. nil: a
	// savepoint shows whether a transaction has ended under its code.
	status *uint16

	// nil: nothing warns that checkConnLiveness=false has a loss show late.
	config *mysql.Config

	// The network connection, TLS or not. nil: the kernel does not report
	// hang-ups, and the watch ticks; all statements run under the session's
	// context; the socket of a connection that its owner uses cannot be closed.
	socket net.Conn
}

// An ender knows why something has ended; nil: it has not.
type ender interface{ Value() error }

// fromGoSQLDriver reports whether conn is a connection of go-sql-driver itself,
// with nothing wrapped around it. Other connections are left alone:
// ResetSession may do anything there, up to resetting the session, which would
// free its locks.
func fromGoSQLDriver(conn any) bool {
	t := reflect.TypeOf(conn)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}

// peek reads a connection of go-sql-driver.
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

// socketOpen looks at the socket: ResetSession of go-sql-driver tries to read
// what must not be there.
func (d *driverConn) socketOpen() bool {
	r, ok := d.conn.(driver.SessionResetter)
	return !ok || r.ResetSession(context.Background()) == nil
}

// fields says where the fields of the driver's connection are; -1: the driver
// does not have it.
var fields struct {
	sync.Once
	closed, watching, canceled, socket, config, status int
}

// findFields looks the fields up, once.
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

// driverField returns a pointer to the field, nil if there is none.
func driverField(conn any, index *int) any {
	findFields(conn)
	if *index < 0 {
		return nil
	}
	f := reflect.ValueOf(conn).Elem().Field(*index)
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Interface()
}

// missingFields names the fields that this version of go-sql-driver does not
// have. It is called after peek.
func missingFields() (missing []string) {
	for name, at := range map[string]int{"closed": fields.closed, "watching": fields.watching, "canceled": fields.canceled, "rawConn": fields.socket, "cfg": fields.config, "status": fields.status} {
		if at < 0 {
			missing = append(missing, name)
		}
	}
	return missing
}

// txFields are the fields of a *sql.Tx. closemu is held for reading while rows
// are open or a statement is about to run. done is set when Commit or Rollback
// has been called.
var txFields = sync.OnceValue(func() (fields struct{ closemu, done []int }) {
	tx := reflect.TypeFor[sql.Tx]()
	if f, ok := tx.FieldByName("closemu"); ok && f.Type == reflect.TypeFor[sync.RWMutex]() {
		fields.closemu = f.Index
	}
	if f, ok := tx.FieldByName("done"); ok && f.Type == reflect.TypeFor[atomic.Bool]() {
		fields.done = f.Index
	}
	return fields
})

func txField[T any](tx *sql.Tx, index []int) *T {
	if index == nil {
		return nil
	}
	return (*T)(reflect.ValueOf(tx).Elem().FieldByIndex(index).Addr().UnsafePointer())
}

// isDone reports whether Commit or Rollback has been called on tx. Where that
// cannot be seen it reports false, and the next call on tx finds out.
func isDone(tx *sql.Tx) bool {
	done := txField[atomic.Bool](tx, txFields().done)
	return done != nil && done.Load()
}

// rowsOpen reports whether rows of tx are open, or a statement of it is about
// to run. The driver does not know of rows that are read under a context that
// cannot end. Where database/sql no longer has the mutex, rows count as open
// until the transaction has ended, and no proof is sent in that time.
func rowsOpen(tx *sql.Tx) bool {
	mu := txField[sync.RWMutex](tx, txFields().closemu)
	if mu == nil || !mu.TryLock() {
		return true
	}
	mu.Unlock()
	return false
}
