package pool

import (
	"context"
	"errors"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Check asks the server whether it is suitable for locks, as it is asked before
// the first one. See Inspect for the connection.
func (p *Pool) Check(ctx context.Context, home *Session) error {
	p.mu.Lock()
	_, err := p.limitsLocked()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.Inspect(ctx, home, (*server.Conn).Check)
}

// Spare reports whether a connection can be borrowed from the db for a moment
// while one is left for the application.
func (p *Pool) Spare() bool {
	if p.lent != nil {
		return false
	}
	stats := p.db.Stats()
	return stats.MaxOpenConnections == 0 || stats.InUse+1 < stats.MaxOpenConnections
}

// Inspect calls ask with a connection of the db that is borrowed in addition to
// the pool's own. ctx and server.AnswerTime bound that. If there is only the
// lent session, Inspect waits for a turn and calls ask with it. Then the bounds
// end the wait for the turn alone: no context reaches a statement on a session
// that may have locks. home is the session of the caller's chain, which may
// have the lent one alone; nil: none.
func (p *Pool) Inspect(ctx context.Context, home *Session, ask func(*server.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, server.AnswerTime)
	defer cancel()
	if p.lent != nil {
		s, err := p.Take(Request{Home: home, Caller: inspector{ctx}})
		switch {
		case err != nil && ctx.Err() != nil:
			return fault.Because(fault.ErrUnavailable, "the connection given to New stayed busy until the deadline", nil)
		case err != nil:
			return err
		}
		defer p.Put(s)
		return ask(s.Conn)
	}
	// A connection that was idle may be dead, and another one alive.
	for stale := p.db.Stats().Idle; ; stale-- {
		broken, err := p.inspectBeside(ctx, ask)
		if !broken || stale <= 0 || ctx.Err() != nil {
			return err
		}
	}
}

func (p *Pool) inspectBeside(ctx context.Context, ask func(*server.Conn) error) (broken bool, err error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return false, p.noConnection(err, server.AnswerTime)
	}
	c := p.Use(conn, false)
	stop := context.AfterFunc(ctx, c.BreakOff)
	if err = c.IsPrimary(); err == nil {
		err = ask(c)
	}
	if !stop() || c.Broken() || errors.Is(err, fault.ErrReadOnly) {
		_ = c.Discard()
		p.Observer.SessionDiscarded(err)
		return true, err
	}
	p.giveBack(c)
	return false, err
}

// An inspector waits for a turn on the lent session.
type inspector struct{ ctx context.Context }

func (i inspector) Context() context.Context { return i.ctx }
func (i inspector) Queued()                  {}
func (i inspector) DBExhausted()             {}
