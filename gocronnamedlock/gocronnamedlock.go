// Package gocronnamedlock runs the jobs of github.com/go-co-op/gocron in one of
// many processes.
//
// With an Elector, one process schedules all jobs. When it ends, another
// process takes over:
//
//	elector := gocronnamedlock.NewElector(locker, "scheduler")
//	defer elector.Close()
//	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
//
// With a Locker, each job acquires the lock of its name, and runs in the first
// process that gets it:
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
// WithDistributedJobLocker. A job runs in the process that gets the lock of the
// job's name at once. The other processes skip this run. The lock is held while
// the job runs, and for at least atLeast. So machines whose clocks differ by
// less than atLeast do not run the job one after the other. A KILL of the
// session, a crash or a failover within atLeast frees the lock. Another machine
// then also runs the job: with three replicas and two KILLs, it runs three
// times. A job that must not run twice for a tick has to record that it has
// run; docs/CRON.md has the code.
//
// If the scheduler is shut down, or has removed the job, the lock is still held
// for atLeast. Close of the Locker waits for that.
//
// The lock's name is namedlock.SafeName of the job's name. If the lock is lost
// while the job runs, the job does not notice it: gocron (v2.21.2) has no
// context for that, and drops the error of Unlock. Only the log, the hooks and
// the Stats of the Locker report the loss.
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

// A held is the lock during one run of a job.
type held struct {
	lock  *namedlock.Lock
	until time.Time
}

// Unlock implements gocron.Lock. It returns when the lock is released, after
// atLeast, or when ctx ends. Then the lock is still released after atLeast:
// gocron ends the context of a job after its last run.
func (h held) Unlock(ctx context.Context) error {
	left := time.Until(h.until)
	if left <= 0 {
		return h.lock.Release()
	}
	released := make(chan error, 1)
	go func() {
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.lock.Context().Done(): // lost
		}
		released <- h.lock.Release()
	}()
	select {
	case err := <-released:
		return err
	case <-ctx.Done():
		return nil
	}
}

// ErrNotLeader is returned by IsLeader while this process does not lead.
var ErrNotLeader = errors.New("gocronnamedlock: another process leads")

// An Elector is for gocron.WithDistributedElector. It leads, or tries to, from
// NewElector to Close.
type Elector struct {
	resign context.CancelFunc
	ended  chan struct{}

	mu   sync.Mutex
	term context.Context // the context of the last term; nil: there was none
	err  error           // the result of Lead
}

// NewElector starts a Lead under the lock of that name. It waits for the lock,
// leads, and waits again after a loss or an outage.
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
// Otherwise the error matches ErrNotLeader. If the Elector has stopped for
// good, the error also matches the reason, for example ErrInvalidName or
// ErrClosed.
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
// first. It returns nil, or the error that stopped the Elector for good.
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
