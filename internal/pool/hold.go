package pool

import "github.com/go-namedlock/namedlock/internal/clock"

// Hold records that a lock is now on s, on which the caller has the turn: the
// watch takes care of it, and it is told if s goes. Hold returns false if s has
// gone already.
func (p *Pool) Hold(s *Session, h Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.status == closing {
		return false
	}
	if s.holds == nil {
		s.holds = make(map[Hold]struct{})
	}
	s.holds[h] = struct{}{}
	if h.OwnSession() {
		s.claim = untilEmpty
	}
	p.wakeIfNoneIsFreeSoonLocked()
	if len(s.holds) == 1 {
		now := clock.Now()
		s.proofSent = now
		s.due = now + s.Interval() // the interval starts at the grant
		if now-s.SentAt() > s.Interval() {
			s.due = now // the grant came after a long wait, or a stop: is it still valid?
		}
	}
	switch {
	case p.pace == noWatch:
		p.pace = ticking
		p.work.Go(p.watch)
	case p.pace == resting && p.needsProbeLocked(s):
		p.pace = ticking
		p.Hangups.Wake()
	}
	return true
}

// Replace records that the one lock on s, on which the caller has the turn, has
// passed from one holder to another, and ends the turn. It returns false, and
// the turn goes on, if s has gone or has another lock.
func (p *Pool) Replace(s *Session, from, to Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.status == closing || len(s.holds) != 1 {
		return false
	}
	delete(s.holds, from)
	s.holds[to] = struct{}{}
	p.passLocked(s)
	return true
}

// Reschedule takes into account that the session's interval may have become
// shorter, for example by the limits for a transaction. The caller has the
// turn.
func (p *Pool) Reschedule(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.due = min(s.due, clock.Now()+s.Interval())
}

// Drop records that a lock has been released from s, and ends the caller's turn
// as Put does.
func (p *Pool) Drop(s *Session, h Hold) {
	if s.Broken() {
		p.discard(s, s.BrokenBy(), h)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(s.holds, h)
	if len(s.holds) == 0 {
		s.claim = unclaimed
	}
	p.passLocked(s)
}
