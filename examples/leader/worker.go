package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock"
)

// The environment variables that make a process a worker. The DSN is not an
// argument, since other users can see arguments.
const (
	workerDSN  = "NAMEDLOCK_LEADER_WORKER_DSN"
	workerName = "NAMEDLOCK_LEADER_WORKER_NAME"
)

// lease is short, so that a stopped leader loses it within the example.
const lease = 2 * time.Second

// work calls Lead until it is asked to end.
func work(dsn, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	locker, err := namedlock.Open(db, namedlock.WithLease(lease))
	if err != nil {
		return err
	}
	err = locker.Lead(ctx, "namedlock-example-leader", func(ctx context.Context, term *namedlock.Term) error {
		return lead(ctx, term, name)
	})
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(err, locker.Shutdown(ending))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// lead writes a row every 100 ms while this process leads. It reads without a
// row lock, since only the leader writes.
func lead(ctx context.Context, term *namedlock.Term, name string) error {
	for {
		err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
			var last int
			if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(n), 0) FROM "+table).Scan(&last); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s', CONNECTION_ID())", table, last+1, name)); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond) // for something to happen in the middle
			return nil
		})
		// A transaction that may be committed is not repeated. The next turn, in any
		// process, reads the last row.
		if err != nil && ctx.Err() != nil {
			if errors.Is(context.Cause(ctx), namedlock.ErrLost) { // err may be from a statement that the loss interrupted
				fmt.Printf("%s: no longer leads; its last transaction: %s\n", name, outcome(err))
			}
			return nil
		}
		if err != nil && !errors.Is(err, namedlock.ErrLost) {
			fmt.Printf("%s: %s: %v\n", name, outcome(err), err)
		}
	}
}

// outcome returns the outcome of a transaction with that error.
func outcome(err error) string {
	var e *namedlock.Error
	if errors.Is(err, namedlock.ErrTxEnded) || errors.As(err, &e) && e.Tx == namedlock.TxUnknown {
		return "perhaps committed"
	}
	return "not committed"
}
