package pool

import (
	"errors"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// TakeUrgent waits for a turn on s, ahead of all who do not need this very session. It
// returns an error if the session has gone. It waits no longer than the statement
// that runs there may be silent.
func (p *Pool) TakeUrgent(s *Session) error {
	p.mu.Lock()
	switch s.state {
	case dead:
		defer p.mu.Unlock()
		return s.deathCause
	case idle:
		s.moveLocked(busy)
		p.mu.Unlock()
		return nil
	}
	k := p.queueUpLocked(s, urgent)
	p.mu.Unlock()
	return p.awaitUrgent(k)
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

// Yield lets everybody go first who must have this very session. The caller has
// the turn before and, if it returns nil, after.
func (p *Pool) Yield(s *Session) error {
	p.mu.Lock()
	if !p.isUrgentLocked(s) || s.Broken() {
		p.mu.Unlock()
		return nil
	}
	k := p.queueUpLocked(s, urgent)
	if s.reserved { // as it is to be when the turn comes back
		k.own = &Request{Lead: s.leads}
	}
	p.passLocked(s)
	p.mu.Unlock()
	return p.awaitUrgent(k)
}

// isUrgentLocked reports whether somebody must have a turn on this very session. p.mu must be
// held.
func (p *Pool) isUrgentLocked(s *Session) bool {
	return slices.ContainsFunc(p.waiters, func(k *waiter) bool { return k.want == s && k.priority == urgent })
}

// isWantedLocked reports whether somebody waits for a turn on this very
// session. p.mu must be held.
func (p *Pool) isWantedLocked(s *Session) bool {
	return slices.ContainsFunc(p.waiters, func(k *waiter) bool { return k.want == s })
}

// Put ends the caller's turn on s. A broken session is a dead session: it is
// discarded before Put returns, and every lock on it is lost.
func (p *Pool) Put(s *Session) {
	if s.Broken() {
		p.markDead(s, s.BrokenBy())
		return
	}
	p.mu.Lock()
	p.passLocked(s)
	p.mu.Unlock()
}

// passLocked hands the turn on s to who comes next, or leaves s idle.
func (p *Pool) passLocked(s *Session) {
	if s.state == dead {
		return
	}
	s.reserved = false
	s.leads = s.leads && s.owned
	if p.partsLocked(s) {
		return
	}
	if i := p.nextLocked(s); i >= 0 {
		k := p.waiters[i]
		p.waiters = slices.Delete(p.waiters, i, i+1)
		if k.own != nil {
			s.reserved, s.leads = true, k.own.Lead
		}
		k.wake(s)
		return
	}
	s.moveLocked(idle)
	if len(s.holds) == 0 && !s.Lent() {
		s.idleSince = time.Now()
		p.armJanitorLocked(idleTime)
	}
}

// partsAgain is how often, at most, a pool parts with a session that it has a use for.
const partsAgain = 100 * time.Millisecond

// partsLocked gives s back where another pool of the db waits for a connection. A pool whose own
// callers keep all its sessions busy would never leave it one otherwise. p.mu must be held.
func (p *Pool) partsLocked(s *Session) bool {
	if len(s.holds) > 0 || s.Lent() || time.Since(p.partedAt) < partsAgain || !p.source.wanted() || p.isWantedLocked(s) {
		return false
	}
	p.partedAt = time.Now()
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	p.partLocked(s)
	return true
}

// mostPassed is how many first questions may go ahead of a poll: they are answered sooner,
// and yet no poll starves.
const mostPassed = 8

// nextLocked returns the index of who has the next turn on s, -1 for nobody: the first of those
// with the highest priority.
func (p *Pool) nextLocked(s *Session) int {
	of := [...]int{urgent: -1, first: -1, poll: -1}
	drains := false // somebody who came before waits for this session to be empty
	for i, k := range p.waiters {
		drains = drains || k.own != nil && k.want == nil && p.source.drainsLocked() == s
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

// markDead takes s out of the pool, tells everybody who counted on it, and discards
// its connection.
func (p *Pool) markDead(s *Session, cause error) {
	p.mu.Lock()
	d, first := p.condemnLocked(s, cause)
	p.mu.Unlock()
	if first {
		p.bury(d)
	}
}

// A death is what is left to do about a session that is dead.
type death struct {
	session *Session
	cause   error
	lost    map[Hold]struct{}
	locked  bool
}

// condemnLocked makes s dead: from now on nobody has a turn on it, and its connection
// never goes back to where it came from. It returns false if s was dead before;
// otherwise bury must follow. p.mu must be held.
func (p *Pool) condemnLocked(s *Session, cause error) (d death, first bool) {
	if s.state == dead {
		return death{}, false
	}
	s.dieLocked(cause)
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	d = death{s, cause, s.holds, s.locked}
	s.holds = nil
	p.parting++
	return d, true
}

// bury tells those who counted on a session of its death, and discards its connection.
func (p *Pool) bury(d death) {
	defer p.parted()
	s, cause, lost := d.session, d.cause, d.lost

	// Those who hold are told first: a call under a lost lock that waits for a turn had
	// better end for that reason.
	for hold := range lost {
		if !hold.Lost(cause) {
			delete(lost, hold)
		}
	}
	p.mu.Lock()
	p.wakeWaitersLocked(func(k *waiter) bool { return k.want == s || k.want == nil })
	p.mu.Unlock()
	p.discard(s, d.locked)
	p.Observer.SessionDiscarded(cause)
	switch {
	case len(lost) > 0:
		p.Logger.Error("namedlock: lost a session and the locks on it", "locks", len(lost), "names", someNames(lost), "error", cause)
	case errors.Is(cause, server.ErrCutOff):
		p.Logger.Debug("namedlock: connection closed: a context ended during a transaction", "error", cause)
	case s.killed.Load():
		// On purpose: nobody wanted what it was waiting for any more.
		p.Logger.Debug("namedlock: connection discarded to end a wait", "error", cause)
	default:
		p.Logger.Warn("namedlock: connection discarded", "error", cause)
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
	p.work.Go(func() {
		defer close(s.discarded)
		if errors.Is(s.Discard(), server.ErrReturned) && locked {
			s.Cut()
		}
	})
	timer := time.NewTimer(p.ReleaseTimeout)
	defer timer.Stop()
	select {
	case <-s.discarded:
	case <-timer.C:
		if !s.Cut() {
			p.Logger.Warn("namedlock: cannot close a broken connection yet: its rows or transaction are still open")
		}
	}
}

// AwaitEnd waits until the connection of s, which is dead, is closed, and its transaction has
// ended on our side; but not for ever, as discard.
func (p *Pool) AwaitEnd(s *Session) {
	timer := time.NewTimer(p.ReleaseTimeout)
	defer timer.Stop()
	select {
	case <-s.discarded:
	case <-timer.C:
	}
}

func forAny(k *waiter) bool { return k.want == nil }

// wakeWaitersLocked lets those waiters look again. p.mu must be held.
func (p *Pool) wakeWaitersLocked(which func(*waiter) bool) {
	p.waiters = slices.DeleteFunc(p.waiters, func(k *waiter) bool {
		if !which(k) {
			return false
		}
		k.wake(nil)
		return true
	})
}
