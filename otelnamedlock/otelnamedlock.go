// Package otelnamedlock reports named locks to OpenTelemetry: the waits and the
// holds, their callers, durations and outcomes.
//
//	locker, err := namedlock.Open(db, otelnamedlock.WithTelemetry())
//	...
//	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, report.Run)
//
// # Traces
//
// A call makes a span GET_LOCK (kind client) for the wait and, if it gets the
// lock, a span HOLD (kind internal) for the time until it is released. Both are
// children of the caller's span; without one, HOLD is a child of GET_LOCK. HOLD
// links to GET_LOCK. It is the span in the ctx of the code under the lock.
//
// The attributes are those of the semantic conventions for database clients,
// and:
//
//	namedlock.name     the lock's name as the caller wrote it
//	namedlock.names    instead of namedlock.name, in the spans of WithLocks: all names
//	namedlock.class    the class of the name, by WithClass
//	namedlock.method   the called method of the Locker
//	namedlock.timeout  in seconds; none for namedlock.Forever
//	namedlock.outcome  the outcome
//
// The outcome of a wait is acquired, or namedlock.ErrorType of its error, for
// example timeout, no_session or canceled. The outcome of a hold is released or
// lost. A wait without success has the status Error, with its outcome as
// error.type. A call with a timeout of 0 that finds the lock held does not have
// the status Error. A hold has the status Error if the lock was lost, or if the
// code under it returned an error, panicked or called runtime.Goexit. A loss is
// recorded when it is noticed.
//
// # Metrics
//
//	db.client.operation.duration  histogram, s: the waits, with namedlock.outcome
//	namedlock.hold.duration       histogram, s: the holds, with namedlock.outcome
//	namedlock.acquired            counter: locks acquired
//	namedlock.timeouts            counter: calls that ended with ErrTimeout; namedlock.tried is true for those with timeout 0
//	namedlock.failures            counter: calls that ended with any other error
//	namedlock.lost                counter: locks lost while held or before their release, when the loss is noticed
//	namedlock.held                up-down counter: locks held now
//	namedlock.waiting             up-down counter: calls that are waiting now
//	namedlock.handoffs            counter: locks passed on within the process
//	namedlock.sessions            up-down counter: connections taken now
//	namedlock.sessions.unwatched  up-down counter: those whose loss is noticed by keep-alive only
//
// All metrics except the last three have namedlock.class, if there is a class.
// A call of WithLocks counts once. The name is not an attribute of any metric,
// since there may be too many names. Use WithClass to map the names to a small
// number of classes.
package otelnamedlock

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-namedlock/namedlock"
)

// WithTelemetry is an option for namedlock.Open and New. The Locker then
// exports spans and metrics to OpenTelemetry. Open and New return an error if
// one of opts is invalid. One WithTelemetry may be passed to several Lockers,
// whose metrics then add up.
func WithTelemetry(opts ...Option) namedlock.Option {
	t := new(telemetry)
	if err := t.init(opts); err != nil {
		return namedlock.WithHooks(namedlock.Hooks{Opened: func(*namedlock.Locker) error { return err }})
	}
	return namedlock.WithHooks(namedlock.Hooks{
		Opened:         t.opened,
		Closed:         t.closed,
		AcquireStarted: t.startWait,
		Acquired:       t.startHold,
		Failed:         t.endWait,
		Released:       t.endHold,
	})
}

// scope is the name of the instrumentation.
const scope = "github.com/go-namedlock/namedlock/otelnamedlock"

// A telemetry is the state of one WithTelemetry.
type telemetry struct {
	options options
	tracer  trace.Tracer
	meter   metric.Meter
	metrics metrics
	shown   sync.Map // the classes whose counters are exported; there are few

	mu            sync.Mutex // guards what follows
	registrations map[*namedlock.Locker]metric.Registration
}

func (t *telemetry) init(opts []Option) (err error) {
	if t.options, err = collect(opts); err != nil {
		return err
	}
	t.registrations = make(map[*namedlock.Locker]metric.Registration)
	t.tracer = t.options.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	t.meter = t.options.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	t.metrics, err = newMetrics(t.meter)
	return err
}

// opened exports the Locker's Stats, until the Locker is closed.
func (t *telemetry) opened(l *namedlock.Locker) error {
	registration, err := t.metrics.observe(t.meter, l.Stats, t.options.attributes)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.registrations[l] = registration
	return nil
}

func (t *telemetry) closed(l *namedlock.Locker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if registration := t.registrations[l]; registration != nil { // nil: the meter has panicked
		_ = registration.Unregister()
		delete(t.registrations, l)
	}
}

// callKey is the key of a call in its context.
type callKey struct{ *telemetry }

// callIn returns the call of ctx, nil if its hooks have not begun it.
func (t *telemetry) callIn(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{t}).(*call)
	return c
}
