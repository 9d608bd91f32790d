package pool

import (
	"context"
	"errors"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A Request says for which caller a turn is taken.
type Request struct {
	Home   *Session // of the call chain: its own one, or where its first lock is; nil: it holds none
	Fresh  bool     // a session has just failed: give the idle ones back before
	Own    bool     // the session is to be the chain's own
	Lead   bool     // for as long as it lasts: see Pool.Lead
	Mine   int      // how many locks the chain holds on Home
	Poll   bool     // it is one of many questions: first questions go ahead of it
	Caller Caller
}

// A Caller waits for a turn.
type Caller interface {
	Context() context.Context // ends when the caller stops waiting
	Queued()                  // called before it waits for a session that another caller uses
	DBExhausted()             // called before it waits for a connection of the db, all of which are in use
}

// Take waits for a turn on the session that suits the chain best: its own, an
// empty one or a new one. Only beyond the cap it is one with locks of others.
//
// The caller must end the turn: see the package documentation.
func (p *Pool) Take(req Request) (*Session, error) {
	if req.Fresh {
		p.sweep(0)
	}
	var since time.Time // when the caller began to wait; zero: it has not
	for {
		s, k, err := p.choose(req, since)
		switch {
		case err != nil:
			return nil, err
		case k != nil:
			if k.want == nil {
				p.awaitRoom()
			}
			if s, err = p.await(k, req.Caller); err != nil {
				return nil, err
			}
			if s == nil {
				since = k.since
				continue // another session may suit now
			}
		case s.Conn == nil:
			err = p.open(s, req.Caller.Context(), req.Caller.DBExhausted)
			if server.IsFull(err) && p.sharesNow() {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		if err = s.Ready(); err == nil {
			return s, nil
		}
		if !p.putUnready(s, err) {
			return nil, err
		}
	}
}

// await waits for the turn as k. It returns nil when it is time to choose
// again.
func (p *Pool) await(k *waiter, caller Caller) (*Session, error) {
	if k.exhausted {
		caller.DBExhausted()
	} else {
		caller.Queued()
	}
	ctx := caller.Context()
	select {
	case <-k.turn:
		return k.got, nil
	case <-ctx.Done():
		p.withdraw(k)
		return nil, ctx.Err()
	}
}

// putUnready ends the turn on s, which err has shown not to be suitable for
// locks. It reports whether another session may be.
func (p *Pool) putUnready(s *Session, err error) (another bool) {
	another = !s.Lent() && (s.Broken() || errors.Is(err, fault.ErrReadOnly))
	if !s.Lent() && !server.Prohibits(err) {
		// Not for the next caller either: a new connection may lead to another
		// server.
		_ = s.MarkBroken(err)
	}
	p.Put(s)
	if another {
		p.sweep(0) // the idle sessions may be as dead
	}
	return another
}

// choose decides which session serves the request. The caller has the turn on
// s, which it has to open if s has no Conn, or waits for a turn as k. since
// is when the caller began to wait; zero: it has not.
func (p *Pool) choose(req Request, since time.Time) (s *Session, k *waiter, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var want *Session
	var limits limits
	exhausted, home := false, req.Home
	switch {
	case home != nil && !req.Own && home.status == idle:
		home.status = busy
		return home, nil, nil
	case home != nil && !req.Own && (home.status == busy || home.status == waiting && home.claim == untilEmpty):
		// A statement is over soon. A wait may last. But a chain that has a session
		// of its own has its locks nowhere else, and a wait there makes way: see
		// BeginWait.
		want = home
	default:
		if limits, err = p.limitsLocked(); err != nil {
			return nil, nil, err
		}
		if s, exhausted = p.chooseAnyLocked(req, limits); s != nil {
			return s, nil, nil
		}
	}
	if since.IsZero() {
		since = time.Now()
	}
	k = &waiter{want: want, req: req, since: since, priority: first, turn: make(chan struct{}), exhausted: exhausted, limits: limits}
	if req.Poll {
		k.priority = poll
	}
	p.joinLocked(k)
	return nil, k, nil
}

// A chance says when a session can serve a caller that accepts any.
type chance int

const (
	later chance = iota // when a lock, a wait or a transaction there has ended; or never
	soon                // when the statement there has ended, or when it is open, or closed
	now
)

// chooseAnyLocked chooses a session for a caller that accepts any. If the
// caller shares, that is one without locks, or a new one within the cap, and
// else the one with the fewest locks. Sharing a session is better than waiting
// for a connection. If its chain is to have the session alone, that is Home,
// another one without locks, or a new one. exhausted: none will become free
// before a connection of the db does.
func (p *Pool) chooseAnyLocked(req Request, limits limits) (best *Session, exhausted bool) {
	var drains *Session
	if len(p.waiters) > 0 {
		drains = p.drainsLocked(limits)
	}
	soonest := later
	for _, s := range p.sessions {
		chance := p.chanceLocked(s, req, limits, drains)
		soonest = max(soonest, chance)
		if chance == now && (best == nil || s == req.Home || !req.Own && len(s.holds) < len(best.holds)) {
			best = s
		}
	}
	suits := best != nil && (req.Own || len(best.holds) == 0)
	if !suits && p.lent == nil && !(soonest > later && p.exhausted()) {
		if opening := p.openRoomLocked(req, limits); opening != nil {
			best = opening
		}
	}
	switch {
	case best != nil:
		if best.status == idle {
			best.status = busy
		}
		if req.Own {
			best.claimLocked(req)
		}
	case soonest == later && !req.Own && p.endWaitsLocked(limits):
		soonest = soon
	}
	return best, soonest == later
}

// chanceLocked returns when s can serve a caller that accepts any session.
// drains is drainsLocked.
func (p *Pool) chanceLocked(s *Session, req Request, limits limits, drains *Session) chance {
	switch {
	case s.status == opening && s.blocked:
		return later
	case s.status == opening, s.status == closing:
		return soon
	case req.Own && !s.ownable(req):
		return later
	case !req.Own && s.exclusive():
		if s.Lent() && s.claim == forTurn {
			return soon
		}
		return later
	case s.status == idle && len(s.holds) == 0:
		if req.Own || p.mayShareLocked(s, limits) {
			return now
		}
		return later
	case !req.Own && s == drains:
		return later
	case s.status == idle:
		return now
	case s.status == waiting && !s.Lent(): // a lent session waits for a moment only
		return later
	}
	return soon
}

// ownable reports whether s may become the own session of the chain of req.
func (s *Session) ownable(req Request) bool {
	switch {
	case !s.live() || s.claim == forTurn:
		return false
	case s == req.Home:
		return len(s.holds) == req.Mine
	}
	return len(s.holds) == 0
}
