package session

// A transaction needs a session of its own: no other call chain holds a lock on it, none has
// a turn on it, and so none waits for a statement of the transaction, or is in its way.

// ownedLocked reports whether s is one call chain's own. The pool's mu must be held.
func (s *Session) ownedLocked() bool { return s.reserved || s.owned > 0 }

// chooseOwnLocked is choose for a request of a session of its chain's own: the one that the
// chain has, if nobody else has a lock there, or one without locks.
func (p *Pool) chooseOwnLocked(req Request, as priority) (choice, error) {
	freeSoon := p.parting > 0
	for _, s := range p.sessions {
		if p.ownableLocked(s, req) && s.state == idle {
			s.moveLocked(busy)
			s.reserved = true
			return choice{next: useSession, session: s}, nil
		}
		freeSoon = freeSoon || s.state != waiting && p.ownableLocked(s, req)
	}
	k := &waiter{own: &req, priority: as, turn: make(chan struct{})}
	if p.ownedSessionsLocked() >= p.source.ownLocked() {
		k.exhausted = true
	} else {
		// Not at the cost of a wait of others: so none that there is counts as lost.
		g, err := p.source.growLocked(nil, freeSoon || len(p.sessions) > 0)
		switch {
		case err != nil:
			return choice{}, err
		case g == growByOne:
			p.opening++
			p.openingOwned++
			return choice{next: openSession}, nil
		}
		k.exhausted = !freeSoon && p.opening == 0
	}
	p.waiters = append(p.waiters, k)
	return choice{next: waitForTurn, waiter: k}, nil
}

// ownableLocked reports whether s may become the own session of the chain of req.
func (p *Pool) ownableLocked(s *Session, req Request) bool {
	if s.state == dead || s.ownedLocked() || p.ownedSessionsLocked() >= p.source.ownLocked() {
		return false
	}
	return len(s.holds) == 0 || s == req.Home && len(s.holds) == req.Mine
}

// ownedSessionsLocked is how many sessions are one call chain's own, those to come included.
func (p *Pool) ownedSessionsLocked() int {
	n := p.openingOwned
	for _, s := range p.sessions {
		if s.ownedLocked() {
			n++
		}
	}
	return n
}

// mayHaveLocked reports whether the turn on s, which has just ended, may go to k.
func (p *Pool) mayHaveLocked(s *Session, k *waiter) bool {
	switch {
	case k.want != nil:
		return k.want == s
	case k.own != nil:
		return p.ownableLocked(s, *k.own)
	}
	return !s.ownedLocked()
}
