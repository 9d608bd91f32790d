package server

import (
	"database/sql"
	"fmt"
	"time"
)

// A leaseState is what is known of the lease of a session.
type leaseState int

const (
	leaseNone      leaseState = iota // wait_timeout is as it was
	leaseSet                         // the server has said yes to it
	leaseTaken                       // and it is so
	leaseSwallowed                   // but wait_timeout is another one
)

// setLease lets the server close the session, and free its locks, when it has
// heard nothing of it for as long as the lease. A wait_timeout that is shorter
// stays.
func (c *Conn) setLease() error {
	lease := int64(c.server.Lease / time.Second)
	if lease == 0 || lease >= c.greeting.waitTimeout.Int64 {
		return nil
	}
	if err := c.setWaitTimeout(lease); err != nil {
		return c.refusedOr(err, "could not set wait_timeout (WithLease)")
	}
	c.greeting.idleLimit, c.greeting.lease = time.Duration(lease)*time.Second, leaseSet
	return nil
}

// leaseColumns reads the lease back, once. The first proof does so: to ask in a
// round trip of its own would make every session more expensive, and nothing
// depends on a lease before that.
func (c *Conn) leaseColumns(seconds *sql.NullInt64) []column {
	if c.greeting.lease != leaseSet {
		return nil
	}
	return []column{{"@@wait_timeout", seconds}}
}

// leaseRead takes what leaseColumns has read.
func (c *Conn) leaseRead(seconds sql.NullInt64) {
	if c.greeting.lease != leaseSet || !seconds.Valid {
		return
	}
	is := time.Duration(seconds.Int64) * time.Second
	if is == c.greeting.idleLimit {
		c.greeting.lease = leaseTaken
		return
	}
	c.greeting.lease, c.greeting.idleLimit = leaseSwallowed, is
	if !c.server.leaseless.Swap(true) {
		c.server.Logger.Warn("namedlock: WithLease has no effect: wait_timeout did not change",
			"lease", c.server.Lease, "wait_timeout", is, "reason", "a proxy drops SET SESSION wait_timeout, as ProxySQL does")
	}
}

// readLease reads it back at once, for Check.
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

// unsetLease undoes setLease.
func (c *Conn) unsetLease() error {
	if c.greeting == nil || c.greeting.idleLimit == time.Duration(c.greeting.waitTimeout.Int64)*time.Second {
		return nil
	}
	return c.setWaitTimeout(c.greeting.waitTimeout.Int64)
}

func (c *Conn) setWaitTimeout(seconds int64) error {
	return c.exec(AnswerTime, fmt.Sprintf("SET SESSION wait_timeout = %d", seconds))
}
