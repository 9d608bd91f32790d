package otelnamedlock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-namedlock/namedlock"
)

const (
	nameKey    = attribute.Key("namedlock.name")
	namesKey   = attribute.Key("namedlock.names")
	classKey   = attribute.Key("namedlock.class")
	methodKey  = attribute.Key("namedlock.method")
	timeoutKey = attribute.Key("namedlock.timeout")
	outcomeKey = attribute.Key("namedlock.outcome")
	triedKey   = attribute.Key("namedlock.tried")
)

// A call is one call for one or more locks. It waits, and then holds them.
type call struct {
	telemetry *telemetry
	event     namedlock.Event
	class     string
	parent    trace.Span // of the caller
	begun     time.Time
	wait      trace.Span

	acquired time.Time
	hold     trace.Span  // not nil in a later hook for a lock: startWait has panicked, and the call is that of the lock around it
	unwatch  func() bool // ends the watch for a loss
	loss     sync.Once   // a loss is recorded once: when it is noticed, or at the end
}

// startWait is the hook for the begin of a call.
func (t *telemetry) startWait(ctx context.Context, e namedlock.Event) context.Context {
	c := &call{telemetry: t, event: e, parent: trace.SpanFromContext(ctx), begun: time.Now()}
	if t.options.class != nil {
		c.class = t.options.class(e.Name)
	}
	attributes := append(c.ofSpan(), getLock)
	if e.Timeout != namedlock.Forever {
		attributes = append(attributes, timeoutKey.Float64(e.Timeout.Seconds()))
	}
	c.showCounters(ctx)
	t.metrics.waiting.Add(ctx, 1, c.labels())
	ctx, c.wait = t.tracer.Start(ctx, c.spanName("GET_LOCK"),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...), trace.WithTimestamp(c.begun))
	return context.WithValue(ctx, callKey{t}, c)
}

// showCounters makes the counters of a class begin at 0. A counter that begins
// at 1 does not increase, so an alert would miss the first lost lock.
func (c *call) showCounters(ctx context.Context) {
	t := c.telemetry
	if _, shown := t.shown.LoadOrStore(c.class, true); shown {
		return
	}
	for _, counter := range []metric.Int64Counter{t.metrics.acquired, t.metrics.failures, t.metrics.lost} {
		counter.Add(ctx, 0, c.labels())
	}
	for _, tried := range []bool{false, true} {
		t.metrics.timeouts.Add(ctx, 0, c.labels(triedKey.Bool(tried)))
	}
	t.metrics.held.Add(ctx, 0, c.labels())
}

var getLock = semconv.DBOperationName("GET_LOCK")

// ofAll returns the attributes of all spans and metrics, followed by more.
func (c *call) ofAll(more ...attribute.KeyValue) []attribute.KeyValue {
	all := slices.Concat(c.telemetry.options.attributes, more)
	if c.class != "" {
		all = append(all, classKey.String(c.class))
	}
	return all
}

// ofSpan returns the attributes of both spans.
func (c *call) ofSpan() []attribute.KeyValue {
	named := nameKey.String(c.event.Name)
	if c.event.Names != nil {
		named = namesKey.StringSlice(c.event.Names)
	}
	return c.ofAll(named, methodKey.String(c.event.Method))
}

// labels are the attributes of a metric.
func (c *call) labels(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributes(c.ofAll(more...)...)
}

func (c *call) spanName(what string) string {
	if c.class != "" {
		return what + " " + c.class
	}
	return what
}

// endWait is the hook for a call that has failed.
func (t *telemetry) endWait(ctx context.Context, e namedlock.Event) {
	c := t.callIn(ctx)
	if c == nil || c.hold != nil {
		return
	}
	result := namedlock.ErrorType(e.Err)
	attributes := []attribute.KeyValue{outcomeKey.String(result)}
	if errors.Is(e.Err, namedlock.ErrTimeout) {
		t.metrics.timeouts.Add(ctx, 1, c.labels(triedKey.Bool(e.Timeout == 0)))
	} else {
		t.metrics.failures.Add(ctx, 1, c.labels())
	}
	// Without a wait, a lock that is held is an answer, and not an error. Without
	// a session, it is not known whether the lock is held.
	if e.Timeout != 0 || !errors.Is(e.Err, namedlock.ErrTimeout) || errors.Is(e.Err, namedlock.ErrNoSession) {
		attributes = append(attributes, semconv.ErrorTypeKey.String(result))
		c.wait.SetStatus(codes.Error, e.Err.Error())
	}
	c.waited(ctx, e, attributes)
}

// waited ends the wait.
func (c *call) waited(ctx context.Context, e namedlock.Event, attributes []attribute.KeyValue) {
	c.telemetry.metrics.waiting.Add(ctx, -1, c.labels())
	c.telemetry.metrics.wait.Record(ctx, e.Waited.Seconds(), c.labels(append(attributes, getLock)...))
	c.wait.SetAttributes(attributes...)
	c.wait.End(trace.WithTimestamp(c.begun.Add(e.Waited)))
}

// startHold is the hook for a call that has its lock. ctx is that of the code
// under the lock.
func (t *telemetry) startHold(ctx context.Context, e namedlock.Event) context.Context {
	c := t.callIn(ctx)
	switch {
	case c == nil:
		return nil
	case c.hold != nil:
		return context.WithValue(ctx, callKey{t}, (*call)(nil))
	}
	c.acquired = c.begun.Add(e.Waited)
	t.metrics.acquired.Add(ctx, 1, c.labels())
	t.metrics.held.Add(ctx, 1, c.labels())
	c.waited(ctx, e, []attribute.KeyValue{outcomeKey.String("acquired")})
	parent := c.parent
	if !parent.SpanContext().IsValid() {
		parent = c.wait
	}
	held := ctx
	ctx, c.hold = t.tracer.Start(trace.ContextWithSpan(ctx, parent), c.spanName("HOLD"), trace.WithAttributes(c.ofSpan()...),
		trace.WithLinks(trace.Link{SpanContext: c.wait.SpanContext()}), trace.WithTimestamp(c.acquired))
	c.unwatch = context.AfterFunc(held, func() {
		if lost := c.lost(context.Cause(held)); lost != nil {
			c.recordLoss(held, lost)
		}
	})
	return ctx
}

// lost returns cause if it is the loss of a lock of this call, and not of a
// lock around it.
func (c *call) lost(cause error) error {
	var e *namedlock.Error
	if errors.Is(cause, namedlock.ErrLost) && errors.As(cause, &e) && (e.Name == c.event.Name || slices.Contains(c.event.Names, e.Name)) {
		return cause
	}
	return nil
}

// recordLoss records the loss, once.
func (c *call) recordLoss(ctx context.Context, lost error) {
	c.loss.Do(func() {
		c.telemetry.metrics.lost.Add(context.WithoutCancel(ctx), 1, c.labels())
		c.hold.RecordError(lost)
	})
}

// endHold is the hook for a lock that is released, or that its release has
// found lost.
func (t *telemetry) endHold(ctx context.Context, e namedlock.Event) {
	c := t.callIn(ctx)
	if c == nil || c.hold == nil { // a tracer has panicked
		return
	}
	c.unwatch()
	if lost := c.lost(context.Cause(ctx)); lost != nil {
		c.recordLoss(ctx, lost) // the context of the code may end before the watch notices
	}
	ctx = context.WithoutCancel(ctx)
	result := outcomeKey.String("released")
	if e.Err != nil {
		c.recordLoss(ctx, e.Err)
		result = outcomeKey.String("lost")
	}
	switch {
	case e.Panicked:
		c.fail(errorTypePanic, "code under the lock panicked or called runtime.Goexit")
	case e.Returned != nil:
		c.fail(semconv.ErrorType(e.Returned), e.Returned.Error())
	}
	if e.Err != nil {
		c.fail(semconv.ErrorTypeKey.String("lost"), e.Err.Error())
	}
	t.metrics.held.Add(ctx, -1, c.labels())
	t.metrics.hold.Record(ctx, e.HeldFor.Seconds(), c.labels(result))
	c.hold.SetAttributes(result)
	c.hold.End(trace.WithTimestamp(c.acquired.Add(e.HeldFor)))
}

var errorTypePanic = semconv.ErrorTypeKey.String("panic")

func (c *call) fail(errorType attribute.KeyValue, description string) {
	c.hold.SetAttributes(errorType)
	c.hold.SetStatus(codes.Error, description)
}
