package recipes

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// Reindex processes pages, starting after the last run's last page. It records
// each finished page, so no work is lost with the lock.
type Reindex struct {
	Locks namedlock.Interface
	Page  func(ctx context.Context, page int) error
	done  int // in production, a row of the database
}

// Run processes the remaining pages, unless another process is running. It
// stops when ctx ends or the lock is lost.
func (r *Reindex) Run(ctx context.Context, last int) error {
	return r.Locks.WithLock(ctx, "reindex", 0, func(ctx context.Context) error {
		for r.done < last {
			// ctx, not the one from outside: its end stops a query in the middle.
			if err := r.Page(ctx, r.done+1); err != nil {
				return fmt.Errorf("page %d: %w", r.done+1, err)
			}
			// The cause distinguishes a loss from a cancellation by the caller. Without
			// this check, a page that ignores its ctx would be followed by more pages.
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.done++
		}
		return nil
	})
}

// A long job that reacts to the loss of its lock. It stops, since another
// process may be doing the same work by now. The next run continues where it
// stopped.
func Example_longJob() {
	locks := locktest.New() // in production, what namedlock.Open returns
	defer locks.Close()
	killed := false
	job := Reindex{Locks: locks, Page: func(ctx context.Context, page int) error {
		if page == 3 && !killed {
			killed = true
			locks.Lose("reindex") // as KILL and a restart of the server do
			<-ctx.Done()          // what a query under ctx would notice
			return ctx.Err()
		}
		fmt.Println("page", page)
		return nil
	}}

	for {
		err := job.Run(context.Background(), 4)
		switch {
		case err == nil:
			fmt.Println("done")
			return
		case errors.Is(err, namedlock.ErrLost):
			fmt.Println("lost the lock, stopped, and run again")
		default:
			fmt.Println(err)
			return
		}
	}
	// Output:
	// page 1
	// page 2
	// lost the lock, stopped, and run again
	// page 3
	// page 4
	// done
}
