package namedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// The code that README.md and the pages of docs show, where no example has it.
// It is compiled, not run. TestDocs_Code compares it with the pages.

type job struct{}

func (job) Run(context.Context) error { return nil }

type txJob struct{}

func (txJob) Run(context.Context, *sql.Tx) error { return nil }

func _(ctx context.Context, db *sql.DB, report job, billing txJob) error {
	locker, err := namedlock.Open(db) // db is a *sql.DB; do this once, at the start of the program
	if err != nil {
		return err
	}
	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, func(ctx context.Context) error {
		return report.Run(ctx) // one process at a time; ctx is cancelled if the lock is lost
	})
	if err != nil {
		return err
	}
	err = locker.WithLockTx(ctx, "billing", 5*time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
		return billing.Run(ctx, tx) // committed under the lock, or not at all
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, refresh func(context.Context) error) {
	err := locker.WithLock(ctx, "cache-refresh", 0, refresh) // 0: try once
	switch {
	case errors.Is(err, namedlock.ErrNoSession):
		// refresh has not run: no connection was free. The lock may be free
	case errors.Is(err, namedlock.ErrTimeout):
		// another process refreshes the cache
	}
}

func _(ctx context.Context, locker *namedlock.Locker, id string, bill func(context.Context) error) error {
	err := locker.WithLock(ctx, namedlock.SafeName("customer", id), 5*time.Second, bill)
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, customer int) error {
	err := locker.WithLockTx(ctx, "billing", 5*time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO bills (customer) VALUES (?)", customer)
		return err
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, batches []int, bill func(context.Context, *sql.Tx, int) error) error {
	err := locker.WithTerm(ctx, "billing", 5*time.Second, func(ctx context.Context, term *namedlock.Term) error {
		for _, batch := range batches {
			err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				return bill(ctx, tx, batch)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, planNext func(context.Context, *sql.Tx) error) error {
	err := locker.Lead(ctx, "scheduler", func(ctx context.Context, term *namedlock.Term) error {
		for ctx.Err() == nil { // until this process ends, or another leads
			err := term.WithTx(ctx, nil, planNext) // committed by the leader, or not at all
			var e *namedlock.Error
			switch {
			case errors.As(err, &e) && e.Tx == namedlock.TxUnknown:
				// check whether it was written before it is done again
			case errors.Is(err, namedlock.ErrLost):
				return err // the term is over, even if ctx has not ended yet; nothing is committed
			case err != nil:
				// log it: nothing is committed
			}
			select { // a pause, also after an error
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
		return nil
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, export func(context.Context, int) error) error {
	err := locker.WithSlot(ctx, "export", 4, time.Minute, func(ctx context.Context, slot int) error {
		return export(ctx, slot) // four at a time, on all machines together
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, from, to string) error {
	err := locker.WithLocks(ctx, []string{from, to}, 5*time.Second, func(ctx context.Context) error {
		return transfer(ctx, from, to)
	})
	return err
}

func _(ctx context.Context, locker *namedlock.Locker, pages []string, index func(context.Context, string) error) error {
	err := locker.WithLock(ctx, "reindex", 0, func(ctx context.Context) error {
		for _, page := range pages {
			if err := index(ctx, page); err != nil {
				return err
			}
			if ctx.Err() != nil { // the lock is lost, or the caller has cancelled
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return err
}

func _(dsn string) error {
	lockDB, err := sql.Open("mysql", dsn) // the same server, for locks alone
	if err != nil {
		return err
	}
	lockDB.SetMaxOpenConns(40)
	locker, err := namedlock.Open(lockDB, namedlock.WithMaxSessions(32))
	if err != nil {
		return err
	}
	return locker.Close()
}

// Invoices is that of locktest/example_test.go.
type Invoices struct{ Locks namedlock.Interface }

func (i Invoices) Write(ctx context.Context, customer int) error { return nil }

func _(ctx context.Context) error {
	locks := locktest.New()
	defer locks.Close()
	locks.HoldElsewhere("invoices-42")
	err := Invoices{Locks: locks}.Write(ctx, 42) // waits, times out, and reports it
	return err
}

func _(ctx context.Context, db *sql.DB, report job) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", "nightly-report", 5).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("busy")
	}
	defer conn.ExecContext(context.Background(), "DO RELEASE_LOCK(?)", "nightly-report")
	return report.Run(ctx)
}

func _(ctx context.Context, locker *namedlock.Locker, report job) error {
	return locker.WithLock(ctx, "nightly-report", 5*time.Second, func(ctx context.Context) error {
		return report.Run(ctx)
	})
}

func _(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	config.ConnectionAttributes = "program_name:billing,client_host:" + host
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	return db, nil
}
