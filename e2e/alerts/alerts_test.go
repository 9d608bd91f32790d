// Package alerts tests the alerts of docs/OPERATIONS.md: their PromQL, on the
// metrics of otelnamedlock, fires when it should, and not otherwise. It is a
// module of its own, outside the workspace, since Prometheus is a larger
// download than everything else together.
//
//	GOWORK=off go test -C e2e/alerts .
package alerts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/go-namedlock/namedlock/otelnamedlock"
)

// alerts returns the expressions of the page by name.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "OPERATIONS.md"))
	require.NoError(t, err)
	all := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```promql ([a-z-]+)\n(.*?)```").FindAllSubmatch(page, -1) {
		all[string(m[1])] = string(m[2])
	}
	return all
}

// A service is one process that acquires locks and is scraped.
type service struct {
	*locktest.Locker
	ctx     context.Context   // ends with the service
	held    []*namedlock.Lock // released at the end
	scraped []scrape
}

type scrape struct {
	at       time.Time
	families []*dto.MetricFamily
}

const interval = 15 * time.Second

// watch runs does as a service, and returns the scrapes that were taken during
// the run and after it.
func watch(t *testing.T, does func(s *service)) (scraped []scrape) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		reader, err := exporter.New(exporter.WithRegisterer(registry))
		require.NoError(t, err)
		s := &service{Locker: locktest.New(namedlock.WithProbe(0), otelnamedlock.WithTelemetry(
			otelnamedlock.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))),
			otelnamedlock.WithClass(func(name string) string {
				class, _, _ := strings.Cut(name, "-")
				return class
			}),
		))}
		var stop context.CancelFunc
		s.ctx, stop = context.WithCancel(t.Context())
		look := func() {
			families, err := registry.Gather()
			assert.NoError(t, err)
			s.scraped = append(s.scraped, scrape{time.Now(), families})
		}
		enough, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for {
				look()
				select {
				case <-tick.C:
				case <-enough:
					return
				}
			}
		}()
		does(s)
		close(enough)
		<-ended
		time.Sleep(interval)
		look()
		stop()
		for _, lock := range s.held {
			_ = lock.Release()
		}
		require.NoError(t, s.Close())
		scraped = s.scraped
	})
	return scraped
}

// every calls do every ten seconds, for a time of d.
func (s *service) every(d time.Duration, do func(i int)) {
	for i := range int(d / (10 * time.Second)) {
		began := time.Now()
		do(i)
		time.Sleep(10*time.Second - time.Since(began))
	}
}

func nothing(context.Context) error { return nil }

func (s *service) take(name string) { _ = s.WithLock(s.ctx, name, 5*time.Second, nothing) }

func (s *service) lose(name string) {
	_ = s.WithLock(s.ctx, name, 0, func(ctx context.Context) error {
		s.Lose(name)
		<-ctx.Done()
		return nil
	})
}

// lead makes the service lead until it ends. It returns when the service leads,
// or waits to lead.
func (s *service) lead() {
	go func() {
		_ = s.Lead(s.ctx, "leader", func(ctx context.Context, _ *namedlock.Term) error {
			<-ctx.Done()
			return nil
		})
	}()
	synctest.Wait()
}

func TestAlerts(t *testing.T) {
	pages := alerts(t)
	require.NotEmpty(t, pages)
	fired := map[string]bool{}
	for what, scenario := range map[string]struct {
		does  func(s *service)
		fires []string
	}{
		"a quiet day": {func(s *service) {
			s.lead()
			s.every(30*time.Minute, func(int) { s.take("job-1") })
		}, nil},
		"locks tried once, without success": {func(s *service) {
			s.lead()
			s.HoldElsewhere("job-2")
			s.every(30*time.Minute, func(int) {
				s.take("job-1")
				_ = s.WithLock(s.ctx, "job-2", 0, nothing)
			})
		}, nil},
		"one lock is lost": {func(s *service) {
			s.lead()
			s.every(10*time.Minute, func(int) { s.take("job-1") })
			s.lose("job-1")
			s.every(10*time.Minute, func(int) { s.take("job-1") })
		}, []string{"lost-any"}},
		"locks are lost again and again": {func(s *service) {
			s.lead()
			s.every(20*time.Minute, func(i int) {
				s.take("job-1")
				if i%3 == 0 {
					s.lose("job-1")
				}
			})
		}, []string{"lost-any", "lost-many"}},
		"the server is away": {func(s *service) {
			s.lead()
			s.every(20*time.Minute, func(int) { s.take("job-1") })
			s.Fail(errors.New("connection refused"))
			s.every(7*time.Minute, func(int) { s.take("job-1") })
		}, []string{"none-acquired", "nobody-leads", "lost-any"}},
		"waits become long": {func(s *service) {
			s.lead()
			s.every(30*time.Minute, func(int) {
				release := s.HoldElsewhere("job-1")
				time.AfterFunc(4*time.Second, release)
				s.take("job-1")
			})
		}, []string{"waits-near-timeout"}},
		"waits end by their timeout": {func(s *service) {
			s.lead()
			s.HoldElsewhere("job-2")
			s.every(30*time.Minute, func(i int) {
				s.take("job-1")
				if i%20 == 0 {
					s.take("job-2")
				}
			})
		}, []string{"timeouts", "waits-near-timeout"}},
		"a queue that only grows": {func(s *service) {
			s.lead()
			s.HoldElsewhere("queue-1")
			s.every(20*time.Minute, func(i int) {
				s.take("job-1")
				go func() { _ = s.WithLock(s.ctx, "queue-1", namedlock.Forever, nothing) }()
			})
		}, []string{"queue-grows"}},
		"at the cap": {func(s *service) {
			s.lead()
			for i := range 20 {
				lock, err := s.Acquire(s.ctx, fmt.Sprint("shard-", i), time.Second)
				require.NoError(t, err)
				s.held = append(s.held, lock)
			}
			s.every(30*time.Minute, func(int) { s.take("job-1") })
		}, []string{"at-the-cap"}},
		"nobody leads": {func(s *service) {
			_ = s.Lead(s.ctx, "leader", func(context.Context, *namedlock.Term) error {
				s.every(10*time.Minute, func(int) { s.take("job-1") })
				return nil
			})
			s.every(5*time.Minute, func(int) { s.take("job-1") })
		}, []string{"nobody-leads"}},
		"nobody has ever led": {func(s *service) {
			s.every(10*time.Minute, func(int) { s.take("job-1") })
		}, []string{"nobody-leads"}},
	} {
		t.Run(what, func(t *testing.T) {
			scraped := watch(t, scenario.does)
			for name, expression := range pages {
				if name == "who-leads" {
					continue
				}
				fires := len(evaluate(t, scraped, expression)) > 0
				assert.Equal(t, slices.Contains(scenario.fires, name), fires, name)
				fired[name] = fired[name] || fires
			}
		})
	}
	for name := range pages {
		assert.True(t, fired[name] || name == "who-leads", "no scenario has %s fire", name)
	}
}

// By process, the same metric shows which process leads.
func TestWhoLeads(t *testing.T) {
	scraped := watch(t, func(s *service) {
		s.lead()
		time.Sleep(time.Minute)
	})
	leaders := evaluate(t, scraped, alerts(t)["who-leads"])
	require.Len(t, leaders, 1)
	assert.Equal(t, 1.0, leaders[0].F)
}

// evaluate returns the value of the expression after the last scrape.
func evaluate(t *testing.T, scraped []scrape, expression string) promql.Vector {
	t.Helper()
	storage := teststorage.New(t)
	defer storage.Close()
	appender := storage.Appender(t.Context())
	for _, s := range scraped {
		for _, family := range s.families {
			for _, m := range family.Metric {
				for _, sample := range samples(family.GetName(), m) {
					_, err := appender.Append(0, sample.labels, s.at.UnixMilli(), sample.value)
					require.NoError(t, err)
				}
			}
		}
	}
	require.NoError(t, appender.Commit())
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})
	query, err := engine.NewInstantQuery(t.Context(), storage, nil, expression, scraped[len(scraped)-1].at)
	require.NoError(t, err, expression)
	defer query.Close()
	vector, err := query.Exec(t.Context()).Vector()
	require.NoError(t, err, expression)
	return vector
}

// A sample is one line of a scrape.
type sample struct {
	labels labels.Labels
	value  float64
}

func samples(name string, m *dto.Metric) []sample {
	one := func(name string, value float64, more ...string) sample {
		set := map[string]string{labels.MetricName: name, "instance": "a"}
		for _, l := range m.Label {
			set[l.GetName()] = l.GetValue()
		}
		for i := 0; i < len(more); i += 2 {
			set[more[i]] = more[i+1]
		}
		return sample{labels.FromMap(set), value}
	}
	switch {
	case m.Counter != nil:
		return []sample{one(name, m.Counter.GetValue())}
	case m.Gauge != nil:
		return []sample{one(name, m.Gauge.GetValue())}
	case m.Histogram != nil:
		all := []sample{one(name+"_count", float64(m.Histogram.GetSampleCount())), one(name+"_bucket", float64(m.Histogram.GetSampleCount()), "le", "+Inf")}
		for _, b := range m.Histogram.Bucket {
			all = append(all, one(name+"_bucket", float64(b.GetCumulativeCount()), "le", fmt.Sprint(b.GetUpperBound())))
		}
		return all
	}
	return nil
}
