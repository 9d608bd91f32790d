package otelnamedlock

import (
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// An Option changes a default of WithTelemetry.
type Option func(*options) error

type options struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	attributes []attribute.KeyValue // of everything
	class      func(name string) string
}

func collect(opts []Option) (options, error) {
	o := options{
		tracers:    otel.GetTracerProvider(),
		meters:     otel.GetMeterProvider(),
		attributes: []attribute.KeyValue{semconv.DBSystemNameMySQL},
	}
	for i, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("otelnamedlock: option %d is nil", i)
		}
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	unique := attribute.NewSet(o.attributes...) // of equal keys, the last
	o.attributes = unique.ToSlice()
	return o, nil
}

// WithTracerProvider sets where spans go. The default is the global provider.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(o *options) error {
		if p == nil {
			return errors.New("otelnamedlock: WithTracerProvider(nil): leave the option out for the global one")
		}
		o.tracers = p
		return nil
	}
}

// WithMeterProvider sets where metrics go. The default is the global provider.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(o *options) error {
		if p == nil {
			return errors.New("otelnamedlock: WithMeterProvider(nil): leave the option out for the global one")
		}
		o.meters = p
		return nil
	}
}

// WithAttributes adds attributes to all spans and metrics, for example the
// server: semconv.DBSystemNameMariaDB and semconv.ServerAddress("db.internal").
// The default of db.system.name is mysql.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(o *options) error {
		o.attributes = append(o.attributes, attributes...)
		return nil
	}
}

// WithClass adds the attribute namedlock.class to spans and metrics. class maps
// a lock's name to its class, for example "invoices-42" to "invoices". Use a
// small number of classes. An empty class is left out. For a call with several
// names, class gets the first one. The class is also part of the span's name.
func WithClass(class func(name string) string) Option {
	return func(o *options) error {
		if class == nil {
			return errors.New("otelnamedlock: WithClass(nil): leave the option out to have no classes")
		}
		o.class = class
		return nil
	}
}
