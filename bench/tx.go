package main

import (
	"context"
	"database/sql"
	"errors"
	"runtime"

	"github.com/go-namedlock/namedlock"
)

// txLine compares WithLockTx around one small statement with the five
// statements by hand, on one connection, and with lock and transaction on two
// connections. Like cycleLine it runs on one P and counts the fastest turns.
// The transactions write nothing, so that no disk is measured.
func txLine(t target, e effort) ([]row, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	var rows []row
	for _, other := range []struct {
		what string
		goal goal
		make func(ours *locker, theirs *prepared) func(name string) error
	}{
		{"to those five by hand, on one connection", atMost(1.10, " ×"), func(_ *locker, theirs *prepared) func(string) error {
			return func(name string) error { return theirs.tx(ctx, name, theirs.BeginTx) }
		}},
		{"to lock and transaction by hand, on two connections", atMost(1.10, " ×"), func(ours *locker, theirs *prepared) func(string) error {
			return func(name string) error { return theirs.tx(ctx, name, ours.pool.BeginTx) }
		}},
		{"to WithLock around a transaction on another connection", atMost(1.10, " ×"), func(ours *locker, _ *prepared) func(string) error {
			return func(name string) error {
				return ours.WithLock(ctx, name, patience, func(ctx context.Context) error { return small(ctx, ours.pool.BeginTx) })
			}
		}},
	} {
		var times comparison
		for range e.pairs {
			if err := t.txPair(ctx, e, &times, other.make); err != nil {
				return nil, err
			}
		}
		fastest, theirs := times.ours.quantile(0), times.other.quantile(0)
		rows = append(rows, ratioOf("WithLockTx with one small statement, "+other.what, fastest, theirs, fastest/theirs, times.ratios(), duration, other.goal))
	}
	trips, err := t.txTrips()
	return append(rows, count("round trips of that", samples{float64(trips)}, atMost(5, ""))), err
}

func (t target) txPair(ctx context.Context, e effort, times *comparison, other func(*locker, *prepared) func(string) error) error {
	ours, err := t.locker()
	if err != nil {
		return err
	}
	defer ours.close()
	theirs, err := t.prepared()
	if err != nil {
		return err
	}
	defer theirs.close()
	name, run := newName("tx"), other(ours, theirs)
	turn := func(f func() error) func() (float64, error) {
		return func() (float64, error) { return perRun(e.cycles, f) }
	}
	withTx := turn(func() error { return ours.WithLockTx(ctx, name, patience, nil, oneStatement) })
	byHand := turn(func() error { return run(name) })
	if _, err := compare(1, withTx, byHand); err != nil { // warms up
		return err
	}
	turns, err := compare(e.turns, withTx, byHand)
	if err != nil {
		return err
	}
	times.ours = append(times.ours, turns.ours.quantile(0))
	times.other = append(times.other, turns.other.quantile(0))
	return nil
}

func oneStatement(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "DO 0")
	return err
}

type beginner func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)

// small runs a transaction with one statement.
func small(ctx context.Context, begin beginner) error {
	tx, err := begin(ctx, nil)
	if err != nil {
		return err
	}
	if err := oneStatement(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// tx runs a small transaction under the lock.
func (p *prepared) tx(ctx context.Context, name string, begin beginner) error {
	if err := p.take(ctx, name); err != nil {
		return err
	}
	return errors.Join(small(ctx, begin), p.give(ctx, name))
}

// txTrips counts the round trips of the third WithLockTx on a session.
func (t target) txTrips() (int, error) {
	trips := func(calls int) (int, error) {
		return t.roundTrips(func(db *pool) (undo func() error, err error) {
			l, err := namedlock.Open(db.DB)
			if err != nil {
				return nil, err
			}
			for range calls {
				if err := l.WithLockTx(background, newName("tx"), patience, nil, oneStatement); err != nil {
					return nil, errors.Join(err, l.Close())
				}
			}
			return l.Close, nil
		})
	}
	two, err := trips(2)
	if err != nil {
		return 0, err
	}
	three, err := trips(3)
	return three - two, err
}
