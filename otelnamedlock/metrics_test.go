package otelnamedlock_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/otelnamedlock"
)

// metrics returns what is collected now, by name.
func (s *setup) metrics(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	var collected metricdata.ResourceMetrics
	require.NoError(t, s.reader.Collect(ctx, &collected))
	all := make(map[string]metricdata.Metrics)
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			all[m.Name] = m
		}
	}
	return all
}

// histogram returns the only point of a histogram.
func (s *setup) histogram(t *testing.T, name string) metricdata.HistogramDataPoint[float64] {
	t.Helper()
	points := s.histograms(t, name)
	require.Len(t, points, 1)
	return points[0]
}

func (s *setup) histograms(t *testing.T, name string) []metricdata.HistogramDataPoint[float64] {
	t.Helper()
	histogram, ok := s.metrics(t)[name].Data.(metricdata.Histogram[float64])
	require.True(t, ok, name)
	return histogram.DataPoints
}

// sums returns the values of all counters.
func (s *setup) sums(t *testing.T) map[string]int64 {
	t.Helper()
	sums := make(map[string]int64)
	for name, m := range s.metrics(t) {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, point := range sum.DataPoints {
				sums[name] += point.Value
			}
		}
	}
	return sums
}

func TestCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		require.NoError(t, s.WithLock(ctx, "a", time.Second, func(ctx context.Context) error {
			waiting := make(chan error)
			go func() { waiting <- s.WithLock(context.Background(), "a", time.Second, nothing) }()
			synctest.Wait()
			assert.Equal(t, map[string]int64{
				"namedlock.acquired": 1, "namedlock.timeouts": 0, "namedlock.failures": 0, "namedlock.lost": 0,
				"namedlock.held": 1, "namedlock.waiting": 1,
				"namedlock.handoffs": 0, "namedlock.sessions": 1, "namedlock.sessions.unwatched": 0,
			}, s.sums(t))
			require.ErrorIs(t, <-waiting, namedlock.ErrTimeout)
			return nil
		}))
		require.ErrorIs(t, s.WithLock(ctx, "", 0, nothing), namedlock.ErrInvalidName)
		_ = s.WithLock(ctx, "a", time.Second, func(ctx context.Context) error {
			s.Lose("a")
			<-ctx.Done()
			return nil
		})
		sums := s.sums(t)
		assert.Equal(t, map[string]int64{
			"namedlock.acquired": 2, "namedlock.timeouts": 1, "namedlock.failures": 1, "namedlock.lost": 1,
			"namedlock.handoffs": 0, "namedlock.held": 0, "namedlock.waiting": 0, "namedlock.sessions": 0, "namedlock.sessions.unwatched": 0,
		}, sums)
		assert.True(t, s.metrics(t)["namedlock.acquired"].Data.(metricdata.Sum[int64]).IsMonotonic)
		assert.False(t, s.metrics(t)["namedlock.held"].Data.(metricdata.Sum[int64]).IsMonotonic)
	})
}

func TestHistograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, otelnamedlock.WithAttributes(semconv.ServerAddress("db1")))
		release := s.HoldElsewhere("a")
		require.ErrorIs(t, s.WithLock(ctx, "a", 2*time.Second, nothing), namedlock.ErrTimeout)
		require.ErrorIs(t, s.WithLock(ctx, "a", 0, nothing), namedlock.ErrTimeout)
		release()
		require.NoError(t, s.WithLock(ctx, "a", time.Second, func(context.Context) error {
			time.Sleep(5 * time.Second)
			return nil
		}))
		require.NoError(t, s.WithLock(ctx, "another-name", time.Second, nothing))

		assert.Equal(t, "s", s.metrics(t)["db.client.operation.duration"].Unit)
		waits := make(map[attribute.Set]metricdata.HistogramDataPoint[float64])
		for _, point := range s.histograms(t, "db.client.operation.duration") {
			waits[point.Attributes] = point
		}
		set := func(more ...attribute.KeyValue) attribute.Set {
			return attribute.NewSet(append(more, semconv.DBSystemNameMySQL, semconv.ServerAddress("db1"))...)
		}
		getLock := semconv.DBOperationName("GET_LOCK")
		outcome := func(o string) attribute.KeyValue { return attribute.String("namedlock.outcome", o) }
		require.Len(t, waits, 3, "names make no difference")
		timeout := waits[set(getLock, outcome("timeout"), attribute.String("error.type", "timeout"))]
		assert.EqualValues(t, 1, timeout.Count)
		assert.InDelta(t, 2, timeout.Sum, 0.1)
		assert.EqualValues(t, 1, waits[set(getLock, outcome("timeout"))].Count, "to try once is no error")
		assert.EqualValues(t, 2, waits[set(getLock, outcome("acquired"))].Count)

		hold := s.histogram(t, "namedlock.hold.duration")
		assert.Equal(t, set(outcome("released")), hold.Attributes)
		assert.EqualValues(t, 2, hold.Count)
		assert.InDelta(t, 5, hold.Sum, 0.1)
	})
}

// One option serves several Lockers, whose numbers add up. A closed one is not
// asked any more.
func TestTwoLockersAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t)
		another := s.Peer() // which has its options
		require.NoError(t, s.WithLock(ctx, "a", time.Second, func(context.Context) error {
			return another.WithLock(context.Background(), "b", time.Second, func(context.Context) error {
				assert.EqualValues(t, 2, s.sums(t)["namedlock.held"])
				assert.EqualValues(t, 2, s.sums(t)["namedlock.sessions"])
				return nil
			})
		}))
		require.NoError(t, another.Close())
		lock, err := s.Acquire(ctx, "a", 0)
		require.NoError(t, err)
		assert.EqualValues(t, 1, s.sums(t)["namedlock.sessions"])
		require.NoError(t, lock.Release())
	})
}

// Every counter has the class, and timeouts tell who has tried once.
func TestClassOfCounters(t *testing.T) {
	s := newSetup(t, otelnamedlock.WithClass(func(name string) string { return name[:1] }))
	release := s.HoldElsewhere("busy")
	for _, timeout := range []time.Duration{0, time.Millisecond} {
		require.ErrorIs(t, s.WithLock(ctx, "busy", timeout, nothing), namedlock.ErrTimeout)
	}
	release()
	require.NoError(t, s.WithLock(ctx, "job", 0, nothing))
	points := func(name string) map[string]int64 {
		values := make(map[string]int64)
		for _, p := range s.metrics(t)[name].Data.(metricdata.Sum[int64]).DataPoints {
			class, _ := p.Attributes.Value("namedlock.class")
			tried, _ := p.Attributes.Value("namedlock.tried")
			values[fmt.Sprint(class.AsString(), " ", tried.AsBool())] += p.Value
		}
		return values
	}
	assert.Equal(t, map[string]int64{"b true": 1, "b false": 1, "j true": 0, "j false": 0}, points("namedlock.timeouts"))
	assert.Equal(t, map[string]int64{"b false": 0, "j false": 1}, points("namedlock.acquired"))
	assert.Equal(t, map[string]int64{"b false": 0, "j false": 0}, points("namedlock.held"))
}
