package server

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"net"

	"github.com/go-namedlock/namedlock/internal/peek"
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
	err := c.raw(func(conn driver.Conn) error {
		used := c.UsedByCode() // also before: a transaction may begin or end in between
		state = c.stateOf(conn)
		switch {
		case state == Open && !c.driver.SocketOpen(), state == Occupied && !used && !c.UsedByCode():
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
func (c *Conn) listen(conn driver.Conn) {
	if why := c.blindness(conn); why != "" {
		c.unwatched.Store(true)
		if !c.server.warnedUnwatched.Swap(true) {
			c.server.Logger.Warn("namedlock: lost locks will be noticed late, by keep-alive only",
				"reason", why, "connection", fmt.Sprintf("%T", conn), "keepalive", c.server.KeepAlive)
		}
	} else if missing := c.driver.Missing(); len(missing) > 0 && !c.server.warnedUnwatched.Swap(true) {
		c.server.Logger.Warn("namedlock: unknown go-sql-driver version: losses may be noticed late, and rows on a connection given to New may be corrupted",
			"missing", missing)
	}
	if id, err := c.server.Hangups.Add(c.driver.Socket); err == nil {
		c.hangupID.Store(id)
	}
}

// blindness returns why a probe of conn cannot detect a loss; "": it can.
func (c *Conn) blindness(conn driver.Conn) string {
	if _, inMemory := conn.(MemoryConn); inMemory {
		return ""
	}
	if !c.driver.Shown {
		return "the connection is not go-sql-driver's, or a wrapper hides it: use WithUnwrap or WithKeepAlive(time.Second)"
	}
	return c.driver.Blind()
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

// know finds the driver's connection, which is not known yet, and begins to
// listen.
func (c *Conn) know(conn driver.Conn) {
	if _, inMemory := conn.(MemoryConn); inMemory {
		c.driver = &peek.Conn{Conn: conn}
	} else {
		c.driver = peek.Find(conn, c.server.Unwrap, c.server.Logger)
	}
	if c.server.Probe > 0 {
		c.listen(conn)
	}
}

// stateOf reads the state that the driver and database/sql have noted. It
// neither sends anything nor probes the socket. Call it in raw.
func (c *Conn) stateOf(conn driver.Conn) State {
	tx := c.tx.Load()
	if tx != nil && c.shownBy.Load()&byFlags != 0 {
		c.lastTx.Store(int32(c.seenTx())) // for the time after the connection is closed
	}
	if tx != nil && peek.RowsOpen(tx) {
		return Occupied
	}
	switch c.driver.State() {
	case peek.Unseen:
		if conn, ok := conn.(MemoryConn); !ok {
			return Unseen
		} else if conn.ClosedByServer(Look{}) {
			return Closed
		}
	case peek.CutOff:
		// If the session's own context has ended, that was the reason: no
		// answer to a proof, which is a loss.
		if tx != nil && c.ctx.Err() == nil {
			return CutOff
		}
		return Closed
	case peek.Closed:
		return Closed
	case peek.Unread:
		return Occupied
	}
	return Open
}
