package recipes

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// watched are the options of a Locker with a log and hooks.
func watched() []namedlock.Option {
	return []namedlock.Option{
		namedlock.WithLogger(slog.New(slog.NewJSONHandler(os.Stderr, nil))), // for the person on call
		namedlock.WithHooks(namedlock.Hooks{
			Acquired: func(ctx context.Context, e namedlock.Event) context.Context {
				fmt.Println(e.Name, "acquired")              // e.Waited is how long it took
				return context.WithValue(ctx, job{}, e.Name) // for the code under the lock: a span, a logger
			},
			Failed: func(_ context.Context, e namedlock.Event) {
				if errors.Is(e.Err, namedlock.ErrTimeout) {
					fmt.Println(e.Name, "was busy")
				}
			},
			Released: func(_ context.Context, e namedlock.Event) {
				if errors.Is(e.Err, namedlock.ErrLost) {
					fmt.Println(e.Name, "was lost") // worth an alert
					return
				}
				fmt.Println(e.Name, "released") // e.HeldFor is for a histogram
			},
		}),
	}
}

// job is the key of a value for the code under a lock.
type job struct{}

// Metrics: hooks see every call, in its own goroutine, and may add to its
// context; Stats counts. For OpenTelemetry there is package otelnamedlock.
func ExampleWithHooks() {
	locker := locktest.New(watched()...) // in production, namedlock.Open(db, watched()...)
	expvar.Publish("locks", expvar.Func(func() any { return locker.Stats() }))

	ctx := context.Background()
	_ = locker.WithLock(ctx, "report", time.Second, func(ctx context.Context) error {
		fmt.Println("in", ctx.Value(job{}))
		return nil
	})
	release := locker.HoldElsewhere("import")
	_ = locker.WithLock(ctx, "import", 0, func(ctx context.Context) error { return nil })
	release()

	_ = locker.Close()
	stats := locker.Stats()
	fmt.Println(stats.Acquired, "acquired,", stats.Timeouts, "timed out,", stats.Lost, "lost,", stats.Held, "held")
	// Output:
	// report acquired
	// in report
	// report released
	// import was busy
	// 1 acquired, 1 timed out, 0 lost, 0 held
}
