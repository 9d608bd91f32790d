package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Within returns ctx as part of the call chain of g. It returns an error if ctx
// is part of another chain.
func (g *Grant) Within(ctx context.Context) (context.Context, error) {
	c := g.line.queue.chainOf(ctx)
	g.line.queue.mu.Lock()
	defer g.line.queue.mu.Unlock()
	switch {
	case c.holds(g):
		return ctx, nil
	case c.empty():
		return withGrant{ctx, g}, nil
	}
	return nil, errors.New("the context belongs to a different lock; use the ctx passed to the term's fn")
}

// Begin runs START TRANSACTION on the session of g.
func (g *Grant) Begin(opts *sql.TxOptions) (tx *sql.Tx, err error) {
	err = g.onSession(func(s *pool.Session) (err error) {
		tx, err = s.Begin(opts)
		g.line.queue.pool.Reschedule(s)
		return err
	})
	return tx, err
}

// Commit runs COMMIT: see server.Conn.Commit. If the session has gone before,
// the error matches fault.ErrLost, unless the transaction's own code has cut it
// off.
func (g *Grant) Commit() error {
	err := g.onSession((*pool.Session).Commit)
	if errors.Is(err, fault.ErrLost) || errors.Is(err, server.ErrCutOff) {
		if ended := g.session.TxEnded(); ended != nil && !errors.Is(err, fault.ErrTxEnded) {
			return fmt.Errorf("%w; %w", err, ended)
		}
	}
	return err
}

// Rollback runs ROLLBACK, after the code under the lock has failed by cause. If
// it fails, the session ends, which also rolls back. Rollback returns nil
// unless the transaction had ended before: then it returns the error of Commit.
func (g *Grant) Rollback(cause error) (ended error) {
	err := g.onSession(func(s *pool.Session) error {
		ended = s.Rollback(cause)
		return nil
	})
	if err != nil {
		ended = g.session.TxEnded()
	}
	return ended
}

// onSession runs f on a turn on the session of g. If the session has gone, that
// is a loss.
func (g *Grant) onSession(f func(*pool.Session) error) error {
	if err := g.line.queue.pool.TakeUrgent(g.session); err != nil {
		g.line.queue.pool.AwaitEnd(g.session)
		if g.cutOff(err) {
			return err
		}
		return fault.Because(fault.ErrLost, "lock lost before COMMIT", err)
	}
	defer g.line.queue.pool.Put(g.session)
	return f(g.session)
}
