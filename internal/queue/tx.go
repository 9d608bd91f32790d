package queue

import (
	"database/sql"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/session"
)

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
