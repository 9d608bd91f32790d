package server

import (
	"database/sql/driver"
	"errors"
	"fmt"
)

// restore puts the session back into the state in which it was borrowed: its
// wait_timeout and idle limits. Only the locks that other code had left on it
// are gone. No lock of ours may be on it.
func (c *Conn) restore() error {
	if err := c.releaseLeftovers(); err != nil {
		return err
	}
	for _, set := range c.toRestore {
		if err := c.exec(AnswerTime, set); err != nil {
			return fmt.Errorf("%s failed: %w", set, err)
		}
	}
	return nil
}

// Discard closes the connection for good, which frees its locks at once. The
// connection never goes back to a pool. Any goroutine may call Discard: it ends
// the statement of the caller that has the turn.
func (c *Conn) Discard() error {
	// Raw waits for a statement that hangs, so that is ended first. A statement
	// of a transaction is ended by closing the socket alone. database/sql
	// closes the connection when the session's context ends, and before that
	// closeConn must note how the transaction ended.
	if c.tx.Load() == nil || !c.CloseSocket() {
		c.BreakOff()
	}
	err := c.raw(c.closeConn)
	c.BreakOff()
	c.listenNoMore(nil)
	if tx := c.tx.Load(); tx != nil {
		_ = tx.Rollback() // in this process only; it waits for the code's statement on tx
		if !c.lent {
			// A wrapper need not show database/sql that its connection is closed.
			_ = c.raw(func(driver.Conn) error { return driver.ErrBadConn })
		}
	}
	return err
}

// closeConn closes the driver's connection, for raw.
//
// The socket is closed first, so that no COM_QUIT is sent. A proxy with a
// connection pool of its own, for example MySQL Router, keeps the server's
// session and its locks after a COM_QUIT: for 5 s by default. Without one they
// are gone within 22 ms. (Both measured with Router 9.7.) If the driver has
// closed the connection, it sent no COM_QUIT either.
//
// If code of the user's may use the connection, rows or a transaction may be
// open on it. Returning driver.ErrBadConn would wait for their end
// (golang/go#81606), so such a connection is closed here. database/sql finds it
// invalid when its owner gives it back, or at its next use behind a wrapper
// that does not show it. This needs a driver with a Validator: without one,
// closing twice may be unsafe.
func (c *Conn) closeConn(conn driver.Conn) error {
	if state := c.stateOf(conn); state != Closed && state != CutOff {
		c.CloseSocket()
	}
	conn = c.driver.Conn // it may be closed twice, and a wrapper perhaps not
	if _, tells := conn.(driver.Validator); c.UsedByCode() && tells {
		_ = conn.Close()
		return nil
	}
	return driver.ErrBadConn
}

// UsedByCode reports whether code of the user's may use the connection: the
// owner of one that was given to New, or the code under a lock in its
// transaction. Any goroutine may call it.
func (c *Conn) UsedByCode() bool { return c.lent || c.tx.Load() != nil }

// CloseSocket closes the socket while any caller uses it, and reports whether
// it could. Any goroutine may call it after the first statement.
//
// It is for a connection that cannot be closed in another way. Its owner may be
// running a statement on it. Or the owner has closed the *sql.Conn, and the
// connection is back in its pool with our locks on it. The pool's next borrower
// would re-enter those locks without noticing. Closing the socket frees them.
func (c *Conn) CloseSocket() bool {
	return c.driver != nil && c.driver.Socket != nil && c.driver.Socket.Close() == nil
}

// GiveBack restores the connection, wait_timeout included, and returns it to
// its db. It must hold no lock of ours. The locks that other code had left on
// it are gone. One that was given to New stays open: its owner goes on to use
// it. If rows of the owner's are open, nothing can be sent, and the connection
// keeps the lease. If restoring fails, the connection is closed and GiveBack
// returns the error.
func (c *Conn) GiveBack() error {
	switch err := c.restore(); {
	case c.lent && errors.Is(err, ErrOccupied):
		c.server.Logger.Warn("namedlock: could not restore wait_timeout on the connection given to New", "error", err)
	case err != nil:
		_ = c.Discard()
		return err
	}
	_ = c.raw(func(conn driver.Conn) error {
		if c.stateOf(conn) != Occupied {
			c.get.close()
			c.release.close()
			c.releaseAll.close()
		}
		c.listenNoMore(c.driver.Socket)
		return nil
	})
	c.listenNoMore(nil) // if the connection is closed
	c.cancel()
	if !c.lent {
		_ = c.conn.Close()
	}
	return nil
}
