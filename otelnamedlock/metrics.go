package otelnamedlock

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/go-namedlock/namedlock"
)

// metrics are those that are recorded as it happens.
type metrics struct {
	wait metric.Float64Histogram
	hold metric.Float64Histogram
}

func newMetrics(meter metric.Meter) (m metrics, err error) {
	m.wait, err = meter.Float64Histogram("db.client.operation.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Duration of database client operations: of calls until they have a named lock, or an error."),
		metric.WithExplicitBucketBoundaries(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)) // as the conventions say
	if err != nil {
		return m, err
	}
	m.hold, err = meter.Float64Histogram("namedlock.hold.duration",
		metric.WithUnit("s"),
		metric.WithDescription("How long named locks were held, until they were released or lost."),
		metric.WithExplicitBucketBoundaries(0.001, 0.01, 0.1, 1, 10, 60, 300, 1800, 3600, 4*3600))
	return m, err
}

func record(ctx context.Context, h metric.Float64Histogram, d time.Duration, attributes []attribute.KeyValue) {
	h.Record(ctx, d.Seconds(), metric.WithAttributes(attributes...))
}

// observeStats has the Stats reported whenever metrics are collected.
func observeStats(meter metric.Meter, stats func() namedlock.Stats, attributes []attribute.KeyValue) (metric.Registration, error) {
	type observable struct {
		instrument metric.Int64Observable
		value      func(namedlock.Stats) int64
	}
	var all []observable
	var instruments []metric.Observable
	var failed error
	add := func(instrument metric.Int64Observable, err error, value func(namedlock.Stats) int64) {
		all = append(all, observable{instrument, value})
		instruments = append(instruments, instrument)
		failed = errors.Join(failed, err)
	}
	counter := func(name, unit, description string, value func(namedlock.Stats) int64) {
		i, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		add(i, err, value)
	}
	// What can be added up over processes is no gauge.
	now := func(name, unit, description string, value func(namedlock.Stats) int64) {
		i, err := meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		add(i, err, value)
	}
	counter("namedlock.acquired", "{lock}", "Locks acquired.", func(s namedlock.Stats) int64 { return s.Acquired })
	counter("namedlock.timeouts", "{call}", "Calls that ended with ErrTimeout.", func(s namedlock.Stats) int64 { return s.Timeouts })
	counter("namedlock.failures", "{call}", "Calls that ended with any other error.", func(s namedlock.Stats) int64 { return s.Failed })
	counter("namedlock.lost", "{lock}", "Locks that were not provably held to the end.", func(s namedlock.Stats) int64 { return s.Lost })
	counter("namedlock.handoffs", "{lock}", "Locks passed on within the process.", func(s namedlock.Stats) int64 { return s.HandOffs })
	now("namedlock.held", "{lock}", "Locks held now.", func(s namedlock.Stats) int64 { return int64(s.Held) })
	now("namedlock.waiting", "{call}", "Calls that have no lock yet.", func(s namedlock.Stats) int64 { return int64(s.Waiting) })
	now("namedlock.sessions", "{connection}", "Connections taken from the db.", func(s namedlock.Stats) int64 { return int64(s.Sessions) })
	if failed != nil {
		return nil, failed
	}

	with := metric.WithAttributeSet(attribute.NewSet(attributes...))
	return meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		s := stats()
		for _, o := range all {
			observer.ObserveInt64(o.instrument, o.value(s), with)
		}
		return nil
	}, instruments...)
}
