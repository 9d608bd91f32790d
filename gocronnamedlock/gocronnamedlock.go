// Package gocronnamedlock has the jobs of github.com/go-co-op/gocron run in one
// process of many.
//
// With an Elector one process schedules all jobs, and another when it ends:
//
//	elector := gocronnamedlock.NewElector(locker, "scheduler")
//	defer elector.Close()
//	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
//
// With a Locker each job takes the lock of its name, in whichever process comes
// first:
//
//	scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(gocronnamedlock.NewLocker(locker, time.Second)))
package gocronnamedlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"

	"github.com/go-namedlock/namedlock"
)

// Locks is a *namedlock.Locker or, in tests, a *locktest.Locker.
type Locks interface {
	Acquire(ctx context.Context, name string, timeout time.Duration) (*namedlock.Lock, error)
	Lead(ctx context.Context, name string, fn func(ctx context.Context, term *namedlock.Term) error) error
}

// NewLocker returns a lock for gocron.WithDistributedLocker and
// WithDistributedJobLocker. A job runs where its name's lock could be taken at
// once; elsewhere this run is left out. The lock is held for as long as the job
// runs, and for atLeast: machines whose clocks differ by less do not run it one
// after the other. A KILL of the session, a crash or a failover within atLeast
// frees the lock, and then they do: with three replicas and two KILLs, three
// times. A job that must not run twice for a tick has to record that it has
// run: docs/CRON.md has the code.
//
// The name is that of the job, by namedlock.SafeName. A job whose lock is lost
// while it runs is not told, since gocron has no context for that, and drops
// the error of the job's end (v2.21.2): the log, the hooks and the Stats of the
// Locker alone tell of it.
func NewLocker(locks Locks, atLeast time.Duration) gocron.Locker { return locker{locks, atLeast} }

type locker struct {
	locks   Locks
	atLeast time.Duration
}

// Lock implements gocron.Locker.
func (l locker) Lock(ctx context.Context, key string) (gocron.Lock, error) {
	lock, err := l.locks.Acquire(ctx, namedlock.SafeName(key), 0)
	if err != nil {
		return nil, err
	}
	return held{lock, time.Now().Add(l.atLeast)}, nil
}

// A held is the lock of one run of a job.
type held struct {
	lock  *namedlock.Lock
	until time.Time
}

// Unlock implements gocron.Lock. It returns when the lock has been held for
// long enough, or ctx ends.
func (h held) Unlock(ctx context.Context) error {
	if left := time.Until(h.until); left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.lock.Context().Done(): // lost
		case <-ctx.Done():
		}
	}
	return h.lock.Release()
}

// ErrNotLeader is what IsLeader returns while another process leads, or none is
// known to.
var ErrNotLeader = errors.New("gocronnamedlock: another process leads")

// An Elector is for gocron.WithDistributedElector. It leads, or stands for it,
// from NewElector to Close.
type Elector struct {
	resign context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	term context.Context // of the last term, which ends with it; nil: there was none
	err  error           // with which Lead has ended
}

// NewElector stands for leader under the lock of that name, as Locker.Lead
// does: it waits, leads, and waits again after a loss or an outage.
func NewElector(locks Locks, name string) *Elector {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Elector{resign: cancel, ended: make(chan struct{})}
	go e.lead(ctx, locks, name)
	return e
}

func (e *Elector) lead(ctx context.Context, locks Locks, name string) {
	defer close(e.ended)
	err := locks.Lead(ctx, name, func(ctx context.Context, _ *namedlock.Term) error {
		e.begin(ctx)
		<-ctx.Done()
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *Elector) begin(term context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term = term
}

// IsLeader implements gocron.Elector. It returns nil if this process leads.
// Otherwise the error matches ErrNotLeader, and what has ended the Elector for
// good, if that is why: a name that is invalid, a Locker that is closed.
func (e *Elector) IsLeader(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.err != nil:
		return fmt.Errorf("%w; this Elector has stopped: %w", ErrNotLeader, e.err)
	case e.term == nil || e.term.Err() != nil:
		return ErrNotLeader
	}
	return nil
}

// Close resigns, and returns when the lock is released. Stop the scheduler
// before. It returns nil, or what has ended the Elector for good.
func (e *Elector) Close() error {
	if e.resign == nil {
		return nil // it was not made by NewElector, and never leads
	}
	e.resign()
	<-e.ended
	e.mu.Lock()
	defer e.mu.Unlock()
	if errors.Is(e.err, context.Canceled) {
		return nil
	}
	return e.err
}
