// Command quickstart shows a named lock at work: three processes contend for
// it, one of them is killed while it holds it, and no two ever have it at once.
//
//	go run -C examples ./quickstart [-dsn 'user:password@tcp(host:3306)/'] [-for 6s]
//
// Without -dsn it starts a server of its own, in memory, and needs nothing but
// Go. What a program does to use the library is all in worker.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if dsn, ok := os.LookupEnv(workerDSN); ok {
		if err := work(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, isTerminal(os.Stdout)))
}

// run returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) int {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dsn := flags.String("dsn", "", "use the server with this data source name, user:password@tcp(host:3306)/, not one in memory")
	length := flags.Duration("for", 6*time.Second, "how long to contend")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || *length < time.Second:
		fmt.Fprintln(stderr, "quickstart: -for must be at least 1s, and there are no arguments")
		return 2
	}
	if err := play(ctx, *dsn, *length, stdout, terminal); err != nil {
		fmt.Fprintln(stderr, "quickstart:", err)
		return 1
	}
	return 0
}

func play(ctx context.Context, dsn string, length time.Duration, stdout io.Writer, terminal bool) error {
	srv, err := useServer(ctx, dsn)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d processes contend for the lock %q.\n\n", workers, lockName)
	c := &contest{length: length, board: newBoard(stdout, terminal)}
	c.run(ctx, srv.dsn)
	c.board.finish()
	c.history.summarize(stdout, srv)
	return c.verdict(ctx.Err() != nil)
}
