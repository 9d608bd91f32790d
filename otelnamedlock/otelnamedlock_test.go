package otelnamedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
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

// A setup is a Locker without a server, and what it has told.
type setup struct {
	*locktest.Locker
	tracer trace.Tracer // of the code that takes locks
	spans  *tracetest.SpanRecorder
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

func newSetup(t *testing.T, opts ...otelnamedlock.Option) *setup {
	t.Helper()
	return on(t, func(with namedlock.Option) *locktest.Locker { return locktest.New(with) }, opts...)
}

// on is newSetup where the Locker comes from open.
func on(t *testing.T, open func(namedlock.Option) *locktest.Locker, opts ...otelnamedlock.Option) *setup {
	t.Helper()
	s := &setup{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	s.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	s.tracer = tracers.Tracer("test")
	s.Locker = open(otelnamedlock.WithTelemetry(append([]otelnamedlock.Option{
		otelnamedlock.WithTracerProvider(tracers), otelnamedlock.WithMeterProvider(s.meters)}, opts...)...))
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

// The promises of a Locker are the same with telemetry.
func TestConformance(t *testing.T) {
	t.Parallel()
	locktest.Run(t, func(t *testing.T) func() locktest.Process {
		locks := locktest.New()
		t.Cleanup(func() { _ = locks.Close() })
		return func() locktest.Process {
			s := on(t, func(with namedlock.Option) *locktest.Locker { return locks.Peer(with) })
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
				Lose:      s.Lose,
			}
		}
	})
}

func TestSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithAttributes(semconv.DBSystemNameMariaDB, semconv.ServerAddress("db1")))
		release := s.HoldElsewhere("report")
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
			"namedlock.name": "report", "namedlock.method": "WithLock", "namedlock.timeout": 5.0, "namedlock.outcome": "acquired",
		}, attributes(wait))
		assert.Equal(t, map[string]any{
			"db.system.name": "mariadb", "server.address": "db1",
			"namedlock.name": "report", "namedlock.method": "WithLock", "namedlock.outcome": "released",
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
		outcome string
	}{
		{ctx, "busy", time.Millisecond, "timeout"},
		{canceled, "x", time.Second, "canceled"},
		{late, "x", time.Second, "deadline_exceeded"},
		{ctx, "", time.Second, "invalid_name"},
		{ctx, "x", -1, "invalid_timeout"},
		{ctx, "x", time.Second, "closed"},
	} {
		for _, method := range []string{"WithLock", "WithLocks", "Acquire", "WithLockTx"} {
			t.Run(test.outcome+"/"+method, func(t *testing.T) {
				s := newSetup(t)
				defer s.HoldElsewhere("busy")()
				if test.outcome == "closed" {
					require.NoError(t, s.Close())
				}
				unexpected := func(context.Context) error {
					t.Error("the function runs")
					return nil
				}
				var err error
				switch method {
				case "WithLock":
					err = s.WithLock(test.ctx, test.name, test.timeout, unexpected)
				case "WithLocks":
					err = s.WithLocks(test.ctx, []string{test.name}, test.timeout, unexpected)
				case "WithLockTx":
					err = s.WithLockTx(test.ctx, test.name, test.timeout, nil, func(ctx context.Context, _ *sql.Tx) error { return unexpected(ctx) })
				case "Acquire":
					var lock *namedlock.Lock
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
				assert.Zero(t, s.sums(t)["namedlock.waiting"])
			})
		}
	}
}

func TestTryOnceIsAnsweredNotFailed(t *testing.T) {
	s := newSetup(t)
	defer s.HoldElsewhere("report")()
	require.ErrorIs(t, s.WithLock(ctx, "report", 0, nothing), namedlock.ErrTimeout)
	wait := s.one(t, "GET_LOCK")
	assert.Equal(t, codes.Unset, wait.Status().Code)
	assert.Equal(t, "timeout", attributes(wait)["namedlock.outcome"])
	assert.NotContains(t, attributes(wait), "error.type")
	assert.Equal(t, 0.0, attributes(wait)["namedlock.timeout"])
}

// requireLost checks that the span tells a loss, and returns when it was
// noticed.
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
			s.Lose("report")
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
	s.FailNextRelease(errors.New("connection reset"))
	own := errors.New("own")
	err := s.WithLock(ctx, "report", time.Second, func(context.Context) error { return own })
	require.ErrorIs(t, err, namedlock.ErrLost)
	require.ErrorIs(t, err, own)
	requireLost(t, s.one(t, "HOLD"))
}

// A lock under another Locker's has a context that ends with that one's loss,
// but is not lost itself.
func TestLossOfTheOuterLockIsNotThatOfTheInner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := locktest.New()
		defer plain.Close()
		peer := func(with namedlock.Option) *locktest.Locker { return plain.Peer(with) }
		outer, inner := on(t, peer), on(t, peer)
		err := outer.WithLock(ctx, "outer", time.Second, func(ctx context.Context) error {
			return inner.WithLock(ctx, "inner", time.Second, func(ctx context.Context) error {
				outer.Lose("outer")
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

// A loss is recorded when it is noticed, and the hold goes on until the
// release.
func TestAcquiredAndLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		lock, err := s.Acquire(ctx, "report", time.Second)
		require.NoError(t, err)
		s.Lose("report")
		<-lock.Context().Done()
		lost := time.Now()
		synctest.Wait()
		assert.EqualValues(t, 1, s.sums(t)["namedlock.lost"])
		time.Sleep(time.Minute)
		require.ErrorIs(t, lock.Release(), namedlock.ErrLost)
		assert.Equal(t, lost, requireLost(t, s.one(t, "HOLD")))
		assert.EqualValues(t, 1, s.sums(t)["namedlock.lost"])
	})
}

func TestWithLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithClass(func(name string) string { return "class-of-" + name }))
		names := []string{"b", "a"}
		require.NoError(t, s.WithLocks(ctx, names, time.Second, func(ctx context.Context) error {
			assert.ElementsMatch(t, names, s.HeldNames())
			return nil
		}))
		wait, hold := s.one(t, "GET_LOCK class-of-b"), s.one(t, "HOLD class-of-b")
		assert.Equal(t, names, attributes(wait)["namedlock.names"])
		assert.Equal(t, names, attributes(hold)["namedlock.names"])
		assert.NotContains(t, attributes(wait), "namedlock.name")

		s.spans.Reset()
		err := s.WithLocks(ctx, names, time.Second, func(ctx context.Context) error {
			s.Lose("a")
			<-ctx.Done()
			return nil
		})
		require.ErrorIs(t, err, namedlock.ErrLost)
		requireLost(t, s.one(t, "HOLD class-of-b"))

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
			assert.Empty(t, s.HeldNames())
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
				s.Lose("report")
				<-ctx.Done()
				panic("its own value")
			})
		})
		requireLost(t, s.one(t, "HOLD"))
	})
}

// A spoiler is a tracer provider that panics when a span of that name begins or
// ends.
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
			require.NoError(t, s.WithLock(ctx, "report", time.Second, nothing))
			assert.Empty(t, s.HeldNames())
			lock, err := s.Acquire(ctx, "report", time.Second)
			require.NoError(t, err)
			require.NoError(t, lock.Release())
			defer s.HoldElsewhere("report")()
			require.ErrorIs(t, s.WithLock(ctx, "report", 0, nothing), namedlock.ErrTimeout)
		})
	}
}

// A brokenMeter panics when a Locker registers its Stats.
type brokenMeter struct{ metricnoop.MeterProvider }

func (brokenMeter) Meter(string, ...metric.MeterOption) metric.Meter { return brokenCallbacks{} }

type brokenCallbacks struct{ metricnoop.Meter }

func (brokenCallbacks) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	panic("broken")
}

// The panic of a meter is logged once. Close has nothing to undo.
func TestMeterThatPanics(t *testing.T) {
	var log strings.Builder
	locker := locktest.New(namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		otelnamedlock.WithTelemetry(otelnamedlock.WithMeterProvider(brokenMeter{})))
	require.NoError(t, locker.WithLock(ctx, "report", time.Second, nothing))
	require.NoError(t, locker.Close())
	assert.Equal(t, 1, strings.Count(log.String(), "a hook panicked"), log.String())
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

	db, err := sql.Open("mysql", "nobody@tcp(127.0.0.1:1)/")
	require.NoError(t, err)
	defer db.Close()
	for _, opt := range []otelnamedlock.Option{
		nil, otelnamedlock.WithTracerProvider(nil), otelnamedlock.WithMeterProvider(nil), otelnamedlock.WithClass(nil),
	} {
		_, err := namedlock.Open(db, otelnamedlock.WithTelemetry(opt))
		require.ErrorContains(t, err, "otelnamedlock: ")
	}
}

func TestWithTheGlobalProviders(t *testing.T) {
	locks := locktest.New(otelnamedlock.WithTelemetry())
	require.NoError(t, locks.WithLock(ctx, "report", time.Second, nothing))
	lock, err := locks.Acquire(ctx, "report", time.Second)
	require.NoError(t, err)
	require.NoError(t, lock.Release())
	require.NoError(t, locks.Close())
}

// Later methods have telemetry without a line here.
func TestLeadAndTransactions(t *testing.T) {
	db, mock, err := sqlmock.New()
	require.NoError(t, err)
	defer db.Close()
	mock.ExpectBegin()
	mock.ExpectCommit()
	s := newSetup(t)
	s.TxFrom(db)
	require.NoError(t, s.WithLockTx(ctx, "report", time.Second, nil, func(ctx context.Context, _ *sql.Tx) error {
		assert.True(t, trace.SpanFromContext(ctx).IsRecording())
		return nil
	}))
	assert.Equal(t, "WithLockTx", attributes(s.one(t, "HOLD"))["namedlock.method"])
	s.spans.Reset()
	require.NoError(t, s.Lead(ctx, "report", func(ctx context.Context, _ *namedlock.Term) error {
		assert.True(t, trace.SpanFromContext(ctx).IsRecording())
		assert.EqualValues(t, 1, s.sums(t)["namedlock.held"])
		return nil
	}))
	assert.Equal(t, "Lead", attributes(s.one(t, "HOLD"))["namedlock.method"])
	assert.Zero(t, s.sums(t)["namedlock.held"])
}

// Without a session, one try does not show whether the lock is held. So it has
// failed.
func TestTryOnceWithoutASession(t *testing.T) {
	db, _, err := sqlmock.New()
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(2)
	for range 2 {
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
	}
	spans := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	locker, err := namedlock.Open(db, otelnamedlock.WithTelemetry(otelnamedlock.WithTracerProvider(tracers)))
	require.NoError(t, err)
	defer locker.Close()
	err = locker.WithLock(ctx, "report", 0, nothing)
	require.ErrorIs(t, err, namedlock.ErrNoSession)
	require.Len(t, spans.Ended(), 1)
	wait := spans.Ended()[0]
	assert.Equal(t, "no_session", attributes(wait)["namedlock.outcome"])
	assert.Equal(t, "no_session", attributes(wait)["error.type"])
	assert.Equal(t, codes.Error, wait.Status().Code)
	assert.Equal(t, err.Error(), wait.Status().Description)
}

// A class that panics for the name of a nested lock takes away the telemetry of
// that call, but not of the call around it.
func TestClassThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithClass(func(name string) string { return strings.Split(name, "-")[1] }))
		defer s.HoldElsewhere("held")()
		require.NoError(t, s.WithLock(ctx, "a-outer", time.Second, func(ctx context.Context) error {
			time.Sleep(time.Second)
			require.NoError(t, s.WithLock(ctx, "inner", time.Second, nothing))
			require.ErrorIs(t, s.WithLock(ctx, "held", 0, nothing), namedlock.ErrTimeout)
			time.Sleep(time.Second)
			return nil
		}))
		hold := s.one(t, "HOLD outer")
		assert.Equal(t, "a-outer", attributes(hold)["namedlock.name"])
		assert.Equal(t, 2*time.Second, length(hold))
		sums := s.sums(t)
		assert.EqualValues(t, 1, sums["namedlock.acquired"])
		assert.EqualValues(t, 0, sums["namedlock.held"])
		assert.EqualValues(t, 0, sums["namedlock.waiting"])
		assert.EqualValues(t, 0, sums["namedlock.timeouts"])
		assert.EqualValues(t, 1, s.histogram(t, "namedlock.hold.duration").Count)
	})
}
