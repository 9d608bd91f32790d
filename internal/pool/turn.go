package pool

import "slices"

// A waiter waits for a turn on a session.
type waiter struct {
	want      *Session // nil: on any
	own       *Request // it must be its call chain's own; nil: it need not
	priority  priority
	nested    bool          // its chain has a lock already
	turn      chan struct{} // closed when got is set, or when it is time to choose again
	got       *Session
	exhausted bool // no session will be free before a connection of the db is
}

// A priority says which waiter has the next turn on a session: see nextLocked.
type priority int

const (
	urgent priority = iota // a release, a proof: it must have this very session
	first                  // a first question: most locks are free
	poll                   // one question of many
)

// mostPassed is how many first questions may go ahead of a poll: they are
// answered sooner, and no poll starves.
const mostPassed = 8

func forAny(k *waiter) bool { return k.want == nil }

// waitsLocked reports whether such a waiter waits. p.mu must be held.
func (p *Pool) waitsLocked(such func(*waiter) bool) bool {
	return slices.ContainsFunc(p.waiters, such)
}

// isUrgentLocked reports whether a caller must have a turn on this very
// session. p.mu must be held.
func (p *Pool) isUrgentLocked(s *Session) bool {
	return p.waitsLocked(func(k *waiter) bool { return k.want == s && k.priority == urgent })
}

// isWantedLocked reports whether a caller waits for a turn on this very
// session. p.mu must be held.
func (p *Pool) isWantedLocked(s *Session) bool {
	return p.waitsLocked(func(k *waiter) bool { return k.want == s })
}

// TakeUrgent waits for a turn on s, ahead of all callers that do not need this
// very session. It returns an error if the session has gone. It waits no longer
// than the statement that runs there may be silent.
func (p *Pool) TakeUrgent(s *Session) error {
	p.mu.Lock()
	switch s.status {
	case closing:
		defer p.mu.Unlock()
		return s.deathCause
	case idle:
		s.status = busy
		p.mu.Unlock()
		return nil
	}
	k := p.queueUrgentLocked(s)
	p.mu.Unlock()
	return p.awaitUrgent(k)
}

func (p *Pool) queueUrgentLocked(s *Session) *waiter {
	k := &waiter{want: s, priority: urgent, turn: make(chan struct{})}
	p.waiters = append(p.waiters, k)
	return k
}

func (p *Pool) awaitUrgent(k *waiter) error {
	<-k.turn
	if k.got != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return k.want.deathCause
}

// Yield lets all callers go first that must have this very session. The caller
// has the turn before and, if Yield returns nil, after.
func (p *Pool) Yield(s *Session) error {
	p.mu.Lock()
	if !p.isUrgentLocked(s) || s.Broken() {
		p.mu.Unlock()
		return nil
	}
	k := p.queueUrgentLocked(s)
	if s.claim == forTurn { // as it is to be when the turn comes back
		k.own = &Request{Lead: s.leads}
	}
	p.passLocked(s)
	p.mu.Unlock()
	return p.awaitUrgent(k)
}

// Put ends the caller's turn on s. If the session is broken it is discarded
// before Put returns, and every lock on it is lost.
func (p *Pool) Put(s *Session) {
	if s.Broken() {
		p.condemn(s, s.BrokenBy())
		return
	}
	p.mu.Lock()
	p.passLocked(s)
	p.mu.Unlock()
}

// passLocked hands the turn on s to the waiter that comes next, or leaves s
// idle.
func (p *Pool) passLocked(s *Session) {
	if s.status == closing {
		return
	}
	if s.claim == forTurn {
		s.claim = shared
	}
	s.leads = s.leads && s.exclusive()
	if p.partIfWantedLocked(s) {
		return
	}
	if i := p.nextLocked(s); i >= 0 {
		k := p.waiters[i]
		p.waiters = slices.Delete(p.waiters, i, i+1)
		s.status = busy
		if k.own != nil {
			s.claimLocked(k.own)
		}
		k.wake(s)
		return
	}
	s.status = idle
	if len(s.holds) == 0 && !s.Lent() {
		p.restsLocked(s)
	}
}

// nextLocked returns the index of the waiter that has the next turn on s: the
// first of those with the highest priority. -1: none.
func (p *Pool) nextLocked(s *Session) int {
	of := [...]int{urgent: -1, first: -1, poll: -1}
	drains := false // a waiter that came earlier waits until this session is empty
	for i, k := range p.waiters {
		drains = drains || k.own != nil && k.want == nil && p.drainsLocked() == s
		if drains && len(s.holds) > 0 && k.own == nil && k.want == nil && !k.nested {
			continue
		}
		if p.mayHaveLocked(s, k) && of[k.priority] < 0 {
			of[k.priority] = i
			if k.priority == urgent {
				break
			}
		}
	}
	switch {
	case of[urgent] >= 0:
		return of[urgent]
	case of[poll] < 0:
		return of[first]
	case of[first] >= 0 && p.passed < mostPassed:
		p.passed++
		return of[first]
	}
	p.passed = 0
	return of[poll]
}

// mayHaveLocked reports whether the turn on s, which has just ended, may go to
// k.
func (p *Pool) mayHaveLocked(s *Session, k *waiter) bool {
	switch {
	case k.want != nil:
		return k.want == s
	case k.own != nil:
		return s.ownable(*k.own)
	}
	return !s.exclusive() && p.mayShareLocked(s)
}

// withdraw is for a waiter whose caller does not wait any more.
func (p *Pool) withdraw(k *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.got != nil {
		p.passLocked(k.got) // the turn came at the same moment
		return
	}
	p.waiters = slices.DeleteFunc(p.waiters, func(other *waiter) bool { return other == k })
}

func (k *waiter) wake(s *Session) {
	k.got = s
	close(k.turn)
}

// wakeWaitersLocked makes such waiters choose again. p.mu must be held.
func (p *Pool) wakeWaitersLocked(such func(*waiter) bool) {
	p.waiters = slices.DeleteFunc(p.waiters, func(k *waiter) bool {
		if !such(k) {
			return false
		}
		k.wake(nil)
		return true
	})
}
