package pool

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A limits says how many sessions the pool may have.
type limits struct {
	all    int // of all pools of the db together; 0: no limit
	shared int // for locks whose code needs a connection of its own
}

// limitsLocked returns the limits that hold now: the db may be changed at any
// time.
func (p *Pool) limitsLocked() (limits, error) {
	if p.lent != nil {
		return limits{shared: 1}, p.gone
	}
	open := p.db.Stats().MaxOpenConnections
	shared, err := SessionCap(p.MaxSessions, open)
	l := limits{shared: shared}
	if open > 0 {
		_, leaders := p.share.state()
		l.all = open - 1
		l.shared = min(l.shared, max(1, l.all-leaders))
	}
	return l, err
}

// SessionCap returns how many sessions a db with that many connections (0: no
// limit) allows, if the user asks for wanted (0: no number).
func SessionCap(wanted, maxOpen int) (int, error) {
	const unlimited = 16
	switch {
	case maxOpen == 1:
		return 0, fault.Because(fault.ErrUnsupported, singleConnection, nil)
	case wanted == 0 && maxOpen == 0:
		return unlimited, nil
	case wanted == 0:
		wanted = max(2, maxOpen/2)
	}
	if maxOpen > 0 {
		wanted = min(wanted, maxOpen-1)
	}
	return wanted, nil
}

// exhausted reports whether the db has no connection to give, so that a session
// is opened only when the application or another pool returns one.
func (p *Pool) exhausted() bool {
	stats := p.db.Stats()
	return stats.MaxOpenConnections > 0 && stats.InUse >= stats.MaxOpenConnections
}

// towardsCapLocked is how many sessions count towards the cap, not counting one
// of them. They are in use, opened or given back for locks whose code needs a
// connection of its own. A transaction that waits for its lock also counts.
func (p *Pool) towardsCapLocked(but *Session) (n int) {
	for _, s := range p.sessions {
		counts := s.status != idle || len(s.holds) > 0
		if s.exclusive() {
			counts = s.status == waiting && !s.leads && len(s.holds) == 0
		}
		if counts && s != but {
			n++
		}
	}
	return n
}

// mayShareLocked reports whether s, which is idle or whose turn has just ended,
// may go to a caller that shares.
func (p *Pool) mayShareLocked(s *Session, limits limits) bool {
	return len(s.holds) > 0 || p.towardsCapLocked(s) < limits.shared
}

// drainsLocked returns the session that no new caller may join, since a caller
// waits for a session of its own, and it will be this one. nil: there is room,
// or another chain has a session of its own that will become free. It is the
// one with the fewest locks.
func (p *Pool) drainsLocked(limits limits) (least *Session) {
	wanted := func(k *waiter) bool { return k.req.Own && k.want == nil }
	if limits.all == 0 || !slices.ContainsFunc(p.waiters, wanted) {
		return nil
	}
	if taken, _ := p.share.state(); taken < limits.all {
		return nil
	}
	for _, s := range p.sessions {
		switch {
		case s.exclusive() && !s.leads:
			return nil
		case !s.exclusive() && s.live() && (least == nil || len(s.holds) < len(least.holds)):
			least = s
		}
	}
	return least
}

// Lead counts a call that has a session of its own for as long as it lasts. If
// the db has too few connections for that, Lead returns an error that matches
// fault.ErrUnsupported. Unless Lead returns an error, Resign must follow.
func (p *Pool) Lead() error {
	if p.lent != nil {
		return nil
	}
	open := p.db.Stats().MaxOpenConnections
	if leaders, ok := p.share.lead(open); !ok {
		return fault.Because(fault.ErrUnsupported, fmt.Sprintf("the db allows %d connections (SetMaxOpenConns), too few for %d Leads: each Lead needs one, "+
			"other locks one, and the code under them one; allow at least %d", open, leaders+1, leaders+3), nil)
	}
	return nil
}

// Resign undoes Lead.
func (p *Pool) Resign() {
	if p.lent == nil {
		p.share.resign()
	}
}

// Cap is how many sessions may be used by locks whose code needs a connection
// of its own; 0 if no session can be opened.
func (p *Pool) Cap() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	limits, _ := p.limitsLocked()
	return limits.shared
}

// Numbers says how many sessions there are and may be, and which limit to
// raise, for an error.
func (p *Pool) Numbers() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lent != nil {
		user := "a statement of another call" // perhaps the wait of a call that has given up
		if p.lent.exclusive() {
			user = "a transaction or a term"
		}
		return "the connection given to New has one session, and " + user + " is using it; use Open for more"
	}
	limits, _ := p.limitsLocked()
	all := p.countLocked(func(s *Session) bool { return s.status != closing })
	own := p.countLocked(func(s *Session) bool { return s.status != closing && s.exclusive() })
	text := fmt.Sprintf("%d sessions, %d of them for transactions and terms; at most %d for other locks", all, own, limits.shared)
	if stats := p.db.Stats(); stats.MaxOpenConnections > 0 {
		taken, _ := p.share.state()
		text += fmt.Sprintf("; %d of the db's %d connections in use, %d by Lockers, which leave one free", stats.InUse, stats.MaxOpenConnections, taken)
	}
	return text + "; " + p.remedyLocked(limits)
}

// remedyLocked says which limit to raise, so that a caller that waits for a
// session has one.
func (p *Pool) remedyLocked(limits limits) string {
	const raiseDB, raiseCap = "raise SetMaxOpenConns", "raise WithMaxSessions"
	taken, leaders := p.share.state()
	switch {
	case time.Since(p.full) < 2*fullTime:
		return "the server has just refused a connection; raise its max_connections or the limits of its user"
	case limits.all == 0:
		return raiseCap
	case taken >= limits.all, p.exhausted(), limits.shared >= limits.all-leaders:
		return raiseDB
	}
	return raiseCap
}

const singleConnection = "the db allows a single connection (SetMaxOpenConns(1)), so code under a lock could never query it: " +
	"allow more, give the Locker a db of its own, or use namedlock.New with a *sql.Conn"
