package server

import (
	"database/sql"
	"fmt"
	"time"
)

// A leaseState is the known state of a session's lease.
type leaseState int

const (
	leaseNone  leaseState = iota // wait_timeout is as it was
	leaseSet                     // the server accepted SET SESSION wait_timeout
	leaseKnown                   // and wait_timeout was read back
)

// leaseSeconds returns the lease as a value of wait_timeout; 0: none.
func (srv *Server) leaseSeconds() int64 { return int64(srv.Lease / time.Second) }

// setLease sets the session's wait_timeout to the lease. If the client
// vanishes, the server then closes the session, and frees its locks, after that
// time. A shorter wait_timeout stays.
func (c *Conn) setLease() error {
	lease := c.server.leaseSeconds()
	if lease == 0 || lease >= c.greeting.waitTimeout.Int64 {
		return nil
	}
	if err := c.setWaitTimeout(lease); err != nil {
		return c.refusedOr(err, "could not set wait_timeout (WithLease)")
	}
	c.setIdleLimit(time.Duration(lease) * time.Second)
	c.greeting.lease = leaseSet
	return nil
}

// leaseColumns reads the lease back, once, within the first proof. A round trip
// of its own would add to the cost of every session, and no code relies on the
// lease before the first proof. If a transaction begins before that, its
// settings contain wait_timeout: see readSettings.
func (c *Conn) leaseColumns(seconds *sql.NullInt64) []column {
	if c.greeting.lease != leaseSet {
		return nil
	}
	return []column{{"@@wait_timeout", seconds}}
}

// leaseRead judges wait_timeout, as it was read back. If it is not the lease,
// leaseRead logs that, once per Server, and the interval of the proofs follows
// the value that is in force. Only a transaction has limits besides
// wait_timeout, and leaseRead comes before those are set.
func (c *Conn) leaseRead(seconds sql.NullInt64) {
	if c.greeting.lease != leaseSet || !seconds.Valid {
		return
	}
	c.greeting.lease = leaseKnown
	if seconds.Int64 == c.server.leaseSeconds() {
		return
	}
	is := time.Duration(seconds.Int64) * time.Second
	c.setIdleLimit(is)
	if !c.server.warnedLease.Swap(true) {
		c.server.Logger.Warn("namedlock: WithLease has no effect: wait_timeout did not change",
			"lease", c.server.Lease, "wait_timeout", is, "reason", "a proxy drops SET SESSION wait_timeout, as ProxySQL does")
	}
}

// readLease reads the lease back at once, for Check.
func (c *Conn) readLease() error {
	var seconds sql.NullInt64
	columns := c.leaseColumns(&seconds)
	if columns == nil {
		return nil
	}
	if err := c.scan(AnswerTime, c.selecting(columns[0].text), columns[0].dest); err != nil {
		return c.refusedOr(err, "could not read wait_timeout")
	}
	c.leaseRead(seconds)
	return nil
}

// unsetLease sets wait_timeout back to its value at the greeting, if setLease
// has set it.
func (c *Conn) unsetLease() error {
	if c.greeting == nil || c.greeting.lease == leaseNone {
		return nil
	}
	return c.setWaitTimeout(c.greeting.waitTimeout.Int64)
}

func (c *Conn) setWaitTimeout(seconds int64) error {
	return c.exec(AnswerTime, fmt.Sprintf("SET SESSION wait_timeout = %d", seconds))
}
