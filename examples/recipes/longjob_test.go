package recipes

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// Reindex works through pages, from where the last run has stopped. It
// remembers each page that is done, so that nothing is lost when the lock is.
type Reindex struct {
	Locks namedlock.Interface
	Page  func(ctx context.Context, page int) error
	done  int // in production, a row of the database
}

// Run does what is left, up to the last page, unless another process is at it.
// It stops when ctx ends or the lock is lost.
func (r *Reindex) Run(ctx context.Context, last int) error {
	return r.Locks.WithLock(ctx, "reindex", 0, func(ctx context.Context) error {
		for r.done < last {
			// ctx, not the one from outside: its end stops a query in the middle.
			if err := r.Page(ctx, r.done+1); err != nil {
				return fmt.Errorf("page %d: %w", r.done+1, err)
			}
			// The cause tells a loss from the caller's own cancellation. Without this
			// look, a page that does not heed its ctx would be followed by more.
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.done++
		}
		return nil
	})
}

// A long job that reacts to the loss of its lock: it stops, since another
// process may be at the same work by now, and the next run goes on where it
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
