package pool

// A transaction needs a session of its own: no other call chain holds a lock on it, none has
// a turn on it, and so none waits for a statement of the transaction, or is in its way.

// ownLocked reports whether s is one call chain's own: that of who has the turn, or has
// had a lock there that asked for it since s was empty. The pool's mu must be held.
func (s *Session) ownLocked() bool { return s.reserved || s.owned }

// chooseOwnLocked is choose for a request of a session of its chain's own: the one that the
// chain has, if nobody else has a lock there, or one without locks.
func (p *Pool) chooseOwnLocked(req Request, as priority) (choice, error) {
	freeSoon := p.parting > 0
	candidates := p.sessions
	if req.Home != nil {
		candidates = append([]*Session{req.Home}, candidates...)
	}
	for _, s := range candidates {
		if !s.ownableLocked(req) {
			continue
		}
		if s.state == idle {
			s.moveLocked(busy)
			s.reserved, s.leads = true, req.Lead
			return choice{next: useSession, session: s}, nil
		}
		freeSoon = freeSoon || s.state != waiting
	}
	g, err := p.source.growOwnLocked(req, freeSoon)
	switch {
	case err != nil:
		return choice{}, err
	case g == growByOne:
		p.openingOwn++
		return choice{next: openSession}, nil
	}
	k := &waiter{own: &req, priority: as, turn: make(chan struct{}), exhausted: g == growBlocked}
	p.waiters = append(p.waiters, k)
	return choice{next: waitForTurn, waiter: k}, nil
}

// ownableLocked reports whether s may become the own session of the chain of req.
func (s *Session) ownableLocked(req Request) bool {
	switch {
	case s.state == dead || s.reserved:
		return false
	case s == req.Home:
		return len(s.holds) == req.Mine
	}
	return len(s.holds) == 0 && !s.owned
}

// mayHaveLocked reports whether the turn on s, which has just ended, may go to k.
func (p *Pool) mayHaveLocked(s *Session, k *waiter) bool {
	switch {
	case k.want != nil:
		return k.want == s
	case k.own != nil:
		return s.ownableLocked(*k.own)
	}
	return !s.ownLocked() && p.source.mayShareLocked(s)
}
