//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

// under takes the locks and has fn run under them. It returns the exit code.
func (j *job) under(ctx context.Context, fn func(ctx context.Context, id uint64) (int, error)) (code int, err error) {
	locker, done, err := j.open()
	if err != nil {
		return 0, err
	}
	defer done()

	began := time.Now()
	var waits sync.WaitGroup
	waiting, acquired := context.WithCancel(ctx)
	if !j.quiet && (j.verbose || isTerminal(os.Stderr)) {
		waits.Go(func() { j.tellWhoIsInTheWay(waiting, locker) })
	}
	err = locker.WithLocks(ctx, j.names, j.timeout, func(ctx context.Context) error {
		acquired()
		waits.Wait()
		id := connection(ctx, locker, j.names[0])
		j.tell("acquired %q in %v, connection %d", j.names, time.Since(began).Round(time.Millisecond), id)
		defer func(began time.Time) {
			j.tell("releasing after %v", time.Since(began).Round(time.Millisecond))
		}(time.Now())
		var err error
		code, err = fn(ctx, id)
		return err
	})
	acquired()
	waits.Wait()
	var failed *namedlock.Error
	if errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &failed) && failed.Holder == nil {
		if h, held, _ := locker.Holder(ctx, failed.Name); held { // which a try without a wait does not ask for
			failed.Holder = &h
		}
	}
	return code, err
}

// patienceBeforeTelling is how long a wait is nothing to talk about.
const patienceBeforeTelling = 2 * time.Second

// tellWhoIsInTheWay says who has the locks, when the wait has lasted, and again when that is another.
func (j *job) tellWhoIsInTheWay(ctx context.Context, locker *namedlock.Locker) {
	told := map[string]uint64{}
	tick := time.NewTicker(patienceBeforeTelling)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, name := range j.names {
			h, held, err := locker.Holder(ctx, name)
			if err == nil && held && !h.Local && told[name] != h.ConnectionID && ctx.Err() == nil {
				told[name] = h.ConnectionID
				j.stderr.sayf("waiting for %q: held by %s", name, clean(h.String()))
			}
		}
	}
}
