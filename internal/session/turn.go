package session

import (
	"errors"
	"slices"
	"time"
)

// Own waits for a turn on s, ahead of all who do not need this very session. It
// returns an error if the session has gone. It waits no longer than the statement
// that runs there may be silent.
func (p *Pool) Own(s *Session) error {
	p.mu.Lock()
	if s.dead != nil {
		defer p.mu.Unlock()
		return s.dead
	}
	if !s.busy {
		s.busy = true
		p.mu.Unlock()
		return nil
	}
	turn := make(chan bool, 1)
	s.urgent = append(s.urgent, turn)
	p.mu.Unlock()
	return p.awaitTurn(s, turn)
}

func (p *Pool) awaitTurn(s *Session, turn <-chan bool) error {
	if <-turn {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.dead
}

// Yield lets everybody go first who must have this very session. The caller has
// the turn before and, if it returns nil, after.
func (p *Pool) Yield(s *Session) error {
	p.mu.Lock()
	if len(s.urgent) == 0 || s.doubt != nil {
		p.mu.Unlock()
		return nil
	}
	turn := make(chan bool, 1)
	s.urgent = append(s.urgent, turn)
	p.pass(s)
	p.mu.Unlock()
	return p.awaitTurn(s, turn)
}

// Put ends the caller's turn on s. A session in doubt is a dead session: it is
// discarded before Put returns, and every lock on it is lost.
func (p *Pool) Put(s *Session) {
	if s.doubt != nil {
		p.bury(s, s.doubt)
		return
	}
	p.mu.Lock()
	p.pass(s)
	p.mu.Unlock()
}

// pass hands the turn on s to who comes next, or leaves s idle.
func (p *Pool) pass(s *Session) {
	if s.dead != nil {
		return
	}
	if len(s.urgent) > 0 {
		turn := s.urgent[0]
		s.urgent = s.urgent[1:]
		turn <- true
		return
	}
	if i := p.next(s); i >= 0 {
		k := p.seekers[i]
		p.seekers = slices.Delete(p.seekers, i, i+1)
		k.wake(s)
		return
	}
	s.busy = false
	if len(s.holds) == 0 && p.single == nil {
		s.idleSince = time.Now()
		p.armJanitor(idleTime)
	}
}

// mostPassed is how many first questions may go ahead of a poll: they are answered sooner,
// and yet no poll starves.
const mostPassed = 8

// next returns the index of who has the next turn on s, -1 for nobody.
func (p *Pool) next(s *Session) int {
	poll, first := -1, -1
	for i, k := range p.seekers {
		switch {
		case k.want != nil && k.want != s:
		case !k.poll:
			first = i
		case poll < 0:
			poll = i
		}
		if first >= 0 {
			break
		}
	}
	switch {
	case poll < 0:
		return first
	case first >= 0 && p.passed < mostPassed:
		p.passed++
		return first
	}
	p.passed = 0
	return poll
}

// bury takes s out of the pool, tells everybody who counted on it, and discards
// its connection.
func (p *Pool) bury(s *Session, cause error) {
	p.mu.Lock()
	if s.dead != nil {
		p.mu.Unlock()
		return
	}
	s.dead = cause
	if s.waiting {
		s.waiting = false
		p.waiting--
	}
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	lost, urgent, locked := s.holds, s.urgent, s.locked
	s.holds, s.urgent = nil, nil
	p.parting++
	p.mu.Unlock()
	defer p.parted()

	// Those who hold are told first: a call under a lost lock that waits for a turn had
	// better end for that reason.
	for hold := range lost {
		hold.Lost(cause)
	}
	for _, turn := range urgent {
		turn <- false
	}
	p.mu.Lock()
	p.wakeSeekers(func(k *seeker) bool { return k.want == s || k.want == nil })
	p.mu.Unlock()
	p.discard(s, locked)
	p.Observer.SessionDiscarded(cause)
	switch {
	case len(lost) > 0:
		p.Logger.Error("namedlock: session lost with its locks", "locks", len(lost), "names", someNames(lost), "cause", cause)
	case s.killed.Load():
		// On purpose: nobody wanted what it was waiting for any more.
		p.Logger.Debug("namedlock: connection discarded to end a wait", "cause", cause)
	default:
		p.Logger.Warn("namedlock: connection discarded", "cause", cause)
	}
}

// someNames returns the names of the holds, or the first of very many.
func someNames(holds map[Hold]struct{}) (names []string) {
	const most = 20
	for h := range holds {
		if len(names) == most {
			return append(names, "...")
		}
		names = append(names, h.Name())
	}
	return names
}

// discard closes the connection of s. It waits for that, but not for ever: a statement
// of the user's own on a connection given to New can hold it up.
func (p *Pool) discard(s *Session, locked bool) {
	done := make(chan struct{})
	p.work.Go(func() {
		defer close(done)
		if errors.Is(s.discard(), errConnClosed) && locked {
			s.cut()
		}
	})
	timer := time.NewTimer(p.ReleaseTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		if !s.cut() {
			p.Logger.Warn("namedlock: a broken connection is still in use and cannot be closed yet")
		}
	}
}

func anySession(k *seeker) bool { return k.want == nil }

// wakeSeekers lets those seekers look again.
func (p *Pool) wakeSeekers(which func(*seeker) bool) {
	p.seekers = slices.DeleteFunc(p.seekers, func(k *seeker) bool {
		if !which(k) {
			return false
		}
		k.wake(nil)
		return true
	})
}
