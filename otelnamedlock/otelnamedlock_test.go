package otelnamedlock_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/go-namedlock/namedlock/otelnamedlock"
)

var ctx = context.Background()

func nothing(context.Context) error { return nil }

// A setup is a Locker of this package on one without a server, and what it has told.
type setup struct {
	*otelnamedlock.Locker
	locks  *locktest.Locker
	tracer trace.Tracer // of the code that takes locks
	spans  *tracetest.SpanRecorder
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

func newSetup(t *testing.T, opts ...otelnamedlock.Option) *setup {
	t.Helper()
	return wrap(t, locktest.New(), opts...)
}

func wrap(t *testing.T, locks *locktest.Locker, opts ...otelnamedlock.Option) *setup {
	t.Helper()
	s := &setup{locks: locks, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	s.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	s.tracer = tracers.Tracer("test")
	var err error
	s.Locker, err = otelnamedlock.New(locks, append([]otelnamedlock.Option{
		otelnamedlock.WithTracerProvider(tracers), otelnamedlock.WithMeterProvider(s.meters)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ended returns the spans of that name that have ended.
func (s *setup) ended(name string) (spans []sdktrace.ReadOnlySpan) {
	for _, span := range s.spans.Ended() {
		if span.Name() == name {
			spans = append(spans, span)
		}
	}
	return spans
}

// one returns the only span of that name, which has ended.
func (s *setup) one(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	spans := s.ended(name)
	require.Len(t, spans, 1, name)
	assert.Len(t, s.spans.Started(), len(s.spans.Ended()), "every span has ended")
	return spans[0]
}

func attributes(span sdktrace.ReadOnlySpan) map[string]any {
	all := make(map[string]any)
	for _, kv := range span.Attributes() {
		all[string(kv.Key)] = kv.Value.AsInterface()
	}
	return all
}

func length(span sdktrace.ReadOnlySpan) time.Duration { return span.EndTime().Sub(span.StartTime()) }

// The promises of the Locker are those of what it wraps.
func TestConformance(t *testing.T) {
	t.Parallel()
	locktest.Run(t, func(t *testing.T) func() locktest.Process {
		locks := locktest.New()
		t.Cleanup(func() { _ = locks.Close() })
		return func() locktest.Process {
			s := wrap(t, locks.Peer())
			return locktest.Process{
				Interface: s,
				Acquire: func(ctx context.Context, name string, timeout time.Duration) (locktest.Lock, error) {
					lock, err := s.Acquire(ctx, name, timeout)
					if err != nil {
						require.Nil(t, lock)
						return nil, err
					}
					return lock, nil
				},
				WithLocks: s.WithLocks,
				Close:     s.Close,
				Lose:      s.locks.Lose,
			}
		}
	})
}

func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithAttributes(semconv.DBSystemNameMariaDB, semconv.ServerAddress("db1")))
		release := s.locks.HoldElsewhere("report")
		time.AfterFunc(2*time.Second, release)

		caller, span := s.tracer.Start(ctx, "caller")
		var inside trace.Span
		require.NoError(t, s.WithLock(caller, "report", 5*time.Second, func(ctx context.Context) error {
			inside = trace.SpanFromContext(ctx)
			time.Sleep(3 * time.Second)
			return nil
		}))
		span.End()

		wait, hold := s.one(t, "GET_LOCK"), s.one(t, "HOLD")
		assert.Equal(t, span.SpanContext().SpanID(), wait.Parent().SpanID())
		assert.Equal(t, span.SpanContext().SpanID(), hold.Parent().SpanID())
		assert.Equal(t, trace.SpanKindClient, wait.SpanKind())
		assert.Equal(t, trace.SpanKindInternal, hold.SpanKind())
		require.Len(t, hold.Links(), 1)
		assert.Equal(t, wait.SpanContext(), hold.Links()[0].SpanContext)
		assert.Equal(t, inside.SpanContext(), hold.SpanContext(), "the code under the lock is under the span")
		assert.InDelta(t, 2*time.Second, length(wait), float64(100*time.Millisecond))
		assert.InDelta(t, 3*time.Second, length(hold), float64(100*time.Millisecond))
		assert.Equal(t, map[string]any{
			"db.system.name": "mariadb", "server.address": "db1", "db.operation.name": "GET_LOCK",
			"namedlock.name": "report", "namedlock.timeout": 5.0, "namedlock.outcome": "acquired",
		}, attributes(wait))
		assert.Equal(t, map[string]any{
			"db.system.name": "mariadb", "server.address": "db1",
			"namedlock.name": "report", "namedlock.outcome": "released",
		}, attributes(hold))
		assert.Equal(t, codes.Unset, wait.Status().Code)
		assert.Equal(t, codes.Unset, hold.Status().Code)
		assert.Equal(t, semconv.SchemaURL, wait.InstrumentationScope().SchemaURL)
	})
}

func TestSpansWithoutACallersSpan(t *testing.T) {
	s := newSetup(t)
	require.NoError(t, s.WithLock(ctx, "report", namedlock.Forever, nothing))
	wait, hold := s.one(t, "GET_LOCK"), s.one(t, "HOLD")
	assert.False(t, wait.Parent().IsValid())
	assert.Equal(t, wait.SpanContext().SpanID(), hold.Parent().SpanID(), "one trace")
	assert.NotContains(t, attributes(wait), "namedlock.timeout", "Forever is no number")
	assert.Equal(t, "mysql", attributes(wait)["db.system.name"], "by default")
}

func TestNestedLocksNestTheirSpans(t *testing.T) {
	s := newSetup(t, otelnamedlock.WithClass(func(name string) string { return name }))
	require.NoError(t, s.WithLock(ctx, "outer", time.Second, func(ctx context.Context) error {
		return s.WithLock(ctx, "inner", time.Second, nothing)
	}))
	outer := s.one(t, "HOLD outer")
	assert.Equal(t, outer.SpanContext().SpanID(), s.one(t, "GET_LOCK inner").Parent().SpanID())
	assert.Equal(t, outer.SpanContext().SpanID(), s.one(t, "HOLD inner").Parent().SpanID())
}

func TestWaitsInVain(t *testing.T) {
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancelLate := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancelLate()
	for _, test := range []struct {
		ctx     context.Context
		name    string
		timeout time.Duration
		err     error // of the next acquire
		outcome string
	}{
		{ctx, "busy", time.Millisecond, nil, "timeout"},
		{canceled, "x", time.Second, nil, "canceled"},
		{late, "x", time.Second, nil, "deadline_exceeded"},
		{ctx, "x", time.Second, namedlock.ErrReentrant, "held"},
		{ctx, "x", time.Second, namedlock.ErrDeadlock, "deadlock"},
		{ctx, "x", time.Second, namedlock.ErrInterrupted, "interrupted"},
		{ctx, "x", time.Second, errors.New("connection refused"), "unavailable"},
		{ctx, "", time.Second, nil, "invalid_name"},
		{ctx, "x", -1, nil, "invalid_timeout"},
		{ctx, "x", time.Second, namedlock.ErrUnsupported, "unsupported"},
		{ctx, "x", time.Second, namedlock.ErrClosed, "closed"},
	} {
		for _, method := range []string{"WithLock", "Acquire"} {
			t.Run(test.outcome+"/"+method, func(t *testing.T) {
				s := newSetup(t)
				defer s.locks.HoldElsewhere("busy")()
				if test.err != nil {
					s.locks.FailNextAcquire(test.err)
				}
				var err error
				if method == "WithLock" {
					err = s.WithLock(test.ctx, test.name, test.timeout, func(context.Context) error {
						t.Error("the function runs")
						return nil
					})
				} else {
					var lock *otelnamedlock.Lock
					lock, err = s.Acquire(test.ctx, test.name, test.timeout)
					assert.Nil(t, lock)
				}
				var e *namedlock.Error
				require.ErrorAs(t, err, &e)

				wait := s.one(t, "GET_LOCK")
				assert.Equal(t, test.outcome, attributes(wait)["namedlock.outcome"])
				assert.Equal(t, test.outcome, attributes(wait)["error.type"])
				assert.Equal(t, codes.Error, wait.Status().Code)
				assert.Equal(t, err.Error(), wait.Status().Description)
				assert.Empty(t, s.ended("HOLD"))
			})
		}
	}
}

func TestTryOnceIsAnsweredNotFailed(t *testing.T) {
	s := newSetup(t)
	defer s.locks.HoldElsewhere("report")()
	require.ErrorIs(t, s.WithLock(ctx, "report", 0, nothing), namedlock.ErrTimeout)
	wait := s.one(t, "GET_LOCK")
	assert.Equal(t, codes.Unset, wait.Status().Code)
	assert.Equal(t, "timeout", attributes(wait)["namedlock.outcome"])
	assert.NotContains(t, attributes(wait), "error.type")
	assert.Equal(t, 0.0, attributes(wait)["namedlock.timeout"])
}

// requireLost checks that the span tells a loss, and returns when it was noticed.
func requireLost(t *testing.T, span sdktrace.ReadOnlySpan) time.Time {
	t.Helper()
	assert.Equal(t, "lost", attributes(span)["namedlock.outcome"])
	assert.Equal(t, "lost", attributes(span)["error.type"])
	assert.Equal(t, codes.Error, span.Status().Code)
	require.Len(t, span.Events(), 1)
	event := span.Events()[0]
	assert.Equal(t, "exception", event.Name)
	assert.Contains(t, fmt.Sprint(event.Attributes), "*namedlock.Error")
	return event.Time
}

func TestLossIsRecordedWhenItIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		var lost time.Time
		err := s.WithLock(ctx, "report", time.Second, func(ctx context.Context) error {
			s.locks.Lose("report")
			<-ctx.Done()
			lost = time.Now()
			time.Sleep(time.Minute)
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		hold := s.one(t, "HOLD")
		assert.Equal(t, lost, requireLost(t, hold))
		assert.GreaterOrEqual(t, length(hold), time.Minute, "until the code has returned")
	})
}

func TestLossThatTheReleaseFinds(t *testing.T) {
	s := newSetup(t)
	s.locks.FailNextRelease(errors.New("connection reset"))
	own := errors.New("own")
	err := s.WithLock(ctx, "report", time.Second, func(context.Context) error { return own })
	require.ErrorIs(t, err, namedlock.ErrLost)
	require.ErrorIs(t, err, own)
	requireLost(t, s.one(t, "HOLD"))
}

// A lock under another Locker's has a context that ends with that one's loss, but is
// not lost itself.
func TestLossOfTheOuterLockIsNotThatOfTheInner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer := newSetup(t)
		inner := wrap(t, outer.locks.Peer())
		err := outer.WithLock(ctx, "outer", time.Second, func(ctx context.Context) error {
			return inner.WithLock(ctx, "inner", time.Second, func(ctx context.Context) error {
				outer.locks.Lose("outer")
				<-ctx.Done()
				return nil
			})
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		requireLost(t, outer.one(t, "HOLD"))
		hold := inner.one(t, "HOLD")
		assert.Equal(t, "released", attributes(hold)["namedlock.outcome"])
		assert.Empty(t, hold.Events())
	})
}

func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		caller, span := s.tracer.Start(ctx, "caller")
		lock, err := s.Acquire(caller, "report", time.Second)
		require.NoError(t, err)
		span.End()
		assert.Equal(t, "report", lock.Name())
		inside := trace.SpanFromContext(lock.Context())
		require.Len(t, s.ended("GET_LOCK"), 1)
		time.Sleep(time.Second)
		assert.Empty(t, s.ended("HOLD"))
		require.NoError(t, lock.Release())
		require.NoError(t, lock.Release())

		hold := s.one(t, "HOLD")
		assert.Equal(t, inside.SpanContext(), hold.SpanContext())
		assert.Equal(t, span.SpanContext().SpanID(), hold.Parent().SpanID())
		assert.Equal(t, "released", attributes(hold)["namedlock.outcome"])
		assert.GreaterOrEqual(t, length(hold), time.Second)
		assert.EqualValues(t, 1, s.histogram(t, "namedlock.hold.duration").Count, "a second Release is none")
		require.ErrorIs(t, context.Cause(lock.Context()), context.Canceled)
	})
}

func TestAcquiredSpanEndsAtTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		lock, err := s.Acquire(ctx, "report", time.Second)
		require.NoError(t, err)
		s.locks.Lose("report")
		<-lock.Context().Done()
		synctest.Wait()
		hold := s.one(t, "HOLD")
		requireLost(t, hold)
		time.Sleep(time.Minute)
		require.ErrorIs(t, lock.Release(), namedlock.ErrLost)
		assert.Len(t, s.ended("HOLD"), 1)
	})
}

func TestWithLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithClass(func(name string) string { return "class-of-" + name }))
		names := []string{"b", "a"}
		require.NoError(t, s.WithLocks(ctx, names, time.Second, func(ctx context.Context) error {
			assert.ElementsMatch(t, names, s.locks.HeldNames())
			return nil
		}))
		wait, hold := s.one(t, "GET_LOCK class-of-b"), s.one(t, "HOLD class-of-b")
		assert.Equal(t, names, attributes(wait)["namedlock.names"])
		assert.Equal(t, names, attributes(hold)["namedlock.names"])
		assert.NotContains(t, attributes(wait), "namedlock.name")

		s.spans.Reset()
		err := s.WithLocks(ctx, names, time.Second, func(ctx context.Context) error {
			s.locks.Lose("a")
			<-ctx.Done()
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		requireLost(t, s.one(t, "HOLD class-of-b"))

		s.spans.Reset()
		require.ErrorIs(t, s.WithLocks(ctx, nil, time.Second, nothing), namedlock.ErrInvalidName)
		assert.Equal(t, "invalid_name", attributes(s.one(t, "GET_LOCK"))["namedlock.outcome"])
		require.Error(t, s.WithLocks(ctx, names, time.Second, nil))
	})
}

func TestErrorOfTheCodeUnderTheLock(t *testing.T) {
	s := newSetup(t)
	own := errors.New("own")
	err := s.WithLock(ctx, "report", time.Second, func(context.Context) error { return own })
	assert.Equal(t, own, err, "as it is")
	hold := s.one(t, "HOLD")
	assert.Equal(t, "released", attributes(hold)["namedlock.outcome"])
	assert.Equal(t, "*errors.errorString", attributes(hold)["error.type"])
	assert.Equal(t, codes.Error, hold.Status().Code)
	assert.Equal(t, "own", hold.Status().Description)
}

func TestPanicAndGoexitGoThrough(t *testing.T) {
	for name, end := range map[string]func(){
		"panic":  func() { panic("its own value") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			done := make(chan any)
			go func() {
				defer close(done)
				defer func() {
					if value := recover(); value != nil {
						done <- value
					}
				}()
				_ = s.WithLock(ctx, "report", time.Second, func(context.Context) error {
					end()
					return nil
				})
				t.Error("WithLock returns")
			}()
			if value := <-done; name == "panic" {
				assert.Equal(t, "its own value", value)
				<-done
			}
			assert.Empty(t, s.locks.HeldNames())
			hold := s.one(t, "HOLD")
			assert.Equal(t, "panic", attributes(hold)["error.type"])
			assert.Equal(t, "released", attributes(hold)["namedlock.outcome"])
			assert.Equal(t, codes.Error, hold.Status().Code)
		})
	}
}

func TestPanicAfterALossTellsTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		assert.PanicsWithValue(t, "its own value", func() {
			_ = s.WithLock(ctx, "report", time.Second, func(ctx context.Context) error {
				s.locks.Lose("report")
				<-ctx.Done()
				panic("its own value")
			})
		})
		requireLost(t, s.one(t, "HOLD"))
	})
}

// A spoiler is a tracer provider that panics when a span of that name begins or ends.
type spoiler struct {
	noop.TracerProvider
	starts, ends string
}

type spoiledTracer struct {
	noop.Tracer
	spoiler spoiler
}

type spoiledSpan struct {
	noop.Span
	name    string
	spoiler spoiler
}

func (s spoiler) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return spoiledTracer{spoiler: s}
}

func (t spoiledTracer) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	if name == t.spoiler.starts {
		panic("spoiled")
	}
	return ctx, spoiledSpan{name: name, spoiler: t.spoiler}
}

func (s spoiledSpan) End(...trace.SpanEndOption) {
	if s.name == s.spoiler.ends {
		panic("spoiled")
	}
}

func TestTracerThatPanicsKeepsNoLock(t *testing.T) {
	for _, bad := range []spoiler{{starts: "GET_LOCK"}, {ends: "GET_LOCK"}, {starts: "HOLD"}, {ends: "HOLD"}} {
		t.Run(bad.starts+bad.ends, func(t *testing.T) {
			s := newSetup(t, otelnamedlock.WithTracerProvider(bad))
			assert.PanicsWithValue(t, "spoiled", func() { _ = s.WithLock(ctx, "report", time.Second, nothing) })
			assert.Empty(t, s.locks.HeldNames())
			assert.PanicsWithValue(t, "spoiled", func() {
				lock, err := s.Acquire(ctx, "report", time.Second)
				if assert.NoError(t, err) {
					_ = lock.Release()
				}
			})
			assert.Empty(t, s.locks.HeldNames())
		})
	}
}

func TestClass(t *testing.T) {
	s := newSetup(t, otelnamedlock.WithClass(func(name string) string {
		class, _, _ := strings.Cut(name, "-")
		return class
	}))
	require.NoError(t, s.WithLock(ctx, "invoices-42", time.Second, nothing))
	require.NoError(t, s.WithLock(ctx, "invoices-43", time.Second, nothing))
	require.Len(t, s.ended("GET_LOCK invoices"), 2)
	require.Len(t, s.ended("HOLD invoices"), 2)
	assert.Equal(t, "invoices", attributes(s.ended("HOLD invoices")[0])["namedlock.class"])
	for _, name := range []string{"db.client.operation.duration", "namedlock.hold.duration"} {
		point := s.histogram(t, name)
		assert.EqualValues(t, 2, point.Count)
		class, _ := point.Attributes.Value("namedlock.class")
		assert.Equal(t, "invoices", class.AsString())
	}
}

func TestBadArgumentsAreTheLockersToRefuse(t *testing.T) {
	s := newSetup(t)
	var e *namedlock.Error
	require.ErrorAs(t, s.WithLock(ctx, "x", time.Second, nil), &e)
	var none context.Context
	require.ErrorAs(t, s.WithLock(none, "x", time.Second, nothing), &e)
	_, err := s.Acquire(none, "x", time.Second)
	require.ErrorAs(t, err, &e)
	assert.Empty(t, s.spans.Started())

	_, err = otelnamedlock.New(nil)
	require.Error(t, err)
	for _, opt := range []otelnamedlock.Option{
		nil, otelnamedlock.WithTracerProvider(nil), otelnamedlock.WithMeterProvider(nil), otelnamedlock.WithClass(nil),
	} {
		_, err := otelnamedlock.New(s.locks, opt)
		require.Error(t, err)
	}
}

func TestWithTheGlobalProviders(t *testing.T) {
	locks := locktest.New()
	locker, err := otelnamedlock.New(locks)
	require.NoError(t, err)
	require.NoError(t, locker.WithLock(ctx, "report", time.Second, nothing))
	lock, err := locker.Acquire(ctx, "report", time.Second)
	require.NoError(t, err)
	require.NoError(t, lock.Release())
	assert.EqualValues(t, 2, locker.Stats().Acquired)
	require.NoError(t, locker.Close())
	require.ErrorIs(t, locks.WithLock(ctx, "report", 0, nothing), namedlock.ErrClosed)
}
