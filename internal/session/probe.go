package session

import (
	"context"
	"database/sql/driver"
	"errors"
	"reflect"
	"sync"
)

// What a look at a connection finds.
type connState int

const (
	unseen   connState = iota // not go-sql-driver's own: nothing can be told
	open                      // as far as can be seen
	closed                    // by the server, or by the driver after a failure
	occupied                  // by something that is still to be read; nothing can be sent
)

// look looks whether the server has closed the connection: without traffic, and
// without blocking while no statement runs.
func (s *Session) look() connState {
	state := unseen
	err := s.conn.Raw(func(conn any) error {
		state = s.lookAt(conn)
		switch {
		case state == open && !socketOpen(conn), state == occupied && !s.lent:
			state = closed
		}
		return nil
	})
	if err != nil {
		return closed
	}
	return state
}

// SocketOpen reports whether the connection can be seen to be open. The caller has
// the session's turn.
func (s *Session) SocketOpen() bool { return s.look() == open }

// lookAt asks the driver alone, and sends nothing.
func (s *Session) lookAt(conn any) connState {
	if conn, ok := conn.(MemoryConn); ok {
		if conn.ClosedByServer(Look{}) {
			return closed
		}
		return open
	}
	switch {
	case !fromGoSQLDriver(conn):
		return unseen
	case closedByDriver(conn):
		return closed
	case s.tether == nil && watched(conn) || !isValid(conn):
		return occupied
	}
	return open
}

// socketOpen looks at the socket of a connection of go-sql-driver: its ResetSession
// tries to read what must not be there.
func socketOpen(conn any) bool {
	r, ok := conn.(driver.SessionResetter)
	return !ok || r.ResetSession(context.Background()) == nil
}

// isValid is false for a connection with something unread in its buffer, as for
// one that is closed.
func isValid(conn any) bool {
	v, ok := conn.(driver.Validator)
	return !ok || v.IsValid()
}

// closedByDriver reports whether the driver has closed conn after a failure. A query
// with an argument too many tells: it is refused before anything is touched, by a
// closed connection as such, by another for the argument.
func closedByDriver(conn any) bool {
	//lint:ignore SA1019 QueryContext would break off the query whose rows are unread
	q, ok := conn.(driver.Queryer)
	if !ok {
		return false
	}
	_, err := q.Query("", oneTooMany)
	return !errors.Is(err, driver.ErrSkip)
}

var oneTooMany = []driver.Value{nil}

// watched reports whether the driver watches a context on behalf of conn, as it does
// while rows are being read under one that can end, as fn's is. IsValid does not tell
// while they come straight from the socket, the driver's buffer being empty, and to look
// at the socket then would swallow a byte of them. Nothing but this field of the driver's
// knows; Raw holds the mutex that guards it. (It stays set on a connection that is closed
// in the middle.) Rows that are read under a context that cannot end are not seen.
func watched(conn any) bool {
	v := reflect.ValueOf(conn).Elem()
	field := watchingField(v.Type())
	return field >= 0 && v.Field(field).Bool()
}

// watchingField is where the driver keeps that mark, -1 if it has it no more.
func watchingField(driverConn reflect.Type) int {
	watching.Do(func() {
		watching.field = -1
		if f, ok := driverConn.FieldByName("watching"); ok && f.Type.Kind() == reflect.Bool && len(f.Index) == 1 {
			watching.field = f.Index[0]
		}
	})
	return watching.field
}

var watching struct {
	sync.Once
	field int
}

// fromGoSQLDriver reports whether conn is a connection of go-sql-driver itself,
// with nothing wrapped around it. Others are not looked at: ResetSession may do
// anything there, up to resetting the session, which would free its locks.
func fromGoSQLDriver(conn any) bool {
	t := reflect.TypeOf(conn)
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}
