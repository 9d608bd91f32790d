package pool

import (
	"context"
	"slices"

	"github.com/go-namedlock/namedlock/internal/server"
)

// A Request says for which caller a turn is taken.
type Request struct {
	Home   *Session // of the call chain: where its first lock is; nil: it holds none
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
	PoolExhausted()           // called before it waits for a connection of the db, all of which are in use
}

// Take waits for a turn on the session that suits the chain best: its own, an
// empty one or a new one. Only beyond the cap it is one with locks of others.
//
// The caller must end the turn: see the package documentation.
func (p *Pool) Take(req Request) (*Session, error) {
	if req.Fresh {
		p.sweep(0)
	}
	for {
		s, k, err := p.choose(req)
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
				continue // another session may suit now
			}
		case s.Conn == nil:
			err := p.open(s, req.Caller.Context(), req.Caller.PoolExhausted)
			if server.IsFull(err) && p.sharesNow() {
				continue
			}
			if err != nil {
				return nil, err
			}
			return s, nil
		}
		if another, err := p.makeReady(s); !another {
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	}
}

// await waits for the turn as k. It returns nil when it is time to choose
// again.
func (p *Pool) await(k *waiter, caller Caller) (*Session, error) {
	if k.exhausted {
		caller.PoolExhausted()
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

// makeReady checks that s, on which the caller has the turn, is suitable for
// locks. On an error the turn is over. another reports whether another session
// may be suitable.
func (p *Pool) makeReady(s *Session) (another bool, err error) {
	if err = s.Ready(); err == nil {
		return false, nil
	}
	another = !s.Lent() && (s.Broken() || s.ReadOnly())
	if !s.Lent() && !server.Prohibits(err) {
		// Not for the next caller either: a new connection may lead to another
		// server.
		_ = s.MarkBroken(err)
	}
	p.Put(s)
	if another {
		p.sweep(0) // the idle sessions may be as dead
	}
	return another, err
}

// choose decides which session serves the request. The caller has the turn on
// s, which it has to open if s has no Conn, or waits for a turn as k.
func (p *Pool) choose(req Request) (s *Session, k *waiter, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.goneLocked(); err != nil {
		return nil, nil, err
	}
	k = &waiter{priority: first, nested: req.Home != nil, turn: make(chan struct{})}
	if req.Poll {
		k.priority = poll
	}
	home := req.Home
	switch {
	case req.Own:
		k.own = &req
		s, k.exhausted, err = p.chooseOwnLocked(req)
	case home != nil && home.status == idle:
		home.status = busy
		s = home
	case home != nil && (home.status == busy || home.status == waiting && home.claim == untilEmpty):
		// A statement is over soon. A wait may last. But a chain that has a session
		// of its own has its locks nowhere else, and a wait there makes way: see
		// BeginWait.
		k.want = home
	default:
		s, k.exhausted, err = p.chooseSharedLocked()
	}
	if s != nil || err != nil {
		return s, nil, err
	}
	p.waiters = append(p.waiters, k)
	return nil, k, nil
}

// chooseOwnLocked chooses a session for a caller that wants it for its chain
// alone: Home if all locks there are the chain's, one without locks, or a new
// one. exhausted: none will become free before a connection of the db does.
//
// If the chain's lock is on a session with locks of others, all those chains
// may want the same. So one of them may have the last connection of the db: its
// code needs no other.
func (p *Pool) chooseOwnLocked(req Request) (s *Session, exhausted bool, err error) {
	freeSoon, opens, anyOwn := false, false, false
	for _, s := range p.sessions {
		opens = opens || s.status == opening
		anyOwn = anyOwn || s.status != closing && s.exclusive()
		switch {
		case s.status == closing:
			freeSoon = true
		case !s.ownable(req):
		case s.status != idle:
			freeSoon = freeSoon || s.status == busy
		case s == req.Home, req.Home == nil || !req.Home.ownable(req) || req.Home.status != idle:
			s.status = busy
			s.claimLocked(&req)
			return s, false, nil
		}
	}
	limits, err := p.limitsLocked()
	if err != nil {
		return nil, false, err
	}
	if limits.all > 0 && req.Home != nil && !anyOwn {
		limits.all++
	}
	if p.lent == nil && !(freeSoon && p.exhausted()) {
		if s := p.takeRoomLocked(limits.all, true); s != nil {
			s.claimLocked(&req)
			return s, false, nil
		}
	}
	return nil, !freeSoon && !opens, nil
}

// ownable reports whether s may become the own session of the chain of req.
func (s *Session) ownable(req Request) bool {
	switch {
	case !s.live() || s.claim == forTurn:
		return false
	case s == req.Home:
		return len(s.holds) == req.Mine
	}
	return len(s.holds) == 0 && !s.exclusive()
}

// chooseSharedLocked chooses a session for a caller that may share it: one
// without locks or a new one within the cap, and else the one with the fewest
// locks. Sharing a session is better than waiting for a connection. exhausted:
// none will become free before a connection of the db does.
func (p *Pool) chooseSharedLocked() (s *Session, exhausted bool, err error) {
	limits, err := p.limitsLocked()
	if err != nil {
		return nil, false, err
	}
	var empty, least *Session
	freeSoon, opens := false, false // opens: one is being opened that does not wait for a connection
	drains := p.drainsLocked()
	for _, s := range p.sessions {
		switch {
		case s.status == opening:
			opens = opens || !s.blocked
		case s.status == closing:
			freeSoon = true
		case s.exclusive() || s == drains:
			freeSoon = freeSoon || s.Lent() && s.claim == forTurn
		case s.status != idle:
			freeSoon = freeSoon || s.status == busy || s.Lent() // which waits for a moment only
		case len(s.holds) == 0:
			empty = s
		default:
			freeSoon = true
			if least == nil || len(s.holds) < len(least.holds) {
				least = s
			}
		}
	}
	inUse := p.sharedLocked(nil)
	if inUse < limits.shared {
		if s = empty; s == nil && p.lent == nil && !(freeSoon && p.exhausted()) {
			s = p.takeRoomLocked(limits.all, true)
		}
	}
	if s == nil {
		s = least
	}
	if s != nil {
		if s.status == idle {
			s.status = busy
		}
		return s, false, nil
	}
	if !freeSoon && !slices.ContainsFunc(p.sessions, func(s *Session) bool { return s.status == opening }) {
		freeSoon = p.endWaitsLocked(inUse - limits.shared + 1)
	}
	return nil, !freeSoon && !opens, nil
}
