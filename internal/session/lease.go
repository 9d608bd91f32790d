package session

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
func (s *Session) setLease() error {
	lease := int64(s.config.Lease / time.Second)
	if lease == 0 || lease >= s.server.waitTimeout.Int64 {
		return nil
	}
	if err := s.setWaitTimeout(lease); err != nil {
		return s.refusedOr(err, "could not set wait_timeout (WithLease)")
	}
	s.server.idleLimit, s.server.lease = time.Duration(lease)*time.Second, leaseSet
	return nil
}

// leaseColumns reads the lease back, once. The first proof does so: to ask in a round trip of its own
// would make every session dearer, and nobody counts on a lease before that.
func (s *Session) leaseColumns(seconds *sql.NullInt64) []column {
	if s.server.lease != leaseSet {
		return nil
	}
	return []column{{"@@wait_timeout", seconds}}
}

// leaseRead takes what leaseColumns has read.
func (s *Session) leaseRead(seconds sql.NullInt64) {
	if s.server.lease != leaseSet || !seconds.Valid {
		return
	}
	is := time.Duration(seconds.Int64) * time.Second
	if is == s.server.idleLimit {
		s.server.lease = leaseTaken
		return
	}
	s.server.lease, s.server.idleLimit = leaseSwallowed, is
	if !s.config.leaseless.Swap(true) {
		s.config.Logger.Warn("namedlock: WithLease has no effect: wait_timeout did not change",
			"lease", s.config.Lease, "wait_timeout", is, "reason", "a proxy drops SET SESSION wait_timeout, as ProxySQL does")
	}
}

// readLease reads it back at once, for Check.
func (s *Session) readLease() error {
	var seconds sql.NullInt64
	columns := s.leaseColumns(&seconds)
	if columns == nil {
		return nil
	}
	if err := s.scan(answerTime, s.selecting(columns[0].text), columns[0].dest); err != nil {
		return s.refusedOr(err, "could not read wait_timeout")
	}
	s.leaseRead(seconds)
	return nil
}

// unsetLease undoes setLease.
func (s *Session) unsetLease() error {
	if s.server == nil || s.server.idleLimit == time.Duration(s.server.waitTimeout.Int64)*time.Second {
		return nil
	}
	return s.setWaitTimeout(s.server.waitTimeout.Int64)
}

func (s *Session) setWaitTimeout(seconds int64) error {
	return s.exec(answerTime, fmt.Sprintf("SET SESSION wait_timeout = %d", seconds))
}
