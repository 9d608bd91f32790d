package session

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// What a probe of a connection finds.
type connState int

const (
	unseen   connState = iota // not go-sql-driver's own: nothing can be told
	open                      // as far as can be seen
	closed                    // by the server, or by the driver after a failure
	occupied                  // by something that is still to be read; nothing can be sent
	returned                  // by the caller of New, who has closed the *sql.Conn
	cutOff                    // by the driver, since a context ended in the middle of a statement of the transaction
)

// cause is why a session is lost of which that is the state.
func (state connState) cause() error {
	switch state {
	case closed:
		return errClosed
	case returned:
		return errConnClosed
	case cutOff:
		return ErrCutOff
	}
	return nil
}

// probeSocket finds out whether the server has closed the connection: without traffic, and
// without blocking while no statement runs.
func (s *Session) probeSocket() connState {
	state := unseen
	err := s.raw(func(conn any) error {
		state = s.stateOf(conn)
		switch {
		case state == open && !socketOpen(conn), state == occupied && !s.shared():
			state = closed
		}
		return nil
	})
	switch {
	case errors.Is(err, errConnClosed):
		return returned
	case err != nil:
		return closed
	}
	return state
}

// listen has the kernel tell when the server closes the connection, if it can. It is
// called before the first statement.
func (s *Session) listen(conn any) {
	if s.listened || s.config.Probe == 0 {
		return
	}
	s.listened = true
	if why := s.blindness(conn); why != "" {
		s.blind.Store(true)
		if !s.config.blind.Swap(true) {
			s.config.Logger.Warn("namedlock: a loss will be noticed by the keep-alive, not at once",
				"because", why, "connection", fmt.Sprintf("%T", conn), "keepalive", s.config.KeepAlive)
		}
	} else if missing := missingFields(conn); len(missing) > 0 && !s.config.blind.Swap(true) {
		s.config.Logger.Warn("namedlock: a loss may be noticed late, and rows of your own on a connection given to New may be damaged: this version of go-sql-driver is not known to the Locker",
			"missing", missing)
	}
	if id, err := s.config.hangups.Add(socketOf(conn)); err == nil {
		s.hangupID.Store(id)
	}
}

// blindness says why a look at the socket of conn tells nothing, "" if it does.
func (s *Session) blindness(conn any) string {
	if s.stateOf(conn) == unseen {
		return "the connection is not go-sql-driver's own"
	}
	if _, ok := conn.(MemoryConn); ok {
		return ""
	}
	if cfg, ok := driverField(conn, &fields.config).(**mysql.Config); ok && *cfg != nil && !(*cfg).CheckConnLiveness {
		return "checkConnLiveness=false in the DSN"
	}
	if socket := socketOf(conn); socket != nil {
		if _, ok := socket.(syscall.Conn); !ok {
			return "the connection is no syscall.Conn: a custom dialer makes it"
		}
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // where go-sql-driver does not look
		return "no look at a socket on " + runtime.GOOS
	}
	return ""
}

// listenNoMore undoes listen. A conn of nil is one that is closed, or somebody else's.
func (s *Session) listenNoMore(conn any) {
	if s.hangupID.Swap(0) != 0 {
		s.config.hangups.Remove(socketOf(conn))
	}
}

// SocketOpen reports whether the connection can be seen to be open. The caller has
// the session's turn.
func (s *Session) SocketOpen() bool { return s.probeSocket() == open }

// A driverConn is what can be told of a connection of go-sql-driver, without traffic. What is
// nil the driver has no more: see fields.
type driverConn struct {
	valid    driver.Validator // false for one with something unread in its buffer, as for one that is closed
	closed   *atomic.Bool     // by the driver, after a failure: to send something and see would, on unread rows, have it closed
	canceled ender            // why, if it was for the end of a context in the middle of a statement

	// The driver watches a context on behalf of the connection, as it does while rows are being
	// read under one that can end, as fn's is. valid does not tell while they come straight from
	// the socket, the driver's buffer being empty, and to look at the socket then would swallow
	// a byte of them. Nothing but this field of the driver's knows; Raw holds the mutex that
	// guards it. (It stays set on a connection that is closed in the middle.)
	watching *bool

	status *uint16 // the flags of the last answer that was not an error: see seenTx
}

// An ender knows why something has ended; nil: it has not.
type ender interface{ Value() error }

// know finds out, once, what can be told of conn.
func (s *Session) know(conn any) {
	if s.known {
		return
	}
	s.known = true
	if !fromGoSQLDriver(conn) {
		return
	}
	d := new(driverConn)
	d.valid, _ = conn.(driver.Validator)
	d.closed, _ = driverField(conn, &fields.closed).(*atomic.Bool)
	d.canceled, _ = driverField(conn, &fields.canceled).(ender)
	d.watching, _ = driverField(conn, &fields.watching).(*bool)
	d.status = statusOf(conn)
	s.driver, s.socket = d, socketOf(conn)
}

// stateOf asks the driver alone, and sends nothing.
func (s *Session) stateOf(conn any) connState {
	s.know(conn)
	if s.tx.Load() != nil && s.rowsOpen() {
		return occupied
	}
	if conn, ok := conn.(MemoryConn); ok {
		if conn.ClosedByServer(Look{}) {
			return closed
		}
		return open
	}
	d := s.driver
	switch {
	case d == nil:
		return unseen
	case s.canceled():
		return cutOff
	case d.closed != nil && d.closed.Load():
		return closed
	case d.watching != nil && *d.watching || d.valid != nil && !d.valid.IsValid():
		return occupied
	}
	return open
}

// canceled reports whether the driver has closed the connection because a context ended in the
// middle of a statement of the transaction. Where the session's own context has ended it was
// that: silence under a proof, which is a loss.
func (s *Session) canceled() bool {
	return s.tx.Load() != nil && s.ctx.Err() == nil && s.driver != nil && s.driver.canceled != nil && s.driver.canceled.Value() != nil
}

// socketOpen looks at the socket of a connection of go-sql-driver: its ResetSession
// tries to read what must not be there.
func socketOpen(conn any) bool {
	r, ok := conn.(driver.SessionResetter)
	return !ok || r.ResetSession(context.Background()) == nil
}

// socketOf returns the network connection beneath conn, TLS or not; nil if it cannot be
// told.
func socketOf(conn any) net.Conn {
	if !fromGoSQLDriver(conn) {
		return nil
	}
	if socket, ok := driverField(conn, &fields.socket).(*net.Conn); ok {
		return *socket
	}
	return nil
}

// fields are those of the driver's connection that tell what nothing else does. Each is
// where it is, or -1 if the driver has it no more. What happens without:
//
//   - closed: IsValid, which the driver has in public, says so as well, but does not tell it
//     from unread rows. On a connection of our own there are none, so it counts as closed; on
//     one that was given to New a loss shows by the keep-alive.
//   - watching: rows that are read under a context, on a connection given to New, are not
//     seen: "Leave conn to the Locker" has no exception then.
//   - canceled: a transaction that its own code has cut off counts as a loss.
//   - cfg: nobody says that checkConnLiveness=false has a loss show late.
//   - status: a savepoint shows whether a transaction has ended under its code.
//   - rawConn: the kernel does not tell of hang-ups, and the watch ticks; all statements run
//     under the session's context; a connection given to New cannot be cut.
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

// missingFields names those that a connection of go-sql-driver has no more.
func missingFields(conn any) (missing []string) {
	if !fromGoSQLDriver(conn) {
		return nil
	}
	findFields(conn)
	for name, at := range map[string]int{"closed": fields.closed, "watching": fields.watching, "canceled": fields.canceled, "rawConn": fields.socket, "cfg": fields.config, "status": fields.status} {
		if at < 0 {
			missing = append(missing, name)
		}
	}
	return missing
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

// statusOf returns where a connection of go-sql-driver keeps the status flags of the
// last answer. nil: this version does not.
func statusOf(conn any) *uint16 {
	findFields(conn)
	if fields.status < 0 {
		return nil
	}
	return (*uint16)(reflect.ValueOf(conn).Elem().Field(fields.status).Addr().UnsafePointer())
}

func fieldOf(driverConn reflect.Type, name string, kind reflect.Type) int {
	if f, ok := driverConn.FieldByName(name); ok && f.Type == kind && len(f.Index) == 1 {
		return f.Index[0]
	}
	return -1
}

// fromGoSQLDriver reports whether conn is a connection of go-sql-driver itself,
// with nothing wrapped around it. Others are not looked at: ResetSession may do
// anything there, up to resetting the session, which would free its locks.
func fromGoSQLDriver(conn any) bool {
	t := reflect.TypeOf(conn)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "github.com/go-sql-driver/mysql"
}
