// Command leader shows one leader among three processes. The first leader is
// killed, the second is stopped for longer than its lease, and the third loses
// its connection during a transaction. Another process takes over each time,
// and no process writes after its term.
//
//	go run -C examples ./leader [-dsn 'user:password@tcp(host:3306)/database']
//
// Without -dsn it starts the MariaDB or MySQL that is installed on the machine.
// The code of a leader is in worker.go.
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

	"github.com/go-namedlock/namedlock/examples/internal/real"
	_ "github.com/go-sql-driver/mysql"
)

const table = "namedlock_example_ticks"

func main() {
	if dsn, ok := os.LookupEnv(workerDSN); ok {
		if err := work(dsn, os.Getenv(workerName)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dsn := flag.String("dsn", "", "use the server with this data source name, user:password@tcp(host:3306)/database, not one of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dsn, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "leader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dsn string, out io.Writer) (err error) {
	if dsn == "" {
		server, err := real.Start()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		fmt.Fprintln(out, "on a", server.Version(), "of its own")
		dsn = server.DSN()
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range []string{
		"DROP TABLE IF EXISTS " + table,
		"CREATE TABLE " + table + " (n INT PRIMARY KEY, leader VARCHAR(20), session BIGINT)",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	c, err := startCompany(db, dsn, out)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.play(ctx); err != nil {
		return err
	}
	c.stop()
	return c.audit(ctx)
}

// play ends leaders in three ways.
func (c *company) play(ctx context.Context) error {
	first, err := c.next(ctx, "nobody")
	if err != nil {
		return err
	}
	c.say("%s leads", first)
	if err := c.pause(ctx, time.Second); err != nil {
		return err
	}

	c.say("%s is killed", first)
	second, err := c.after(ctx, first, c.of[first.leader].Process.Kill)
	if err != nil {
		return err
	}

	stopped := c.of[second.leader].Process
	if canStop {
		c.say("%s is stopped, for longer than its lease of %v", second, lease)
		third, err := c.after(ctx, second, func() error { return stopProcess(stopped) })
		if err != nil {
			return err
		}
		c.say("%s continues, and has not noticed the loss yet", second)
		if err := continueProcess(stopped); err != nil {
			return err
		}
		if err := c.pause(ctx, time.Second); err != nil {
			return err
		}
		second = third
	}

	c.say("the connection of %s is killed in the middle of a transaction", second)
	if _, err := c.after(ctx, second, func() error {
		newest, err := c.newest(ctx)
		if err == nil {
			_, err = c.db.ExecContext(ctx, fmt.Sprintf("KILL %d", newest.session))
		}
		return err
	}); err != nil {
		return err
	}
	return c.pause(ctx, time.Second)
}

// after ends a leader, and prints the next leader and the delay.
func (c *company) after(ctx context.Context, before tick, end func() error) (tick, error) {
	if err := end(); err != nil {
		return tick{}, err
	}
	began := time.Now()
	next, err := c.next(ctx, before.leader)
	if err == nil {
		c.say("%s leads, %v later", next, time.Since(began).Round(time.Millisecond))
		err = c.pause(ctx, time.Second)
	}
	return next, err
}

// audit checks the rows: they are numbered without gaps, and the rows of each
// term are consecutive.
func (c *company) audit(ctx context.Context) error {
	var rows, last, changes int
	if err := c.db.QueryRowContext(ctx, "SELECT COUNT(*), MAX(n) FROM "+table).Scan(&rows, &last); err != nil {
		return err
	}
	if err := c.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table+" a JOIN "+table+" b ON b.n = a.n + 1 WHERE a.leader <> b.leader").Scan(&changes); err != nil {
		return err
	}
	c.say("%d rows, numbered 1 to %d, %d changes of the leader: no process wrote after its term", rows, last, changes)
	if want := 2; rows != last || changes < want {
		return errors.New("rows are missing, or were written after a term")
	}
	_, err := c.db.ExecContext(ctx, "DROP TABLE "+table)
	return err
}
