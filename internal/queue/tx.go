package queue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/session"
)

// Within returns ctx as one of g's call chain, to which it belongs already, or to none.
func (g *Grant) Within(ctx context.Context) (context.Context, error) {
	g.queue.mu.Lock()
	defer g.queue.mu.Unlock()
	switch c := g.queue.chainOf(ctx); {
	case c.holds(g):
		return ctx, nil
	case c.empty():
		return withGrant{ctx, g}, nil
	}
	return nil, errors.New("the context is that of code under another lock, which is none of this term's: use the one that fn got")
}

// Begin runs START TRANSACTION on the session of g.
func (g *Grant) Begin(opts *sql.TxOptions) (tx *sql.Tx, err error) {
	err = g.onSession(func(s *session.Session) (err error) {
		tx, err = s.Begin(opts)
		return err
	})
	return tx, err
}

// Commit runs COMMIT: see session.Commit.
func (g *Grant) Commit() error { return g.onSession((*session.Session).Commit) }

// Rollback runs ROLLBACK. If it fails the session ends, which rolls back too.
func (g *Grant) Rollback() {
	_ = g.onSession(func(s *session.Session) error {
		s.Rollback()
		return nil
	})
}

// onSession runs f on a turn on the session of g, whose death is a loss.
func (g *Grant) onSession(f func(*session.Session) error) error {
	if err := g.queue.pool.TakeUrgent(g.session); err != nil {
		return fault.Because(fault.ErrLost, "lock lost before its transaction was committed", err)
	}
	defer g.queue.pool.Put(g.session)
	return f(g.session)
}
