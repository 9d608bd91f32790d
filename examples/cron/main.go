// Command cron is a job that runs once a day, although the cron daemons of many
// machines start it in the same minute.
//
//	go run -C examples ./cron -dsn 'user:password@tcp(host:3306)/database'
//
// Without -dsn it starts the MariaDB or MySQL that is installed on the machine,
// and simulates three machines whose clocks differ.
//
// The lock keeps two machines from running the job at once. It does not keep a
// machine whose clock is late from running it again: for that, a row records
// that the job has run. The row and the writes of the job are one transaction
// under the lock.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/examples/internal/real"
	_ "github.com/go-sql-driver/mysql"
)

func main() {
	dsn := flag.String("dsn", "", "use the server with this data source name, user:password@tcp(host:3306)/database, not one of its own")
	day := flag.String("day", time.Now().UTC().Format(time.DateOnly), "the day to run the job for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dsn, *day, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cron:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn, day string, stdout io.Writer) (err error) {
	if dsn != "" {
		return machine(ctx, dsn, day, stdout)
	}
	server, err := real.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	fmt.Fprintln(stdout, "on a", server.Version(), "of its own")
	return threeMachines(ctx, server.DSN(), day, stdout)
}

// threeMachines runs the job on three machines, each after the one before.
func threeMachines(ctx context.Context, dsn, day string, stdout io.Writer) error {
	for range 3 {
		if err := machine(ctx, dsn, day, stdout); err != nil {
			return err
		}
	}
	return nil
}

// machine is the command that the cron daemon of one machine starts.
func machine(ctx context.Context, dsn, day string, stdout io.Writer) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	locker, err := namedlock.Open(db)
	if err != nil {
		return err
	}
	defer locker.Close()

	if err := createRuns(ctx, db); err != nil {
		return err
	}
	what, err := daily(ctx, locker, "nightly-report", day, time.Minute, func(ctx context.Context, tx *sql.Tx) error {
		fmt.Fprintln(stdout, "writing the report of", day)
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, what)
	return nil
}
