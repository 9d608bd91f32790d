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

// watched are the options of a Locker whose service wants to see what it does.
func watched() []namedlock.Option {
	return []namedlock.Option{
		namedlock.WithLogger(slog.New(slog.NewJSONHandler(os.Stderr, nil))), // for the person on call
		namedlock.WithHooks(namedlock.Hooks{
			Acquired: func(e namedlock.Event) {
				switch {
				case errors.Is(e.Err, namedlock.ErrTimeout):
					fmt.Println(e.Name, "was busy") // e.Waited is how long it took
				case e.Err == nil:
					fmt.Println(e.Name, "acquired")
				}
			},
			Released: func(e namedlock.Event) {
				fmt.Println(e.Name, "released") // e.Held is for a histogram
			},
			Lost: func(e namedlock.Event) {
				fmt.Println(e.Name, "lost") // worth an alert
			},
		}),
	}
}

// Metrics: hooks tell of every call and lock, Stats counts them. Hooks are called a
// moment later, in a goroutine of their own, so that they hold nobody up; Close waits
// until they have been told all. For OpenTelemetry there is package otelnamedlock.
func ExampleWithHooks() {
	locker := locktest.New(watched()...) // in production, namedlock.Open(db, watched()...)
	expvar.Publish("locks", expvar.Func(func() any { return locker.Stats() }))

	ctx := context.Background()
	_ = locker.WithLock(ctx, "report", time.Second, func(ctx context.Context) error { return nil })
	release := locker.HoldElsewhere("import")
	_ = locker.WithLock(ctx, "import", 0, func(ctx context.Context) error { return nil })
	release()

	_ = locker.Close()
	stats := locker.Stats()
	fmt.Println(stats.Acquired, "acquired,", stats.Timeouts, "timed out,", stats.Lost, "lost,", stats.Held, "held")
	// Output:
	// report acquired
	// report released
	// import was busy
	// 1 acquired, 1 timed out, 0 lost, 0 held
}
