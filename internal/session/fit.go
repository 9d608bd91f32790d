package session

import "context"

// Check asks the server whether it is fit for locks, as it is asked before the first one, on a connection
// beside those that locks are on if there can be one.
func (p *Pool) Check(ctx context.Context, home *Session) error {
	p.mu.Lock()
	err := p.source.refusalLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.Inspect(ctx, home, (*Session).fit)
}

// fit asks about a session that may have been greeted already.
func (s *Session) fit() error {
	switch {
	case !s.lent, s.server == nil && s.locks == 0:
		if err := s.greetBorrowed(answerTime); err != nil {
			return err
		}
		return s.readLease()
	case s.server == nil:
		return s.greet()
	case s.config.CheckServer:
		return s.checkAgain()
	}
	return nil
}

// GiveUp has s end, whatever is under way on it, and tells those who have locks there that they are lost by cause. When it
// returns s is dead, so that nothing that ends on it at this moment gives its connection back. It does not wait until the
// connection is closed; Close does.
func (p *Pool) GiveUp(s *Session, cause error) {
	p.mu.Lock()
	d, first := p.condemnLocked(s, cause)
	if first {
		p.work.Add(1)
	}
	p.mu.Unlock()
	if first {
		go func() {
			defer p.work.Done()
			s.cut()
			p.bury(d)
		}()
	}
}
