// Command torture tests the library under faults. Several processes use locks
// in every way, on real servers, while sessions and servers are killed,
// networks become silent and processes are stopped. Every section is recorded,
// and judged by the package history.
//
//	go run -C e2e ./torture -for 60s -seed 7 -server mysql
//
// The faults are a function of the seed: -plan prints them. At the first broken
// promise it fails. It prints the seed, the events around the violation, and
// the name of a file with the whole history, which -judge judges again. It also
// fails at the end if the judge of the order of acquires and releases was
// undecided about more than one name in ten.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

func main() {
	if description := os.Getenv(workerJob); description != "" {
		if err := work(description); err != nil {
			fmt.Fprintln(os.Stderr, "torture: worker:", err)
			os.Exit(1)
		}
		return
	}
	var (
		duration = flag.Duration("for", time.Minute, "how long to run, on each server")
		seed     = flag.Uint64("seed", 0, "seed of the faults; 0: a random seed")
		server   = flag.String("server", "both", "mysql, mariadb or both")
		out      = flag.String("out", "", "keep the histories in this `folder`")
		planOnly = flag.Bool("plan", false, "print the faults and do nothing")
		judge    = flag.String("judge", "", "judge the history that a failed run has kept in this `file`, and do nothing else")
	)
	flag.Parse()
	if *judge != "" {
		r, err := judgeFile(os.Stdout, *judge)
		if err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			os.Exit(1)
		}
		r.print(os.Stdout, 0)
		if err := r.decided(); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			os.Exit(1)
		}
		if r.found > 0 {
			os.Exit(1)
		}
		return
	}
	for *seed == 0 {
		*seed = rand.Uint64N(1_000_000)
	}
	if *planOnly {
		printPlan(os.Stdout, *seed, *duration)
		return
	}
	kinds := map[string][]servers.Kind{
		"mysql":   {servers.MySQL},
		"mariadb": {servers.MariaDB},
		"both":    {servers.MySQL, servers.MariaDB},
	}[*server]
	if kinds == nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, kind := range kinds {
		err := torture(ctx, kind, *duration, *seed, *out)
		if err == nil {
			continue
		}
		fmt.Printf("torture: %v\n", err)
		if errors.Is(err, errBroken) {
			fmt.Printf("repeat: go run -C e2e ./torture -for %v -seed %d -server %s\n", *duration, *seed, kind)
		}
		os.Exit(1)
	}
}
