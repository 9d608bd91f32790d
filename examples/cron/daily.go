package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
)

// createRuns makes the table of the runs. Its key makes sure that a job is
// recorded once a day.
func createRuns(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS job_runs (
		job VARCHAR(64) NOT NULL,
		day DATE NOT NULL,
		PRIMARY KEY (job, day))`)
	return err
}

// The results of a run.
const (
	done    = "done"
	already = "not needed: it has run already"
	busy    = "not needed: another machine is at it"
)

var errAlready = errors.New(already)

// daily runs the job fn once a day, on one of the machines that call it. The
// record of the run, and the writes of fn through tx, are committed together,
// under the lock, or not at all.
//
// The other machines wait for the first one, for at most wait. If fn fails
// there, or the machine dies, nothing is recorded, and the next machine in the
// queue runs fn. So the effects of fn outside the database may happen twice,
// and must be idempotent.
func daily(ctx context.Context, locks namedlock.TxInterface, job, day string, wait time.Duration, fn func(ctx context.Context, tx *sql.Tx) error) (what string, err error) {
	err = locks.WithLockTx(ctx, job, wait, nil, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO job_runs (job, day) VALUES (?, ?)", job, day)
		if isDuplicate(err) {
			return errAlready
		}
		if err != nil {
			return err
		}
		return fn(ctx, tx)
	})
	var e *namedlock.Error
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, errAlready):
		return already, nil
	case errors.Is(err, namedlock.ErrNoSession): // the lock may be free
	case errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &e) && e.Name == job:
		return busy, nil
	}
	return "", err
}

// isDuplicate reports whether a row with the same key already exists.
func isDuplicate(err error) bool {
	const erDupEntry = 1062
	var answer *mysql.MySQLError
	return errors.As(err, &answer) && answer.Number == erDupEntry
}
