package otelnamedlock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-namedlock/namedlock"
)

const (
	nameKey    = attribute.Key("namedlock.name")
	namesKey   = attribute.Key("namedlock.names")
	classKey   = attribute.Key("namedlock.class")
	timeoutKey = attribute.Key("namedlock.timeout")
	outcomeKey = attribute.Key("namedlock.outcome")
)

// A wait is a call until it has the lock, or all of its locks, or its error.
type wait struct {
	locker  *Locker
	caller  context.Context
	names   []string
	named   attribute.KeyValue // by them
	timeout time.Duration
	class   string
	begun   time.Time
	span    trace.Span
	ctx     context.Context // the caller's, with the span in it
}

func (l *Locker) startWait(ctx context.Context, timeout time.Duration, named attribute.KeyValue, names ...string) *wait {
	w := &wait{locker: l, caller: ctx, names: names, named: named, timeout: timeout}
	if l.options.class != nil && len(names) > 0 {
		w.class = l.options.class(names[0])
	}
	attributes := append(w.attributes(named), getLock)
	if timeout != namedlock.Forever {
		attributes = append(attributes, timeoutKey.Float64(timeout.Seconds()))
	}
	w.begun = time.Now()
	w.ctx, w.span = l.tracer.Start(ctx, w.spanName("GET_LOCK"),
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...), trace.WithTimestamp(w.begun))
	return w
}

var getLock = semconv.DBOperationName("GET_LOCK")

// attributes returns those that all have, and more.
func (w *wait) attributes(more ...attribute.KeyValue) []attribute.KeyValue {
	all := slices.Concat(w.locker.options.attributes, more)
	if w.class != "" {
		all = append(all, classKey.String(w.class))
	}
	return all
}

func (w *wait) spanName(what string) string {
	if w.class != "" {
		return what + " " + w.class
	}
	return what
}

// end is the end of the wait, by a lock or by err.
func (w *wait) end(err error) {
	took := time.Since(w.begun)
	result := []attribute.KeyValue{outcomeKey.String(outcome(err))}
	switch {
	case err == nil:
	case w.timeout == 0 && errors.Is(err, namedlock.ErrTimeout):
		// The question whether the lock is free has been answered.
	default:
		result = append(result, semconv.ErrorTypeKey.String(outcome(err)))
		w.span.SetStatus(codes.Error, err.Error())
	}
	w.span.SetAttributes(result...)
	w.span.End(trace.WithTimestamp(w.begun.Add(took)))
	record(w.ctx, w.locker.metrics.wait, took, w.attributes(append(result, getLock)...))
}

// outcomes are the errors of a wait. A context may have ended because another lock was
// lost or timed out: it is looked at first.
var outcomes = []struct {
	err  error
	name string
}{
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "deadline_exceeded"},
	{namedlock.ErrTimeout, "timeout"},
	{namedlock.ErrReentrant, "held"},
	{namedlock.ErrDeadlock, "deadlock"},
	{namedlock.ErrInterrupted, "interrupted"},
	{namedlock.ErrUnavailable, "unavailable"},
	{namedlock.ErrInvalidName, "invalid_name"},
	{namedlock.ErrInvalidTimeout, "invalid_timeout"},
	{namedlock.ErrUnsupported, "unsupported"},
	{namedlock.ErrClosed, "closed"},
}

func outcome(err error) string {
	if err == nil {
		return "acquired"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "error"
}

// A hold is a lock from the end of the wait to the release.
type hold struct {
	wait   *wait
	begun  time.Time
	span   trace.Span
	ctx    context.Context // of the code under the lock, with the span in it
	inside bool            // that code has begun and not returned

	loss, over sync.Once
}

// startHold is called when the lock is held, with its context. atLoss is called, in
// another goroutine, if it is lost; not after unwatch.
func (w *wait) startHold(ctx context.Context, atLoss func(h *hold, lost error)) (_ *hold, unwatch func() bool) {
	h := &hold{wait: w, begun: time.Now()}
	parent := trace.SpanFromContext(w.caller)
	if !parent.SpanContext().IsValid() {
		parent = w.span
	}
	h.ctx, h.span = w.locker.tracer.Start(trace.ContextWithSpan(ctx, parent), w.spanName("HOLD"),
		trace.WithAttributes(w.attributes(w.named)...),
		trace.WithLinks(trace.Link{SpanContext: w.span.SpanContext()}), trace.WithTimestamp(h.begun))
	return h, context.AfterFunc(ctx, func() {
		if lost := h.lost(); lost != nil {
			atLoss(h, lost)
		}
	})
}

// lost returns the error if the end of the context has told the loss of this lock, or
// one of these, rather than that of another around it.
func (h *hold) lost() error {
	cause := context.Cause(h.ctx)
	var e *namedlock.Error
	if errors.Is(cause, namedlock.ErrLost) && errors.As(cause, &e) && slices.Contains(h.wait.names, e.Name) {
		return cause
	}
	return nil
}

// recordLoss records the loss, which more than one may notice, once.
func (h *hold) recordLoss(lost error) {
	h.loss.Do(func() { h.span.RecordError(lost) })
}

// end is the end of the hold: what the code under it returned, and what its release
// found. It may be called again, and does nothing then.
func (h *hold) end(failed, lost error) {
	h.over.Do(func() { h.finish(failed, lost) })
}

func (h *hold) finish(failed, lost error) {
	took := time.Since(h.begun)
	if cause := h.lost(); cause != nil {
		h.recordLoss(cause) // as the code under the lock was told, perhaps before the watch was
		if lost == nil {
			lost = cause // a panic keeps the error of the release to itself
		}
	}
	result := outcomeKey.String("released")
	if lost != nil {
		h.recordLoss(lost)
		result = outcomeKey.String("lost")
	}
	switch {
	case h.inside:
		h.fail(errorTypePanic, "the code under the lock panicked or called runtime.Goexit")
	case failed != nil:
		h.fail(semconv.ErrorType(failed), failed.Error())
	}
	if lost != nil {
		h.fail(semconv.ErrorTypeKey.String("lost"), lost.Error())
	}
	h.span.SetAttributes(result)
	h.span.End(trace.WithTimestamp(h.begun.Add(took)))
	record(h.ctx, h.wait.locker.metrics.hold, took, h.wait.attributes(result))
}

var errorTypePanic = semconv.ErrorTypeKey.String("panic")

func (h *hold) fail(errorType attribute.KeyValue, description string) {
	h.span.SetAttributes(errorType)
	h.span.SetStatus(codes.Error, description)
}
