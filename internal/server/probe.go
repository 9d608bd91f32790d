package server

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
)

// A State is the state of a connection, as a probe finds it.
type State int

const (
	Unseen   State = iota // not known: no connection of go-sql-driver is shown
	Open                  // as far as a probe can detect
	Closed                // by the server, or by the driver after a failure
	Occupied              // by something unread; nothing can be sent
	Returned              // by the caller of New, who has closed the *sql.Conn
	CutOff                // by the driver: a context ended during a statement of the transaction
)

// Cause returns why a session in that state is lost, or nil if it is not.
func (state State) Cause() error {
	switch state {
	case Closed:
		return ErrClosed
	case Returned:
		return ErrReturned
	case CutOff:
		return ErrCutOff
	}
	return nil
}

// Probe finds out whether the server has closed the connection, without
// traffic. It blocks only while a statement runs: Raw holds the connection's
// mutex. Any goroutine may call Probe.
func (c *Conn) Probe() State {
	state := Unseen
	err := c.raw(func(conn any) error {
		state = c.stateOf(conn)
		switch {
		case state == Open && !c.socketOpen(), state == Occupied && !c.UsedByCode():
			state = Closed
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrReturned):
		return Returned
	case err != nil:
		return Closed
	}
	return state
}

// listen asks the kernel to report when the server closes the connection, if it
// can. If a probe cannot detect that either, listen logs it, once per Server.
func (c *Conn) listen(conn any) {
	if why := c.blindness(conn); why != "" {
		c.unwatched.Store(true)
		if !c.server.warnedUnwatched.Swap(true) {
			c.server.Logger.Warn("namedlock: lost locks will be noticed late, by keep-alive only",
				"reason", why, "connection", fmt.Sprintf("%T", conn), "keepalive", c.server.KeepAlive)
		}
	} else if c.driver != nil && len(missingFields()) > 0 && !c.server.warnedUnwatched.Swap(true) {
		c.server.Logger.Warn("namedlock: unknown go-sql-driver version: losses may be noticed late, and rows on a connection given to New may be corrupted",
			"missing", missingFields())
	}
	if id, err := c.server.Hangups.Add(c.socket); err == nil {
		c.hangupID.Store(id)
	}
}

// blindness returns why a probe of conn cannot detect a loss; "": it can.
func (c *Conn) blindness(conn any) string {
	if _, ok := conn.(MemoryConn); ok {
		return ""
	}
	if c.driver == nil {
		return "the connection is not go-sql-driver's, or a wrapper hides it: use WithUnwrap or WithKeepAlive(time.Second)"
	}
	if cfg := c.driver.config; cfg != nil && !cfg.CheckConnLiveness {
		return "checkConnLiveness=false in the DSN"
	}
	if c.socket != nil {
		if _, ok := c.socket.(syscall.Conn); !ok {
			return "the connection is not a syscall.Conn: a custom dialer made it"
		}
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // go-sql-driver does not check there
		return "sockets cannot be checked on " + runtime.GOOS
	}
	return ""
}

// listenNoMore undoes listen. socket is nil if it is closed, or no longer ours.
func (c *Conn) listenNoMore(socket net.Conn) {
	if c.hangupID.Swap(0) != 0 {
		c.server.Hangups.Remove(socket)
	}
}

// SocketOpen reports whether a probe finds the connection open. It needs the
// session's turn.
func (c *Conn) SocketOpen() bool { return c.Probe() == Open }

// know finds the driver's connection and its socket, and begins to listen, once
// and before the first statement.
func (c *Conn) know(conn any) {
	if c.known {
		return
	}
	c.known = true
	if _, inMemory := conn.(MemoryConn); !inMemory {
		inner := conn
		if !fromGoSQLDriver(conn) {
			inner = c.server.beneath(conn)
		}
		if inner != nil {
			c.driver = peek(inner)
			c.socket = c.driver.socket
		}
	}
	if c.server.Probe > 0 {
		c.listen(conn)
	}
}

// stateOf reads the state that the driver and database/sql have noted. It
// neither sends anything nor probes the socket.
func (c *Conn) stateOf(conn any) State {
	c.know(conn)
	tx := c.tx.Load()
	if tx != nil && rowsOpen(tx) {
		return Occupied
	}
	if conn, ok := conn.(MemoryConn); ok {
		if conn.ClosedByServer(Look{}) {
			return Closed
		}
		return Open
	}
	d := c.driver
	switch {
	case d == nil:
		return Unseen
	case tx != nil && c.ctx.Err() == nil && d.canceled != nil && d.canceled.Value() != nil:
		// If the session's own context has ended, that was the reason: no
		// answer to a proof, which is a loss.
		return CutOff
	case d.closed != nil && d.closed.Load():
		return Closed
	case d.watching != nil && *d.watching || d.valid != nil && !d.valid.IsValid():
		return Occupied
	}
	return Open
}

// socketOpen probes the socket, if its driver is known.
func (c *Conn) socketOpen() bool { return c.driver == nil || c.driver.socketOpen() }
