package otelnamedlock

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/go-namedlock/namedlock"
)

// metrics are the instruments of one telemetry.
type metrics struct {
	wait, hold                         metric.Float64Histogram
	acquired, timeouts, failures, lost metric.Int64Counter
	held, waiting                      metric.Int64UpDownCounter

	// These are read from the Stats of a Locker. A value that can be added up over
	// processes is not a gauge.
	handOffs            metric.Int64ObservableCounter
	sessions, unwatched metric.Int64ObservableUpDownCounter
}

func newMetrics(meter metric.Meter) (m metrics, err error) {
	var failed error
	histogram := func(name, description string, bounds ...float64) metric.Float64Histogram {
		i, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		failed = errors.Join(failed, err)
		return i
	}
	counter := func(name, unit, description string) metric.Int64Counter {
		i, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		failed = errors.Join(failed, err)
		return i
	}
	now := func(name, unit, description string) metric.Int64UpDownCounter {
		i, err := meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		failed = errors.Join(failed, err)
		return i
	}
	m.wait = histogram("db.client.operation.duration", "Duration of database client operations: of calls until they got a named lock or an error.",
		0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10) // by the semantic conventions
	m.hold = histogram("namedlock.hold.duration", "How long named locks were held, until they were released or lost.",
		0.001, 0.01, 0.1, 1, 10, 60, 300, 1800, 3600, 4*3600)
	m.acquired = counter("namedlock.acquired", "{lock}", "Locks acquired.")
	m.timeouts = counter("namedlock.timeouts", "{call}", "Calls that ended with ErrTimeout.")
	m.failures = counter("namedlock.failures", "{call}", "Calls that ended with any other error.")
	m.lost = counter("namedlock.lost", "{lock}", "Locks that were lost while held, or before their release.")
	m.held = now("namedlock.held", "{lock}", "Locks held now.")
	m.waiting = now("namedlock.waiting", "{call}", "Calls that are waiting for a lock.")

	m.handOffs, err = meter.Int64ObservableCounter("namedlock.handoffs", metric.WithUnit("{lock}"), metric.WithDescription("Locks passed on within the process."))
	failed = errors.Join(failed, err)
	m.sessions, err = meter.Int64ObservableUpDownCounter("namedlock.sessions", metric.WithUnit("{connection}"), metric.WithDescription("Connections taken from the db."))
	failed = errors.Join(failed, err)
	m.unwatched, err = meter.Int64ObservableUpDownCounter("namedlock.sessions.unwatched", metric.WithUnit("{connection}"), metric.WithDescription("Connections whose loss is noticed by keep-alive only."))
	return m, errors.Join(failed, err)
}

// observe has the Stats reported whenever metrics are collected.
func (m *metrics) observe(meter metric.Meter, stats func() namedlock.Stats, attributes []attribute.KeyValue) (metric.Registration, error) {
	with := metric.WithAttributeSet(attribute.NewSet(attributes...))
	return meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		s := stats()
		observer.ObserveInt64(m.handOffs, s.HandOffs, with)
		observer.ObserveInt64(m.sessions, int64(s.Sessions), with)
		observer.ObserveInt64(m.unwatched, int64(s.Unwatched), with)
		return nil
	}, m.handOffs, m.sessions, m.unwatched)
}
