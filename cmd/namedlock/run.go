//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	crand "crypto/rand"
	"database/sql"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/names"
)

// under acquires the locks and runs fn under them. It returns the exit code. If
// the server is unreachable at the start, under retries for as long as -retry
// allows. If the server goes away later, under retries until the timeout.
func (j *job) under(ctx context.Context, fn func(ctx context.Context, id uint64) (int, error)) (code int, err error) {
	locker, done, err := j.open()
	if err != nil {
		return 0, err
	}
	defer done()
	if err := j.reach(ctx, locker, j.retry, "cannot reach the server; retrying (-retry)"); err != nil {
		return 0, err
	}
	began := time.Now()
	for outage := (pauses{}); ; {
		left := namedlock.Forever
		if j.timeout != namedlock.Forever {
			left = max(0, j.timeout-time.Since(began))
		}
		ran, tried := false, time.Now()
		code, err = j.attempt(ctx, locker, left, func(ctx context.Context, id uint64) (int, error) {
			ran = true
			j.tell("acquired %q in %v, connection %d", j.names, time.Since(began).Round(time.Millisecond), id)
			return fn(ctx, id)
		})
		if j.timeout != namedlock.Forever {
			left = j.timeout - time.Since(began)
		}
		if ran || left <= 0 || !mayPass(err) {
			return code, err
		}
		if time.Since(tried) > lastOutagePause { // it waited, so this is a new outage
			outage = pauses{}
		}
		if outage.next == 0 {
			j.complain("lost the server during the wait; still waiting: %s", oneLine(err))
		}
		if !outage.pause(ctx, left) {
			return code, err
		}
	}
}

// attempt is one call of the library.
func (j *job) attempt(ctx context.Context, locker *namedlock.Locker, timeout time.Duration, fn func(ctx context.Context, id uint64) (int, error)) (code int, err error) {
	var waits sync.WaitGroup
	waiting, acquired := context.WithCancel(ctx)
	if !j.quiet && (j.verbose || isTerminal(j.stderr.file)) {
		waits.Go(func() { j.tellWhoIsInTheWay(waiting, locker) })
	}
	held := func(ctx context.Context) error {
		acquired()
		waits.Wait()
		id := connection(ctx, j.locks()[0], func(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
			aside := namedlock.SafeName("namedlock run", crand.Text()) // nested on the connection of the other locks
			return locker.WithLockTx(ctx, aside, 0, nil, fn)
		})
		defer func(began time.Time) {
			j.tell("releasing after %v", time.Since(began).Round(time.Millisecond))
		}(time.Now())
		var err error
		code, err = fn(ctx, id)
		return err
	}
	if j.slots > 0 {
		err = locker.WithSlot(ctx, j.names[0], j.slots, timeout, func(ctx context.Context, slot int) error {
			j.slot = slot
			return held(ctx)
		})
	} else {
		err = locker.WithLocks(ctx, j.names, timeout, held)
	}
	acquired()
	waits.Wait()
	var failed *namedlock.Error
	if errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &failed) && (failed.Holder == nil || j.slots > 0) {
		inTheWay := failed.Name
		if j.slots > 0 {
			inTheWay = names.Slot(failed.Name, 0) // any slot is suitable
		}
		if h, held, _ := locker.Holder(ctx, inTheWay); held { // a call without a wait does not look it up
			failed.Holder = &h
		}
	}
	return code, err
}

// reach returns nil when the server has answered and is suitable for locks. It
// returns an error at once if retrying does not help, and otherwise retries for
// the duration within.
func (j *job) reach(ctx context.Context, locker *namedlock.Locker, within time.Duration, outage string) error {
	began := time.Now()
	for again := (pauses{}); ; {
		err := locker.Check(ctx)
		left := within - time.Since(began)
		if err == nil || !mayPass(err) || left <= 0 {
			return err
		}
		if again.next == 0 {
			j.complain("%s: %s", outage, oneLine(err))
		}
		if !again.pause(ctx, left) {
			return err
		}
	}
}

// pauses are the pauses between attempts to reach a server. They double.
type pauses struct{ next time.Duration }

const (
	firstOutagePause = 100 * time.Millisecond
	lastOutagePause  = 5 * time.Second
)

// pause waits, but no longer than most. It reports whether ctx lasts.
func (p *pauses) pause(ctx context.Context, most time.Duration) bool {
	p.next = min(max(2*p.next, firstOutagePause), lastOutagePause)
	jitter := rand.N(p.next / 4) // without it, all clients of a server would retry at the same moment
	select {
	case <-time.After(min(p.next-jitter, most)):
		return true
	case <-ctx.Done():
		return false
	}
}

// patienceBeforeTelling is how long a wait lasts before it is reported.
const patienceBeforeTelling = 2 * time.Second

// tellWhoIsInTheWay reports the holders of the locks during a long wait, and
// again when a holder changes.
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
		for _, name := range j.wanted() {
			h, held, err := locker.Holder(ctx, name)
			if err == nil && held && !h.Local && told[name] != h.ConnectionID && ctx.Err() == nil {
				told[name] = h.ConnectionID
				j.stderr.sayf("waiting for %q: held by %v", name, h)
			}
		}
	}
}
