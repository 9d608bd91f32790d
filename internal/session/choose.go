package session

import (
	"context"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A Request says for whom a turn is taken.
type Request struct {
	Home   *Session // of the call chain: where its first lock is; nil if it holds none
	Fresh  bool     // a session has just failed: do not use one that nobody has spoken to for a while
	Poll   bool     // it is one of many questions: those who ask for the first time go first
	Caller Caller
}

// A Caller is who waits for a turn.
type Caller interface {
	Context() context.Context // ends when the caller gives up
	Queued()                  // told before waiting for a session that others use
	Crowded()                 // told before waiting for a connection of the db that others have
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
		p.mu.Lock()
		s, k, err := p.choose(req.Home, req.Poll)
		p.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case k != nil:
			if k.crowded {
				req.Caller.Crowded()
			} else {
				req.Caller.Queued()
			}
			ctx := req.Caller.Context()
			select {
			case <-k.turn:
				s = k.got
			case <-ctx.Done():
				p.giveUp(k)
				return nil, ctx.Err()
			}
		case s == nil:
			s, err := p.open(req.Caller.Context(), req.Caller.Crowded)
			if isFull(err) && p.shares() {
				continue
			}
			return s, err
		}
		if s == nil {
			continue
		}
		switch another, err := p.makeReady(s); {
		case err == nil:
			return s, nil
		case !another:
			return nil, err
		}
	}
}

// TakeIdle is Take for a caller who is in no chain and waits for nobody: it returns
// nil if there is no idle session without locks.
func (p *Pool) TakeIdle() (*Session, error) {
	s, err := p.chooseIdle()
	if s == nil {
		return nil, err
	}
	another, err := p.makeReady(s)
	switch {
	case err == nil:
		return s, nil
	case another:
		return nil, nil
	}
	return nil, err
}

func (p *Pool) chooseIdle() (*Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.unfit(); err != nil {
		return nil, err
	}
	s := p.idle()
	if s != nil {
		s.busy = true
	}
	return s, nil
}

// unfit returns an error if the db has been changed so that no session may be taken.
func (p *Pool) unfit() error {
	if p.single != nil {
		return nil
	}
	_, err := p.limit()
	return err
}

func (p *Pool) idle() *Session {
	for _, s := range p.sessions {
		if !s.busy && len(s.holds) == 0 {
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
	return p.idle() != nil && p.mayWait()
}

// Widen opens a session for those who queue for the lock on s, beside all that goes on,
// unless there is no room for one, or another is idle or about to be: one on which nobody
// waits is busy for a moment only. It reports whether it does.
func (p *Pool) Widen(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil || p.single != nil || p.opening > 0 || time.Since(p.widened) < time.Second || p.exhausted() {
		return false
	}
	if limit, err := p.limit(); err != nil || p.count() >= limit {
		return false
	}
	if slices.ContainsFunc(p.sessions, func(other *Session) bool {
		return other != s && !other.waiting && (other.busy || len(other.holds) == 0)
	}) {
		return false
	}
	p.opening++
	p.widened = time.Now() // a server that refuses is not asked all the time
	p.work.Go(func() {
		if s, err := p.open(p.closing, func() {}); err == nil {
			p.Put(s)
		}
	})
	return true
}

// makeReady sees to it that s, on which the caller has the turn, is fit for locks. If
// it is not the turn is over, and another session may be fitter, or not.
func (p *Pool) makeReady(s *Session) (another bool, err error) {
	err = p.ready(s)
	if err == nil {
		return false, nil
	}
	another = s.Broken() && s != p.single
	if s != p.single && !prohibits(err) {
		// Not for the next caller either: a new connection may lead to another server.
		_ = s.distrust(err)
	}
	p.Put(s)
	if another {
		p.sweep(0) // those who lay idle beside it may be as dead
	}
	return another, err
}

// choose returns a session whose turn is now the caller's, or a seeker to wait
// as, or neither: then the caller is to open a session, which is counted already.
func (p *Pool) choose(home *Session, poll bool) (*Session, *seeker, error) {
	if err := p.gone(); err != nil {
		return nil, nil, err
	}
	if home != nil && home.dead == nil {
		if !home.busy {
			home.busy = true
			return home, nil, nil
		}
		// A statement is over soon; a wait may last.
		if !home.waiting {
			return nil, p.seek(home, poll), nil
		}
	}
	var least *Session // of those that are free, the one with the fewest locks
	freeSoon := p.parting > 0
	for _, s := range p.sessions {
		freeSoon = freeSoon || !s.waiting
		if !s.busy && (least == nil || len(s.holds) < len(least.holds)) {
			least = s
		}
	}
	if p.single == nil {
		limit, err := p.limit()
		if err != nil {
			return nil, nil, err
		}
		// Sharing a session beats waiting for a connection.
		if (least == nil || len(least.holds) > 0) && p.count() < limit && !(freeSoon && p.exhausted()) {
			p.opening++
			return nil, nil, nil
		}
		if least == nil && !freeSoon && p.opening == 0 {
			freeSoon = p.endWaits(p.count() - limit + 1)
		}
	}
	if least != nil {
		least.busy = true
		return least, nil, nil
	}
	k := p.seek(nil, poll)
	k.crowded = p.single == nil && !freeSoon && p.opening == p.stuck
	return nil, k, nil
}

// count is how many connections the pool has, or is about to have, or has not quite let
// go of. p.mu must be held.
func (p *Pool) count() int { return len(p.sessions) + p.opening + p.parting }

// endWaits ends n waits that have a session without locks for themselves, and reports
// whether there were any. All sessions wait, and the cap, which has been lowered since they
// began, lets none be opened: somebody who asks for a free name would have to wait for the
// end of a slice. Who waited goes on by polling. p.mu must be held.
func (p *Pool) endWaits(n int) (any bool) {
	for _, s := range p.sessions {
		if n > 0 && s.waiting && len(s.holds) == 0 {
			s.Kill()
			n, any = n-1, true
			p.full = time.Time{} // that gives the server a connection back
		}
	}
	return any
}

// Gone returns an error if there will never be a session again.
func (p *Pool) Gone() error {
	if p.single == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone()
}

func (p *Pool) gone() error {
	if p.single == nil || p.single.dead == nil {
		return nil
	}
	return fault.Because(fault.ErrUnavailable, "the connection that was given to New is gone", p.single.dead)
}

func (p *Pool) seek(want *Session, poll bool) *seeker {
	k := &seeker{want: want, poll: poll, turn: make(chan struct{})}
	p.seekers = append(p.seekers, k)
	return k
}

func (p *Pool) giveUp(k *seeker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.got != nil {
		p.pass(k.got) // the turn came at the same moment: hand it on
		return
	}
	p.seekers = slices.DeleteFunc(p.seekers, func(other *seeker) bool { return other == k })
}

func (k *seeker) wake(s *Session) {
	k.got = s
	close(k.turn)
}
