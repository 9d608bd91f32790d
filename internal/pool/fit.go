package pool

import (
	"context"

	"github.com/go-namedlock/namedlock/internal/server"
)

// Check asks the server whether it is fit for locks, as it is asked before the first one, on a connection
// beside those that locks are on if there can be one.
func (p *Pool) Check(ctx context.Context, home *Session) error {
	p.mu.Lock()
	err := p.source.refusalLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.Inspect(ctx, home, (*server.Conn).Check)
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
			s.Cut()
			p.bury(d)
		}()
	}
}

// Spare reports whether a connection can be borrowed from the db for a moment and yet
// one be left for others.
func (p *Pool) Spare() bool { return p.source.spare() }

// Inspect has ask run on a session that has nothing to do with locks: a connection of the
// db, borrowed beside the pool's own. It is bounded by ctx and server.AnswerTime. Where there is
// only the lent session, ask runs on that when it is its turn; ctx and server.AnswerTime bound the
// wait for the turn alone, since no context reaches a statement on a session that may hold
// locks. home is the session of the caller's chain, nil for none: it may be the lent one, which
// the chain has alone.
func (p *Pool) Inspect(ctx context.Context, home *Session, ask func(*server.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, server.AnswerTime)
	defer cancel()
	return p.source.inspect(ctx, home, ask)
}
