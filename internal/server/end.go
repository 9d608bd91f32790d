package server

import (
	"database/sql/driver"
	"errors"
	"fmt"
)

// restore leaves the session as it came, but for locks that other code had left
// on it. No lock of ours is on it any more.
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
	// A statement that hangs would keep Raw waiting. That of a transaction is
	// ended with the socket alone, so that closeConn can note what the driver
	// knows of the transaction: database/sql closes the connection when the
	// session's context ends.
	if c.tx.Load() == nil || !c.Cut() {
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

// closeConn closes the driver's connection, for raw. On one that others use
// too, they may have rows or a transaction open, and to return
// driver.ErrBadConn would wait for their end (golang/go#81606). So the
// connection is closed right here; database/sql finds it invalid when its owner
// lets go of it, or, behind a wrapper that does not show it, when it is used
// again. That takes a driver which tells: others may not bear to be closed
// twice.
//
// The socket ends first, so that no goodbye is sent: a proxy with a pool of its
// own, as MySQL Router, keeps the server's session after one, with its locks (5
// s by default; without one it is gone within 22 ms, both measured with 9.7).
// One that the driver has closed had none either.
func (c *Conn) closeConn(conn any) error {
	c.noteTx(conn)
	if state := c.stateOf(conn); state != Closed && state != CutOff {
		c.Cut()
	}
	if c.driver != nil {
		conn = c.driver.conn // which may be closed twice, unlike what is wrapped around it
	}
	inner, isConn := conn.(driver.Conn)
	if _, tells := conn.(driver.Validator); c.Shared() && isConn && tells {
		_ = inner.Close()
		return nil
	}
	return driver.ErrBadConn
}

// Shared reports whether others use the connection, too: the owner of one that
// was given to New, or the transaction of the code under a lock.
func (c *Conn) Shared() bool { return c.lent || c.tx.Load() != nil }

// Cut closes the socket of a connection, whoever uses it now, and reports
// whether it could. It is for a connection that cannot be closed otherwise: its
// owner runs a statement on it, or has closed the *sql.Conn, and the connection
// has gone back to its pool with our locks on it. The pool's next borrower
// would enter those locks again without noticing; to close the socket frees
// them.
func (c *Conn) Cut() bool {
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
