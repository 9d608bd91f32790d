// Package cron has the code of docs/CRON.md and docs/MIGRATING.md: scheduled
// jobs, and migrations by golang-migrate, in one process of many. Its tests run
// them on MariaDB and MySQL.
package cron

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/golang-migrate/migrate/v4"
	"github.com/robfig/cron/v3"

	"github.com/go-namedlock/namedlock"
)

const createTicks = `CREATE TABLE IF NOT EXISTS job_ticks (
	job VARCHAR(64) NOT NULL,
	tick DATETIME NOT NULL,
	PRIMARY KEY (job, tick))`

var errAlready = errors.New("the job has run in this period")

// once runs fn, unless fn has run for this job and tick. If several processes
// call once at the same time, one runs fn, and the other processes wait for it,
// for at most wait. The record of the run is committed together with the writes
// of fn through tx. After an error or a loss neither is committed, and another
// process runs fn.
func once(ctx context.Context, locks namedlock.TxInterface, job string, tick time.Time, wait time.Duration,
	fn func(ctx context.Context, tx *sql.Tx) error,
) error {
	err := locks.WithLockTx(ctx, job, wait, nil, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO job_ticks (job, tick) VALUES (?, ?)", job, tick.UTC().Format(time.DateTime))
		var answer *mysql.MySQLError
		switch {
		case errors.As(err, &answer) && answer.Number == 1062: // the row is there
			return errAlready
		case err != nil:
			return err
		}
		return fn(ctx, tx)
	})
	if errors.Is(err, errAlready) || busy(err, job) {
		return nil
	}
	return err
}

// busy reports whether another process held the lock until the timeout.
func busy(err error, name string) bool {
	var e *namedlock.Error
	return errors.Is(err, namedlock.ErrTimeout) && !errors.Is(err, namedlock.ErrNoSession) && errors.As(err, &e) && e.Name == name
}

// oncePerPeriod returns a wrapper for a job that the cron of every process
// starts. One process runs the job in each period, whatever the clocks show.
// report receives the errors.
//
// period is the duration between two ticks: 5*time.Minute for "*/5 * * * *",
// 24*time.Hour for a job that is daily or monthly.
func oncePerPeriod(locks namedlock.TxInterface, name string, period, wait time.Duration, report func(error)) cron.JobWrapper {
	return func(job cron.Job) cron.Job {
		return cron.FuncJob(func() {
			tick := time.Now().Truncate(period)
			err := once(context.Background(), locks, name, tick, wait, func(context.Context, *sql.Tx) error {
				job.Run()
				return nil
			})
			if err != nil {
				report(err)
			}
		})
	}
}

// oneAtATime returns a wrapper for a job that the cron of every process starts.
// A process runs the job if it acquires the lock at once, and holds the lock
// for atLeast. Therefore processes whose clocks differ by less than atLeast do
// not run the job one after the other, unless the lock is lost or the process
// ends within atLeast.
func oneAtATime(locks namedlock.Interface, name string, atLeast time.Duration, report func(error)) cron.JobWrapper {
	return func(job cron.Job) cron.Job {
		return cron.FuncJob(func() {
			err := locks.WithLock(context.Background(), name, 0, func(ctx context.Context) error {
				over := time.NewTimer(atLeast)
				defer over.Stop()
				job.Run()
				select {
				case <-over.C:
				case <-ctx.Done(): // lost
				}
				return nil
			})
			if err != nil && !busy(err, name) {
				report(err)
			}
		})
	}
}

// migrateUp runs the pending migrations, in one process at a time.
func migrateUp(ctx context.Context, locks namedlock.Interface, m *migrate.Migrate) error {
	return locks.WithLock(ctx, "migrations", 5*time.Minute, func(context.Context) error {
		if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
			return err
		}
		return nil
	})
}
