package server

import (
	"database/sql"
	"fmt"
	"time"
)

// leaseSeconds returns the lease as a value of wait_timeout; 0: none.
func (srv *Server) leaseSeconds() int64 { return int64(srv.Lease / time.Second) }

// setLease sets the session's wait_timeout, which is that many seconds, to the
// lease. If the client vanishes, the server then closes the session, and frees
// its locks, after that time. A shorter wait_timeout stays.
func (c *Conn) setLease(seconds int64) error {
	lease := c.server.leaseSeconds()
	if lease == 0 || lease >= seconds {
		return nil
	}
	if err := c.setUntilRestored("wait_timeout", lease, seconds); err != nil {
		return c.refusedOr(err, "could not set wait_timeout (WithLease)")
	}
	c.setIdleLimit(time.Duration(lease) * time.Second)
	c.greeting.leaseUnread = true
	return nil
}

// leaseColumns reads the lease back, once, within the first proof. A round trip
// of its own would add to the cost of every session, and no code relies on the
// lease before the first proof. If a transaction begins before that, its
// settings contain wait_timeout: see readSettings.
func (c *Conn) leaseColumns(seconds *sql.NullString) []column {
	if !c.greeting.leaseUnread {
		return nil
	}
	return []column{{"@@wait_timeout", seconds}}
}

// leaseRead judges wait_timeout, as it was read back. If it is not the lease,
// leaseRead logs that, once per Server, and the interval of the proofs follows
// the value that is in force. Only a transaction has limits besides
// wait_timeout, and leaseRead comes before those are set.
func (c *Conn) leaseRead(seconds sql.NullString) {
	if !c.greeting.leaseUnread || !seconds.Valid {
		return
	}
	c.greeting.leaseUnread = false
	if integer(seconds) == c.server.leaseSeconds() {
		return
	}
	is := time.Duration(integer(seconds)) * time.Second
	c.setIdleLimit(is)
	if !c.server.warnedLease.Swap(true) {
		c.server.Logger.Warn("namedlock: WithLease has no effect: wait_timeout did not change",
			"lease", c.server.Lease, "wait_timeout", is, "reason", "a proxy drops SET SESSION wait_timeout, as ProxySQL does")
	}
}

// readLease reads the lease back at once, for Check.
func (c *Conn) readLease() error {
	var seconds sql.NullString
	columns := c.leaseColumns(&seconds)
	if columns == nil {
		return nil
	}
	if err := c.read(AnswerTime, nil, columns...); err != nil {
		return c.refusedOr(err, "could not read wait_timeout")
	}
	c.leaseRead(seconds)
	return nil
}

// setUntilRestored sets a variable of the session. restore sets it back.
func (c *Conn) setUntilRestored(name string, value, before int64) error {
	const set = "SET SESSION %s = %d"
	err := c.exec(c.patience(), fmt.Sprintf(set, name, value))
	if err == nil {
		c.toRestore = append(c.toRestore, fmt.Sprintf(set, name, before))
	}
	return err
}
