package server

import (
	"database/sql/driver"
	"errors"
	"fmt"
)

// restore sets the session back to the state in which it came, except for locks
// that other code had left on it. No lock of ours is on it any more.
func (c *Conn) restore() error {
	if err := c.releaseLeftovers(); err != nil {
		return err
	}
	if err := c.unsetLease(); err != nil {
		return fmt.Errorf("could not restore wait_timeout: %w", err)
	}
	for _, set := range c.toRestore {
		if err := c.exec(AnswerTime, set); err != nil {
			return fmt.Errorf("could not restore an idle limit: %w", err)
		}
	}
	return nil
}

// letGo frees what was prepared, unless rows of the user's are in the way, and
// lets go of the connection. It stays usable.
func (c *Conn) letGo() {
	_ = c.raw(func(conn any) error {
		if c.stateOf(conn) != Occupied {
			c.get.close()
			c.release.close()
			c.releaseAll.close()
		}
		c.listenNoMore(c.socket)
		return nil
	})
	c.listenNoMore(nil)
	c.cancel()
}

// Discard closes the connection for good, which frees its locks at once. The
// connection never goes back to a pool.
func (c *Conn) Discard() error {
	// A statement that hangs would keep Raw waiting. A statement of a transaction
	// is ended by closing only the socket. Then closeConn can note the driver's
	// state of the transaction, before database/sql closes the connection at the
	// end of the session's context.
	if c.tx.Load() == nil || !c.CloseSocket() {
		c.BreakOff()
	}
	err := c.raw(c.closeConn)
	c.BreakOff()
	c.listenNoMore(nil)
	if tx := c.tx.Load(); tx != nil {
		_ = tx.Rollback() // on our side; it waits for what the code under the lock does with it
		if !c.lent {
			// A wrapper need not show database/sql that what it wraps is closed.
			_ = c.raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return err
}

// closeConn closes the driver's connection, for raw.
//
// If its owner or the code under the lock uses the connection, rows or a
// transaction may be open. Returning driver.ErrBadConn would wait for their end
// (golang/go#81606). So closeConn closes the connection itself. database/sql
// finds it invalid when its owner returns it or, behind a wrapper that hides
// it, at the next use. This requires a driver that reports closed connections:
// other drivers may not support closing twice.
//
// The socket is closed first, so that no COM_QUIT is sent. After COM_QUIT a
// proxy with a pool of its own, such as MySQL Router, keeps the server's
// session with its locks (5 s by default). Without it the session is gone
// within 22 ms (both measured with 9.7). A connection that the driver has
// closed has sent none.
func (c *Conn) closeConn(conn any) error {
	c.noteTx(conn)
	if state := c.stateOf(conn); state != Closed && state != CutOff {
		c.CloseSocket()
	}
	if c.driver != nil {
		conn = c.driver.conn // which may be closed twice, unlike what is wrapped around it
	}
	inner, isConn := conn.(driver.Conn)
	if _, tells := conn.(driver.Validator); c.UsedByCode() && isConn && tells {
		_ = inner.Close()
		return nil
	}
	return driver.ErrBadConn
}

// UsedByCode reports whether code of the user's may use the connection: the
// owner of the one that was given to New, or the code under a lock in its
// transaction.
func (c *Conn) UsedByCode() bool { return c.lent || c.tx.Load() != nil }

// CloseSocket closes the socket of a connection, in whatever use that is, and
// reports whether it could. It is for a connection that cannot be closed
// otherwise: its owner runs a statement on it, or has closed the *sql.Conn.
// Then the connection has gone back to its pool with our locks on it, and the
// pool's next borrower would enter those locks without noticing. Closing the
// socket frees them.
func (c *Conn) CloseSocket() bool {
	return c.socket != nil && c.socket.Close() == nil
}

// GiveBack returns the connection, which holds no lock, to its db as it came.
// It returns an error if that failed, and the connection is closed.
func (c *Conn) GiveBack() error {
	if err := c.restore(); err != nil {
		_ = c.Discard()
		return err
	}
	c.letGo()
	_ = c.conn.Close()
	return nil
}

// Leave lets go of the connection that was given to New. The connection is as
// it came, but without locks that other code had left on it. If rows of its
// owner's are open, nothing can be sent, and the connection keeps the lease.
// Leave returns an error if the connection had to be closed.
func (c *Conn) Leave() error {
	switch err := c.restore(); {
	case errors.Is(err, ErrOccupied):
		c.server.Logger.Warn("namedlock: could not restore wait_timeout on the connection given to New", "error", err)
	case err != nil:
		_ = c.Discard()
		return err
	}
	c.letGo()
	return nil
}
