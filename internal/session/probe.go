package session

import (
	"context"
	"database/sql/driver"
	"errors"
	"reflect"
)

// What a look at a connection finds.
type connState int

const (
	open     connState = iota // as far as can be seen
	closed                    // by the server, or by the driver after a failure
	occupied                  // by rows that are still to be read; nothing can be sent
)

// look looks whether the server has closed the connection: without traffic, and
// without blocking while no statement runs.
func (s *Session) look() connState {
	state := open
	err := s.conn.Raw(func(conn any) error {
		state = lookAt(conn)
		if state != open || !fromGoSQLDriver(conn) {
			return nil
		}
		if r, ok := conn.(driver.SessionResetter); ok && r.ResetSession(context.Background()) != nil {
			state = closed
		}
		return nil
	})
	if err != nil {
		return closed
	}
	return state
}

// lookAt asks the driver alone, and sends nothing. IsValid is false for a
// connection that the driver has closed and for one with something unread in its
// buffer. The two differ in what comes of a query with an argument too many: the
// driver refuses both before it touches anything, the one as a bad connection, the
// other for the argument.
func lookAt(conn any) connState {
	if !fromGoSQLDriver(conn) {
		return open
	}
	if streaming(conn) {
		return occupied
	}
	if v, ok := conn.(driver.Validator); !ok || v.IsValid() {
		return open
	}
	//lint:ignore SA1019 QueryContext would break off the query whose rows are unread
	if q, ok := conn.(driver.Queryer); ok {
		if _, err := q.Query("", []driver.Value{nil}); errors.Is(err, driver.ErrSkip) {
			return occupied
		}
	}
	return closed
}

// streaming reports whether rows are being read on conn under a context that can
// end, as fn's is. IsValid does not tell while they come straight from the socket,
// the driver's buffer being empty, and to look at the socket then would swallow a
// byte of them. Nothing but this field of the driver's knows; Raw holds the mutex
// that guards it. Rows that are read under a context that cannot end are not seen.
func streaming(conn any) bool {
	watching := reflect.ValueOf(conn).Elem().FieldByName("watching")
	return watching.IsValid() && watching.Kind() == reflect.Bool && watching.Bool()
}

// fromGoSQLDriver reports whether conn is a connection of go-sql-driver itself,
// with nothing wrapped around it. Others are not looked at: ResetSession may do
// anything there, up to resetting the session, which would free its locks.
func fromGoSQLDriver(conn any) bool {
	t := reflect.TypeOf(conn)
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}
