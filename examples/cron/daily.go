package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/go-namedlock/namedlock"
)

// createRuns makes the table of the runs. Its key is the last word on "not twice": should a lock be lost,
// and two machines run the job after all, only one can record it.
func createRuns(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS job_runs (
		job VARCHAR(64) NOT NULL,
		day DATE NOT NULL,
		PRIMARY KEY (job, day))`)
	return err
}

// What has become of a run.
const (
	done    = "done"
	already = "not needed: it has run already"
	busy    = "not needed: another machine is at it"
)

// daily runs fn, which is the job, unless it has run for that day or another machine is at it. If fn
// fails nothing is recorded, and whoever comes next tries again: so let cron start the job more often
// than once a day.
func daily(ctx context.Context, db *sql.DB, locks namedlock.Interface, job, day string, fn func(ctx context.Context) error) (what string, err error) {
	what, err = namedlock.Do(ctx, locks, job, 0, func(ctx context.Context) (string, error) {
		var n int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM job_runs WHERE job = ? AND day = ?", job, day).Scan(&n)
		if err != nil {
			return "", err
		}
		if n > 0 {
			return already, nil
		}
		if err := fn(ctx); err != nil {
			return "", err
		}
		// What fn writes and this record belong into one transaction, if they are in one database.
		_, err = db.ExecContext(ctx, "INSERT INTO job_runs (job, day) VALUES (?, ?)", job, day)
		return done, err
	})
	var e *namedlock.Error
	if errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &e) && e.Name == job {
		return busy, nil
	}
	return what, err
}
