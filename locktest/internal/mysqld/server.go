// Package mysqld is a server in memory, with named locks like MySQL's and
// nothing else, behind a driver for database/sql.
//
// It supports the statements in the package documentation of namedlock, and
// shows its locks to all users. Locks are granted first come, first served,
// counted within a session, and freed at its end. A wait that would be a
// deadlock is refused. A waiting statement blocks only on channels and timers,
// as testing/synctest requires.
package mysqld

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-namedlock/namedlock/internal/locktable"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A Server has named locks.
type Server struct {
	locks *locktable.Table[*conn]

	mu     sync.Mutex // guards all below, and what conns and processes are
	lastID int64      // of connections
}

// New returns a server without connections.
func New() *Server {
	return &Server{locks: locktable.New(fold, (*conn).granted)}
}

// fold returns what MySQL compares names by. Its tables are older than Go's:
// late capitals, of which these are the ones that were tried, have no small
// letter there.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == 'ẞ' || r == 'Ⱥ' {
			return r
		}
		return unicode.ToLower(r)
	}, name)
}

// getLock returns the result of GET_LOCK. A negative timeout waits
// indefinitely. limit is the statement's MAX_EXECUTION_TIME, 0 for none.
func (c *conn) getLock(ctx context.Context, name string, timeout, limit time.Duration) (int64, error) {
	// The shorter of the two ends the wait.
	atEnd := error(nil)
	if limit > 0 && (timeout < 0 || limit < timeout) {
		timeout, atEnd = limit, errStatementTime
	}
	granted, err := c.locks.Get(ctx, name, timeout)
	switch {
	case granted:
		return 1, nil
	case errors.Is(err, locktable.ErrDeadlock):
		return 0, errDeadlock
	case errors.Is(err, locktable.ErrEnded):
		return 0, server.ErrInvalidConn
	case err != nil: // of ctx
		c.end() // as the driver does
		return 0, err
	}
	return 0, atEnd
}

// releaseLock returns what RELEASE_LOCK does. An error that was asked for by
// FailRelease comes instead of 1.
func (c *conn) releaseLock(name string) (any, error) {
	if holder, _ := c.server.locks.Holder(name); holder == c {
		if err := c.process.failure(); err != nil {
			return nil, err
		}
	}
	return c.locks.Release(name), nil
}

// failure returns the next error that was asked for, and nil after the last.
func (p *Process) failure() (err error) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	if len(p.failures) > 0 {
		err, p.failures = p.failures[0], p.failures[1:]
	}
	return err
}

// isUsedLock returns the id of the connection that holds the lock, nil for a
// free one.
func (s *Server) isUsedLock(name string) any {
	if holder, held := s.locks.Holder(name); held {
		return holder.id
	}
	return nil
}

// A Process is a client of the server. As a driver.Connector it opens
// connections, which it then answers for.
type Process struct {
	server   *Server
	program  string  // what its sessions call themselves
	failures []error // of the next RELEASE_LOCKs
	txDB     *sql.DB // where transactions come from; nil: there are none
	faults
}

// Process returns another client, whose connections have program for their
// program_name.
func (s *Server) Process(program string) *Process { return &Process{server: s, program: program} }

// Held returns the names that connections of p hold locks by, as they wrote
// them, in the order of the grants.
func (p *Process) Held() []string {
	names := []string{}
	for _, g := range p.server.locks.Grants() {
		if g.Client.process == p {
			names = append(names, g.Name)
		}
	}
	return names
}

// Holds reports whether p holds the lock.
func (p *Process) Holds(name string) bool { return p.holder(name) != nil }

func (p *Process) holder(name string) *conn {
	if c, held := p.server.locks.Holder(name); held && c.process == p {
		return c
	}
	return nil
}

// Kill closes the connection by which p holds the lock, as KILL does. It
// returns false if there is none.
func (p *Process) Kill(name string) bool {
	c := p.holder(name)
	if c != nil {
		c.end()
	}
	return c != nil
}

// FailRelease has the next RELEASE_LOCK for a lock that p holds fail with err.
// The lock stays on its connection.
func (p *Process) FailRelease(err error) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.failures = append(p.failures, err)
}

// Hold acquires the lock on a new connection, which release closes. It returns
// false if the lock was not free within timeout.
func (p *Process) Hold(name string, timeout time.Duration) (release func(), ok bool) {
	c := p.connect()
	if granted, _ := c.locks.Get(context.Background(), name, timeout); !granted {
		c.end()
		return nil, false
	}
	return c.end, true
}
