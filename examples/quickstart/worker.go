package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/go-namedlock/namedlock"
	_ "github.com/go-sql-driver/mysql"
)

const lockName = "namedlock-quickstart"

// workerDSN is the environment variable that makes a process a worker. It is
// not an argument, since other users can see those.
const workerDSN = "NAMEDLOCK_QUICKSTART_WORKER_DSN"

// work runs sections under the lock until the parent hangs up.
func work(dsn string) error {
	ctx, parent := callParent()

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

	for {
		parent.tell(ctx, waits)
		err := locker.WithLock(ctx, lockName, namedlock.Forever, func(ctx context.Context) error {
			return parent.section(ctx) // never in two processes at once
		})
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		sleep(ctx, rand.N(80*time.Millisecond))
	}
}

// section takes so long that the eye can follow. The parent knows of all of it:
// fn, and with it the lock, goes on only when the parent has taken note.
func (p *parent) section(ctx context.Context) error {
	if err := p.tell(ctx, enters); err != nil {
		return err
	}
	if err := sleep(ctx, 200*time.Millisecond+rand.N(250*time.Millisecond)); err != nil {
		return err
	}
	return p.tell(ctx, leaves)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// What a worker tells its parent, a line each; the answer is an empty line.
const (
	waits  = "waits"
	enters = "enters"
	leaves = "leaves"
)

// A parent is the process at the other end of the standard streams.
type parent struct {
	answers chan struct{}
}

// callParent returns a context that ends when the parent hangs up, be it on
// purpose or because it has died: no worker outlives it.
func callParent() (context.Context, *parent) {
	// Ctrl-C reaches all processes of a terminal, but it is the parent that ends
	// the run. This drops the signal on Windows too, which signal.Ignore does not.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)

	ctx, hangUp := context.WithCancel(context.Background())
	p := &parent{answers: make(chan struct{}, 1)} // there is one unanswered line at most
	go func() {
		defer hangUp()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			p.answers <- struct{}{}
		}
	}()
	return ctx, p
}

// tell returns when the parent has taken note.
func (p *parent) tell(ctx context.Context, what string) error {
	fmt.Println(what)
	select {
	case <-p.answers:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
