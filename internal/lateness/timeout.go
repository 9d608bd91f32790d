package lateness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

const (
	// sample is the time between two looks at how busy the machine is.
	sample = 100 * time.Millisecond
	// most is how many times its limit a timeout lasts on a machine that stays
	// busy.
	most = 10
)

// A TimeoutError is the cause of a context whose timeout has passed.
type TimeoutError struct {
	Limit time.Duration // the argument of WithTimeout
	After time.Duration // the time that passed
}

// Busy reports whether the machine had, on average, at least twice as many
// runnable threads as processors. A timeout on such a machine is not evidence
// of a bug.
func (e *TimeoutError) Busy() bool { return e.After >= 2*e.Limit }

func (e *TimeoutError) Error() string {
	if e.Busy() {
		return fmt.Sprintf("not within %v of a free machine's time, which were %v on this busy one", e.Limit, e.After.Round(time.Second))
	}
	return fmt.Sprintf("not within %v", e.Limit)
}

// WithTimeout returns a context that ends with ctx, or with a *TimeoutError as
// its cause when limit has passed. While the machine has n times as many
// runnable threads as processors, time counts as an nth, since a thread gets
// that share of a processor. On a machine that stays busy the context ends
// after ten times limit. Systems other than Linux do not report the number of
// threads; there time counts in full.
func WithTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return withTimeout(ctx, limit, crowd)
}

func withTimeout(ctx context.Context, limit time.Duration, crowd func() float64) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	begun := time.Now()
	go func() {
		tick := time.NewTicker(sample)
		defer tick.Stop()
		passed, last := time.Duration(0), begun
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := time.Now()
			passed += time.Duration(float64(now.Sub(last)) / crowd())
			last = now
			if after := now.Sub(begun); passed >= limit || after >= most*limit {
				cancel(&TimeoutError{limit, after})
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// crowd returns the number of runnable threads for each processor, at least 1.
func crowd() float64 {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 1
	}
	return max(1, running(stat)/float64(runtime.NumCPU()))
}

// running returns the number of runnable threads, 0 if stat does not contain
// it.
func running(stat []byte) float64 {
	_, after, _ := bytes.Cut(stat, []byte("\nprocs_running "))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	n, _ := strconv.ParseFloat(string(line), 64)
	return n
}
