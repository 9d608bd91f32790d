package pool

import "github.com/go-namedlock/namedlock/internal/clock"

// Hold records that a lock is now on s, on which the caller has the turn: the watch
// takes care of it, and it is told if s goes. It returns false if s has gone
// already.
func (p *Pool) Hold(s *Session, h Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.state == dead {
		return false
	}
	if s.holds == nil {
		s.holds = make(map[Hold]struct{})
	}
	s.holds[h] = struct{}{}
	s.locked = true
	if h.OwnSession() {
		s.owned = true
	}
	p.wakeIfNoneIsFreeSoonLocked()
	if len(s.holds) == 1 {
		now := clock.Now()
		s.proved = now
		s.due = now + s.Interval() // the clock starts at the grant
		if now-s.SentAt() > s.Interval() {
			s.due = now // which came after a long wait, or a stop: is it still so?
		}
	}
	s.setIdleLimitLocked()
	p.startWatchLocked()
	if p.resting && p.needsProbeLocked(s) {
		p.resting = false
		p.Hangups.Wake()
	}
	return true
}

// Replace records that the one lock on s, on which the caller has the turn, has passed
// from one holder to the next, and ends the turn. It returns false, and the turn goes
// on, if s has gone or holds another lock.
func (p *Pool) Replace(s *Session, from, to Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.state == dead || len(s.holds) != 1 {
		return false
	}
	delete(s.holds, from)
	s.holds[to] = struct{}{}
	p.passLocked(s)
	return true
}

// setIdleLimitLocked lets the watch see the limit that the greeting has found.
func (s *Session) setIdleLimitLocked() { s.idleLimit = s.IdleLimit() }

// Reschedule takes into account that the session's interval may have become shorter, as by
// the limits for a transaction. The caller has the turn.
func (p *Pool) Reschedule(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.setIdleLimitLocked()
	s.due = min(s.due, clock.Now()+s.Interval())
}

// Drop records that a lock has been released from s, and ends the caller's turn as
// Put does.
func (p *Pool) Drop(s *Session, h Hold) {
	p.mu.Lock()
	delete(s.holds, h)
	if len(s.holds) == 0 {
		s.owned = false
	}
	if !s.Broken() {
		s.locked = len(s.holds) > 0
		p.passLocked(s)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.markDead(s, s.BrokenBy())
}
