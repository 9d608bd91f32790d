// Package mysqld is a server in memory, with named locks like MySQL's and nothing
// else, behind a driver for database/sql.
//
// It understands the statements in the package documentation of namedlock, and shows
// its locks to everybody. Locks are granted first come first served, counted within a
// session, freed with it, and a wait that would be a deadlock is refused. A statement
// that waits blocks on channels and timers only, so that a synctest bubble sees it wait.
package mysqld

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-namedlock/namedlock/internal/session"
)

// A Server has named locks.
type Server struct {
	mu     sync.Mutex // guards all below, and what locks, conns and processes are
	locks  map[string]*lock
	lastID int64 // of connections
	grants int64
}

// New returns a server that nobody is connected to.
func New() *Server {
	return &Server{locks: make(map[string]*lock)}
}

// A lock exists while somebody holds it.
type lock struct {
	key     string
	name    string // as its holder wrote it
	owner   *conn
	count   int   // how often the owner has taken it
	grant   int64 // number of the grant to the owner
	waiters []*waiter
}

// A waiter is a connection with a GET_LOCK that waits.
type waiter struct {
	conn    *conn
	lock    *lock
	name    string
	granted chan struct{} // closed when the lock is the connection's
}

// fold returns what MySQL compares names by. Its tables are older than Go's: late
// capitals, of which these are the ones that were tried, have no small letter there.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == 'ẞ' || r == 'Ⱥ' {
			return r
		}
		return unicode.ToLower(r)
	}, name)
}

// getLock returns what GET_LOCK does. A negative timeout waits for ever. limit is the
// statement's MAX_EXECUTION_TIME, 0 for none.
func (s *Server) getLock(ctx context.Context, c *conn, name string, timeout, limit time.Duration) (int64, error) {
	s.mu.Lock()
	l := s.locks[fold(name)]
	switch {
	case c.ended():
		s.mu.Unlock()
		return 0, session.ErrInvalidConn
	case l == nil:
		s.give(&lock{key: fold(name)}, c, name)
		s.mu.Unlock()
		return 1, nil
	case l.owner == c:
		l.count++
		s.mu.Unlock()
		return 1, nil
	case timeout == 0:
		s.mu.Unlock()
		return 0, nil
	case s.deadlocks(c, l):
		s.mu.Unlock()
		return 0, errDeadlock
	}
	w := &waiter{conn: c, lock: l, name: name, granted: make(chan struct{})}
	l.waiters = append(l.waiters, w)
	c.waits = w
	s.mu.Unlock()

	// The shorter of the two ends the wait.
	atEnd := error(nil)
	if limit > 0 && (timeout < 0 || limit < timeout) {
		timeout, atEnd = limit, errStatementTime
	}
	var ends <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		ends = timer.C
	}
	select {
	case <-w.granted:
		return 1, nil
	case <-c.gone:
		return 0, session.ErrInvalidConn
	case <-ctx.Done():
		c.end() // as the driver does
		return 0, ctx.Err()
	case <-ends:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.owner == c {
		return 1, nil // in the last moment
	}
	s.leave(w)
	return 0, atEnd
}

// give makes c the owner of l.
func (s *Server) give(l *lock, c *conn, name string) {
	s.grants++
	l.owner, l.name, l.count, l.grant = c, name, 1, s.grants
	s.locks[l.key] = l
	c.held = append(c.held, l)
	c.statement, c.since = "", time.Now() // this ends it
}

// take frees l, and gives it to the next in line.
func (s *Server) take(l *lock) {
	l.owner.held = slices.DeleteFunc(l.owner.held, func(held *lock) bool { return held == l })
	if len(l.waiters) == 0 {
		l.owner = nil
		delete(s.locks, l.key)
		return
	}
	next := l.waiters[0]
	s.leave(next)
	s.give(l, next.conn, next.name)
	close(next.granted)
}

// leave takes w out of line.
func (s *Server) leave(w *waiter) {
	w.conn.waits = nil
	w.lock.waiters = slices.DeleteFunc(w.lock.waiters, func(other *waiter) bool { return other == w })
}

// deadlocks reports whether c, were it to wait for l, would wait for itself. Who
// waits for a lock waits for its owner and for those in line before.
func (s *Server) deadlocks(c *conn, l *lock) bool {
	seen := map[*conn]bool{}
	var reaches func(l *lock, before *conn) bool
	reaches = func(l *lock, before *conn) bool {
		ahead := []*conn{l.owner}
		for _, w := range l.waiters {
			if w.conn == before {
				break
			}
			ahead = append(ahead, w.conn)
		}
		for _, other := range ahead {
			if other == c {
				return true
			}
			if seen[other] || other.waits == nil {
				continue
			}
			seen[other] = true
			if reaches(other.waits.lock, other) {
				return true
			}
		}
		return false
	}
	return reaches(l, nil)
}

// releaseLock returns what RELEASE_LOCK does: 1, 0 for a lock of another session,
// nil for one that nobody holds. An error that was asked for by FailRelease comes
// instead.
func (s *Server) releaseLock(c *conn, name string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[fold(name)]
	switch {
	case l == nil:
		return nil, nil
	case l.owner != c:
		return int64(0), nil
	}
	if failures := c.process.failures; len(failures) > 0 {
		c.process.failures = failures[1:]
		return nil, failures[0]
	}
	if l.count--; l.count == 0 {
		s.take(l)
	}
	return int64(1), nil
}

// releaseAll returns how many locks RELEASE_ALL_LOCKS has released.
func (s *Server) releaseAll(c *conn) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	released := 0
	for len(c.held) > 0 {
		released += c.held[0].count
		s.take(c.held[0])
	}
	return int64(released)
}

// isUsedLock returns the id of the connection that holds the lock, nil for a free
// one.
func (s *Server) isUsedLock(name string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.locks[fold(name)]; l != nil {
		return l.owner.id
	}
	return nil
}

// A Process is a client of the server. As a driver.Connector it opens connections,
// which it then answers for.
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

// granted returns the locks that are held, in the order of the grants.
func (s *Server) granted() []*lock {
	return slices.SortedFunc(maps.Values(s.locks), func(a, b *lock) int { return cmp.Compare(a.grant, b.grant) })
}

// Held returns the names that connections of p hold locks by, as they wrote them,
// in the order of the grants.
func (p *Process) Held() []string {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	names := []string{}
	for _, l := range p.server.granted() {
		if l.owner.process == p {
			names = append(names, l.name)
		}
	}
	return names
}

// Holds reports whether p holds the lock.
func (p *Process) Holds(name string) bool { return p.holder(name) != nil }

func (p *Process) holder(name string) *conn {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	if l := p.server.locks[fold(name)]; l != nil && l.owner.process == p {
		return l.owner
	}
	return nil
}

// Kill closes the connection by which p holds the lock, as KILL does. It returns
// false if there is none.
func (p *Process) Kill(name string) bool {
	c := p.holder(name)
	if c != nil {
		c.end()
	}
	return c != nil
}

// FailRelease has the next RELEASE_LOCK for a lock that p holds fail with err. The
// lock stays on its connection.
func (p *Process) FailRelease(err error) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.failures = append(p.failures, err)
}

// Hold takes the lock on a connection of its own, which release closes. It returns
// false if others have kept it for so long.
func (p *Process) Hold(name string, timeout time.Duration) (release func(), ok bool) {
	c := p.connect()
	got, _ := p.server.getLock(context.Background(), c, name, timeout, 0)
	if got != 1 {
		c.end()
		return nil, false
	}
	return c.end, true
}
