package namedlock

import (
	"context"
	"time"
)

// Do is WithLock for a function that returns a value. Where the lock was not
// acquired the value is zero. Otherwise it is what fn returned, also beside an
// error: fn's own, or one that matches ErrLost, which says that others may have had
// the lock while the value was made. The error is that of l.WithLock. After a panic
// or Goexit of fn, Do does not return.
func Do[T any](ctx context.Context, l Interface, name string, timeout time.Duration, fn func(ctx context.Context) (T, error)) (T, error) {
	var value T
	if fn == nil {
		return value, acquireError(name, errNoFunction)
	}
	err := l.WithLock(ctx, name, timeout, func(ctx context.Context) (err error) {
		value, err = fn(ctx)
		return err
	})
	return value, err
}
