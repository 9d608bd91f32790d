package pool

import (
	"context"
	"errors"
	"slices"

	"github.com/go-namedlock/namedlock/internal/server"
)

// A Request says for whom a turn is taken.
type Request struct {
	Home   *Session // of the call chain: where its first lock is; nil if it holds none
	Fresh  bool     // a session has just failed: do not use one that nobody has spoken to for a while
	Own    bool     // the session is to be the chain's own
	Lead   bool     // for as long as it lasts: see Pool.Lead
	Mine   int      // how many locks the chain holds on Home
	Poll   bool     // it is one of many questions: those who ask for the first time go first
	Caller Caller
}

// A Caller is who waits for a turn.
type Caller interface {
	Context() context.Context // ends when the caller gives up
	Queued()                  // told before waiting for a session that others use
	PoolExhausted()           // told before waiting for a connection of the db that others have
}

// Take waits for a turn on the session that suits the chain best: its own, an
// empty one, a new one, and only beyond the cap one that holds others' locks.
//
// The turn must be given back by Put.
func (p *Pool) Take(req Request) (*Session, error) {
	if req.Fresh {
		p.sweep(0)
	}
	for {
		c, err := p.choose(req)
		if err != nil {
			return nil, err
		}
		s := c.session
		switch c.next {
		case waitForTurn:
			if c.waiter.want == nil {
				p.source.awaitRoom()
			}
			if s, err = p.await(c.waiter, req.Caller); err != nil {
				return nil, err
			}
			if s == nil {
				continue // there may be another way now
			}
		case openSession:
			s, err := p.source.open(req)
			if errors.Is(err, errShare) {
				continue
			}
			return s, err
		}
		switch fitness, err := p.makeReady(s); fitness {
		case fit:
			return s, nil
		case unfit:
			return nil, err
		}
	}
}

// await waits for the turn as k. It returns nil when it is time to look again.
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
		p.giveUp(k)
		return nil, ctx.Err()
	}
}

// TakeIdle is Take for a caller who is in no chain and waits for nobody: it returns
// nil if there is no idle session without locks.
func (p *Pool) TakeIdle() (*Session, error) {
	s, err := p.chooseIdle()
	if s == nil {
		return nil, err
	}
	switch fitness, err := p.makeReady(s); fitness {
	case fit:
		return s, nil
	case unfit:
		return nil, err
	}
	return nil, nil
}

func (p *Pool) chooseIdle() (*Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.source.refusalLocked(); err != nil {
		return nil, err
	}
	s := p.idleLocked()
	if s != nil {
		s.moveLocked(busy)
	}
	return s, nil
}

func (p *Pool) idleLocked() *Session {
	for _, s := range p.sessions {
		if s.state == idle && len(s.holds) == 0 && !s.ownLocked() {
			return s
		}
	}
	return nil
}

// IdleToWait reports whether there is an idle session without locks that may wait for
// one.
func (p *Pool) IdleToWait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idleLocked() != nil && p.source.waitLocked(nil, 0) > 0
}

// OpenAnother opens a session for those who queue for the lock on s, beside all that goes on,
// unless there is no room for one, or another is idle or about to be. It reports whether it
// does.
func (p *Pool) OpenAnother(s *Session) bool { return p.source.openAnother(s) }

// A fitness says whether a session may be used for locks.
type fitness int

const (
	fit        fitness = iota
	tryAnother         // this one is broken, another may be fit
	unfit              // and so is every other
)

// makeReady checks that s, on which the caller has the turn, is fit for locks. If it is
// not the turn is over, and the error says why.
func (p *Pool) makeReady(s *Session) (fitness, error) {
	err := s.Ready()
	if err == nil {
		return fit, nil
	}
	another := !s.Lent() && (s.Broken() || s.ReadOnly())
	if !s.Lent() && !server.Prohibits(err) {
		// Not for the next caller either: a new connection may lead to another server.
		_ = s.MarkBroken(err)
	}
	p.Put(s)
	if another {
		p.sweep(0) // those who lay idle beside it may be as dead
		return tryAnother, err
	}
	return unfit, err
}

// A choice is what a caller who wants a turn does next.
type choice struct {
	next    step
	session *Session // useSession: the caller has the turn on it
	waiter  *waiter  // waitForTurn: as that
}

type step int

const (
	useSession step = iota
	waitForTurn
	openSession // which is counted already
)

// choose decides by which of the sessions the request is served, and how.
func (p *Pool) choose(req Request) (choice, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asking := first
	if req.Poll {
		asking = poll
	}
	if err := p.source.goneLocked(); err != nil {
		return choice{}, err
	}
	if req.Own {
		return p.chooseOwnLocked(req, asking)
	}
	if home := req.Home; home != nil {
		switch {
		case home.state == idle:
			home.moveLocked(busy)
			return choice{next: useSession, session: home}, nil
		case home.state == busy, home.state == waiting && home.owned:
			// A statement is over soon. A wait may last; but locks of a chain
			// that has a session of its own are nowhere else, and a wait there
			// makes way: see Wait.
			return choice{next: waitForTurn, waiter: p.queueUpLocked(home, asking)}, nil
		}
	}
	all := p.surveyLocked()
	g, err := p.source.growLocked(all)
	s := all.least
	switch {
	case err != nil:
		return choice{}, err
	case g == growByOne:
		return choice{next: openSession}, nil
	case g == growUseEmpty:
		s = all.empty
		fallthrough
	case g == growShare:
		s.moveLocked(busy)
		return choice{next: useSession, session: s}, nil
	}
	k := p.queueUpLocked(nil, asking)
	k.exhausted, k.nested = g == growBlocked, req.Home != nil
	return choice{next: waitForTurn, waiter: k}, nil
}

// A survey is what there is for a caller who may share a session.
type survey struct {
	empty    *Session // idle, without locks; nil: none
	least    *Session // of the idle ones with locks, the one with the fewest; nil: none
	freeSoon bool     // another is about to be idle
}

func (p *Pool) surveyLocked() survey {
	all := survey{freeSoon: p.parting > 0}
	drains := p.source.drainsLocked()
	for _, s := range p.sessions {
		if s.ownLocked() || s == drains {
			continue
		}
		all.freeSoon = all.freeSoon || s.state != waiting && !(s.state == idle && len(s.holds) == 0)
		switch {
		case s.state != idle:
		case len(s.holds) == 0:
			all.empty = s
		case all.least == nil || len(s.holds) < len(all.least.holds):
			all.least = s
		}
	}
	return all
}

// Gone returns an error if there will never be a session again.
func (p *Pool) Gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.source.goneLocked()
}

// queueUpLocked returns a new waiter for a turn on want, nil: on any. p.mu must be held.
func (p *Pool) queueUpLocked(want *Session, as priority) *waiter {
	k := &waiter{want: want, priority: as, turn: make(chan struct{})}
	p.waiters = append(p.waiters, k)
	return k
}

func (p *Pool) giveUp(k *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.got != nil {
		p.passLocked(k.got) // the turn came at the same moment: hand it on
		return
	}
	p.waiters = slices.DeleteFunc(p.waiters, func(other *waiter) bool { return other == k })
}

func (k *waiter) wake(s *Session) {
	k.got = s
	close(k.turn)
}
