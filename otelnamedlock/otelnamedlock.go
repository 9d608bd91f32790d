// Package otelnamedlock shows named locks in OpenTelemetry: how long they are waited
// for and held, by whom, and how that ends.
//
//	locks, err := namedlock.Open(db)
//	...
//	locker, err := otelnamedlock.New(locks)
//	...
//	defer locker.Close()
//	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, report.Run)
//
// # Traces
//
// A call makes a span GET_LOCK (kind client) for the wait and, if it gets the lock, a
// span HOLD (kind internal) for the time until it is released. Both are children of
// the caller's span; without one, HOLD is a child of GET_LOCK. HOLD links to
// GET_LOCK, and is the span in the ctx that the code under the lock gets.
//
// Attributes are those of the semantic conventions for database clients, and:
//
//	namedlock.name     the lock's name as the caller wrote it
//	namedlock.names    all of them, in its place, in the spans of WithLocks
//	namedlock.class    what WithClass makes of it
//	namedlock.timeout  in seconds; none for namedlock.Forever
//	namedlock.outcome  how it ended
//
// The outcome of a wait is acquired, timeout, held, deadlock, interrupted, unavailable,
// invalid_name, invalid_timeout, unsupported, closed, canceled, deadline_exceeded or
// error; that of a hold is released or lost. A wait without success has the status
// Error, and its outcome as error.type; but a call with a timeout of 0 that finds the
// lock taken has its answer, which is no error. A hold has the status Error if the
// lock was lost, which is recorded when it is noticed; or if the code under it
// returned an error, panicked or called runtime.Goexit.
//
// # Metrics
//
//	db.client.operation.duration  histogram, s: the waits, with namedlock.outcome
//	namedlock.hold.duration       histogram, s: the holds, with namedlock.outcome
//	namedlock.acquired            counter: locks acquired
//	namedlock.timeouts            counter: calls that ended with ErrTimeout
//	namedlock.failures            counter: calls that ended with any other error
//	namedlock.lost                counter: locks not provably held to the end
//	namedlock.handoffs            counter: locks passed on within the process
//	namedlock.held                up-down counter: locks held now
//	namedlock.waiting             up-down counter: calls that wait now
//	namedlock.sessions            up-down counter: connections taken now
//
// The counters are the Locker's Stats. Names are no attribute of any metric, since
// there may be as many as there are customers; WithClass gives the histograms one
// that is safe.
package otelnamedlock

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-namedlock/namedlock"
)

// Locks is what can be wrapped: a *namedlock.Locker or, in tests, a *locktest.Locker.
type Locks interface {
	namedlock.Interface
	WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error
	WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error
	Acquire(ctx context.Context, name string, timeout time.Duration) (*namedlock.Lock, error)
	Holder(ctx context.Context, name string) (namedlock.Holder, bool, error)
	Holders(ctx context.Context, prefix string) ([]namedlock.Holder, error)
	Stats() namedlock.Stats
	Close() error
}

// A Locker does what the Locker that it wraps does, and tells OpenTelemetry. Its
// methods have the same contracts.
type Locker struct {
	locks        Locks
	options      options
	tracer       trace.Tracer
	metrics      metrics
	registration metric.Registration
}

var _ namedlock.Interface = (*Locker)(nil)

// New returns a Locker that wraps locks. Close it instead of locks.
func New(locks Locks, opts ...Option) (*Locker, error) {
	if locks == nil {
		return nil, errors.New("otelnamedlock: New needs a Locker, not nil")
	}
	o, err := collect(opts)
	if err != nil {
		return nil, err
	}
	l := &Locker{locks: locks, options: o, tracer: o.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
	meter := o.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	if l.metrics, err = newMetrics(meter); err != nil {
		return nil, err
	}
	if l.registration, err = observeStats(meter, locks.Stats, o.attributes); err != nil {
		return nil, err
	}
	return l, nil
}

// scope is the name of the instrumentation.
const scope = "github.com/go-namedlock/namedlock/otelnamedlock"

// WithLock is that of a *namedlock.Locker.
func (l *Locker) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error {
	if ctx == nil || fn == nil {
		return l.locks.WithLock(ctx, name, timeout, fn) // says what is wrong
	}
	w := l.startWait(ctx, timeout, nameKey.String(name), name)
	return w.run(fn, func(ctx context.Context, fn func(ctx context.Context) error) error {
		return l.locks.WithLock(ctx, name, timeout, fn)
	})
}

// WithLockTx is that of a *namedlock.Locker. The span of the hold has the transaction in it.
func (l *Locker) WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	if ctx == nil || fn == nil {
		return l.locks.WithLockTx(ctx, name, timeout, opts, fn) // says what is wrong
	}
	w := l.startWait(ctx, timeout, nameKey.String(name), name)
	var tx *sql.Tx
	return w.run(func(ctx context.Context) error { return fn(ctx, tx) }, func(ctx context.Context, fn func(ctx context.Context) error) error {
		return l.locks.WithLockTx(ctx, name, timeout, opts, func(ctx context.Context, begun *sql.Tx) error {
			tx = begun
			return fn(ctx)
		})
	})
}

// WithLocks is that of a *namedlock.Locker. All of its locks together have one span for
// the wait and one for the hold.
func (l *Locker) WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error {
	if ctx == nil || fn == nil {
		return l.locks.WithLocks(ctx, names, timeout, fn) // says what is wrong
	}
	w := l.startWait(ctx, timeout, namesKey.StringSlice(names), names...)
	return w.run(fn, func(ctx context.Context, fn func(ctx context.Context) error) error {
		return l.locks.WithLocks(ctx, names, timeout, fn)
	})
}

// run runs withLock, and under its lock fn. Nothing that is done for OpenTelemetry is
// done outside of withLock while the lock is held: so the lock is released whatever
// becomes of it.
func (w *wait) run(fn func(ctx context.Context) error, withLock func(ctx context.Context, fn func(ctx context.Context) error) error) error {
	var h *hold
	var failed, lost error
	defer func() {
		if h != nil {
			h.end(failed, lost)
		}
	}()
	// The error of fn goes around withLock, whose own is then that of the lock alone.
	lost = withLock(w.ctx, func(ctx context.Context) error {
		w.end(nil)
		var unwatch func() bool
		h, unwatch = w.startHold(ctx, (*hold).recordLoss)
		h.inside = true
		failed = fn(h.ctx)
		h.inside = false
		unwatch()
		return nil
	})
	switch {
	case h == nil:
		w.end(lost)
		return lost
	case failed == nil:
		return lost
	case lost == nil:
		return failed
	}
	return errors.Join(failed, lost)
}

// Acquire is that of a *namedlock.Locker. The HOLD span ends when the lock is released
// or lost.
func (l *Locker) Acquire(ctx context.Context, name string, timeout time.Duration) (*Lock, error) {
	if ctx == nil {
		_, err := l.locks.Acquire(ctx, name, timeout) // says what is wrong
		return nil, err
	}
	w := l.startWait(ctx, timeout, nameKey.String(name), name)
	lock, err := l.locks.Acquire(w.ctx, name, timeout)
	if err != nil {
		w.end(err)
		return nil, err
	}
	handedOut := false
	defer func() {
		if !handedOut {
			_ = lock.Release() // a tracer has panicked
		}
	}()
	w.end(nil)
	h, unwatch := w.startHold(lock.Context(), func(h *hold, lost error) { h.end(nil, lost) })
	handedOut = true
	return &Lock{lock: lock, hold: h, unwatch: unwatch}, nil
}

// Holder is that of a *namedlock.Locker.
func (l *Locker) Holder(ctx context.Context, name string) (namedlock.Holder, bool, error) {
	return l.locks.Holder(ctx, name)
}

// Holders is that of a *namedlock.Locker.
func (l *Locker) Holders(ctx context.Context, prefix string) ([]namedlock.Holder, error) {
	return l.locks.Holders(ctx, prefix)
}

// Stats returns those of the Locker that l wraps.
func (l *Locker) Stats() namedlock.Stats { return l.locks.Stats() }

// Close closes the Locker that l wraps, which waits until all locks are released.
// Then its Stats are not reported any more. What has happened since they were last
// collected shows if the meter provider is flushed before.
func (l *Locker) Close() error {
	return errors.Join(l.locks.Close(), l.registration.Unregister())
}

// A Lock is a *namedlock.Lock, and its span.
type Lock struct {
	lock    *namedlock.Lock
	hold    *hold
	unwatch func() bool
}

// Name returns the lock's name as it was given to Acquire.
func (k *Lock) Name() string { return k.lock.Name() }

// Context is that of a *namedlock.Lock, with the HOLD span in it.
func (k *Lock) Context() context.Context { return k.hold.ctx }

// Release is that of a *namedlock.Lock.
func (k *Lock) Release() error {
	k.unwatch()
	err := k.lock.Release()
	k.hold.end(nil, err)
	return err
}
