package session

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
)

// What a probe of a connection finds.
type connState int

const (
	unseen   connState = iota // not go-sql-driver's own, nor is that shown beneath it: nothing can be told
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
		case state == open && !s.socketOpen(), state == occupied && !s.shared():
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
			s.config.Logger.Warn("namedlock: lost locks will be noticed late, by keep-alive only",
				"reason", why, "connection", fmt.Sprintf("%T", conn), "keepalive", s.config.KeepAlive)
		}
	} else if missing := s.missingFields(); len(missing) > 0 && !s.config.blind.Swap(true) {
		s.config.Logger.Warn("namedlock: unknown go-sql-driver version: losses may be noticed late, and rows on a connection given to New may be corrupted",
			"missing", missing)
	}
	if id, err := s.config.hangups.Add(s.socket); err == nil {
		s.hangupID.Store(id)
	}
}

// blindness says why a look at the socket of conn tells nothing, "" if it does.
func (s *Session) blindness(conn any) string {
	if s.stateOf(conn) == unseen {
		return "the connection is not go-sql-driver's, or a wrapper hides it: use WithUnwrap or WithKeepAlive(time.Second)"
	}
	if _, ok := conn.(MemoryConn); ok {
		return ""
	}
	if cfg := s.driver.config; cfg != nil && !cfg.CheckConnLiveness {
		return "checkConnLiveness=false in the DSN"
	}
	if s.socket != nil {
		if _, ok := s.socket.(syscall.Conn); !ok {
			return "the connection is not a syscall.Conn: a custom dialer made it"
		}
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // where go-sql-driver does not look
		return "sockets cannot be checked on " + runtime.GOOS
	}
	return ""
}

// listenNoMore undoes listen. A socket of nil is one that is closed, or somebody else's.
func (s *Session) listenNoMore(socket net.Conn) {
	if s.hangupID.Swap(0) != 0 {
		s.config.hangups.Remove(socket)
	}
}

// SocketOpen reports whether the connection can be seen to be open. The caller has
// the session's turn.
func (s *Session) SocketOpen() bool { return s.probeSocket() == open }

// know finds out, once, what can be told of conn.
func (s *Session) know(conn any) {
	if s.known {
		return
	}
	s.known = true
	if _, inMemory := conn.(MemoryConn); inMemory {
		return
	}
	if !fromGoSQLDriver(conn) {
		conn = s.config.beneath(conn)
	}
	if conn != nil {
		s.driver = peek(conn)
		s.socket = s.driver.socket
	}
}

// stateOf asks the driver alone, and sends nothing.
func (s *Session) stateOf(conn any) connState {
	s.know(conn)
	if tx := s.tx.Load(); tx != nil && rowsOpen(tx) {
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

// socketOpen looks at the socket, if there is one to look at.
func (s *Session) socketOpen() bool { return s.driver == nil || s.driver.socketOpen() }

// missingFields names what cannot be read of the driver's connection.
func (s *Session) missingFields() []string {
	if s.driver == nil {
		return nil
	}
	return missingFields()
}
