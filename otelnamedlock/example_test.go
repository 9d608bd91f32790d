package otelnamedlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/go-namedlock/namedlock/locktest"
	"github.com/go-namedlock/namedlock/otelnamedlock"
)

// The spans and metrics of a service. In production the Locker is from
// namedlock.Open, and the providers export to a collector. If they are the
// global providers, leave them out here. The code that prints is below.
func Example() {
	ctx := context.Background()
	spans := tracetest.NewInMemoryExporter()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	reader := metric.NewManualReader()
	meters := metric.NewMeterProvider(metric.WithReader(reader))

	locker := locktest.New(otelnamedlock.WithTelemetry( // in production, namedlock.Open(db, ...)
		otelnamedlock.WithTracerProvider(tracers),
		otelnamedlock.WithMeterProvider(meters),
		otelnamedlock.WithAttributes(semconv.DBSystemNameMariaDB, semconv.ServerAddress("db.internal")),
		otelnamedlock.WithClass(func(name string) string { // "invoices" of "invoices-42"
			class, _, _ := strings.Cut(name, "-")
			return class
		}),
	))
	defer locker.Close()

	// One request acquires its lock, one loses its lock, and one times out.
	ctx, request := tracers.Tracer("service").Start(ctx, "POST /invoices")
	_ = locker.WithLock(ctx, "invoices-42", 5*time.Second, func(ctx context.Context) error { return nil })
	_ = locker.WithLock(ctx, "invoices-43", 5*time.Second, func(ctx context.Context) error {
		locker.Lose("invoices-43") // as a restart of the server does
		<-ctx.Done()
		return errors.New("stopped in the middle")
	})
	defer locker.HoldElsewhere("invoices-44")()
	_ = locker.WithLock(ctx, "invoices-44", 10*time.Millisecond, func(ctx context.Context) error { return nil })
	request.End()

	printSpans(spans.GetSpans())
	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	printMetrics(collected)
	// Output:
	// GET_LOCK invoices in POST /invoices: name=invoices-42 outcome=acquired
	// HOLD invoices in POST /invoices: name=invoices-42 outcome=released
	// GET_LOCK invoices in POST /invoices: name=invoices-43 outcome=acquired
	// HOLD invoices in POST /invoices: name=invoices-43 outcome=lost, Error, 1 event
	// GET_LOCK invoices in POST /invoices: name=invoices-44 outcome=timeout, Error
	// POST /invoices
	//
	// db.client.operation.duration{class=invoices outcome=acquired} 2
	// db.client.operation.duration{class=invoices outcome=timeout} 1
	// namedlock.acquired{class=invoices} 2
	// namedlock.failures{class=invoices} 0
	// namedlock.handoffs{class=} 0
	// namedlock.held{class=invoices} 0
	// namedlock.hold.duration{class=invoices outcome=lost} 1
	// namedlock.hold.duration{class=invoices outcome=released} 1
	// namedlock.lost{class=invoices} 1
	// namedlock.timeouts{class=invoices} 0
	// namedlock.timeouts{class=invoices} 1
	// namedlock.waiting{class=invoices} 0
}

func printSpans(spans tracetest.SpanStubs) {
	names := make(map[string]string)
	for _, span := range spans {
		names[span.SpanContext.SpanID().String()] = span.Name
	}
	for _, span := range spans {
		line := span.Name
		if parent, ok := names[span.Parent.SpanID().String()]; ok {
			line += " in " + parent + ":"
		}
		for _, key := range []string{"name", "outcome"} {
			for _, attribute := range span.Attributes {
				if string(attribute.Key) == "namedlock."+key {
					line += " " + key + "=" + attribute.Value.AsString()
				}
			}
		}
		if code := span.Status.Code.String(); code != "Unset" {
			line += ", " + code
		}
		if n := len(span.Events); n > 0 {
			line += fmt.Sprintf(", %d event", n)
		}
		fmt.Println(line)
	}
	fmt.Println()
}

func printMetrics(collected metricdata.ResourceMetrics) {
	var lines []string
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if strings.HasPrefix(m.Name, "namedlock.sessions") {
				continue // goes from 1 to 0 a second after the last lock
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					class, _ := point.Attributes.Value("namedlock.class")
					lines = append(lines, fmt.Sprintf("%s{class=%s} %d", m.Name, class.AsString(), point.Value))
				}
			case metricdata.Histogram[float64]:
				for _, point := range data.DataPoints {
					class, _ := point.Attributes.Value("namedlock.class")
					outcome, _ := point.Attributes.Value("namedlock.outcome")
					lines = append(lines, fmt.Sprintf("%s{class=%s outcome=%s} %d", m.Name, class.AsString(), outcome.AsString(), point.Count))
				}
			}
		}
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
}
