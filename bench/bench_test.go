package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

var started struct {
	sync.Mutex
	field *field
}

// theField starts the servers for the first test that needs them.
func theField(tb testing.TB) *field {
	tb.Helper()
	started.Lock()
	defer started.Unlock()
	if started.field == nil {
		f, err := newField()
		if err != nil {
			servers.SkipOrFail(tb, err)
		}
		started.field = f
	}
	return started.field
}

func TestMain(m *testing.M) {
	code := m.Run()
	if f := started.field; f != nil {
		if err := f.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// TestRun measures each line once, and writes the report and the plots,
// whatever the figures are.
func TestRun(t *testing.T) {
	f := theField(t)
	if err := measure(f, smoke, "", t.TempDir(), ""); err != nil {
		t.Fatal(err)
	}
}

// A window in which no section ends has no place on a logarithmic scale. Such a
// window once filled the memory with ticks.
func TestPlotOfNothing(t *testing.T) {
	c := curve{name: "namedlock", x: samples{1, 8}, y: samples{0, 0}}
	if err := plotHot(filepath.Join(t.TempDir(), "hot.svg"), "MySQL", []curve{c}); err != nil {
		t.Error(err)
	}
	if err := plotConnections(filepath.Join(t.TempDir(), "connections.svg"), []curve{c}); err != nil {
		t.Error(err)
	}
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.00004: "4e-05", 0.1234: "0.123", 1.1: "1.1", 9.999: "10", 56.78: "56.8", 567.8: "568",
		1234567: "1,230,000", 10_000: "10,000", 999.7: "1,000", -3: "-3",
	} {
		if got := number(x); got != want {
			t.Errorf("number(%v): got %s, want %s", x, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	s := samples{3, 1, 2, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile(%v) of %v: got %v, want %v", q, s, got, want)
		}
	}
}

// A measurement in which two sections of one name overlap is an error, not a
// speed.
func TestThroughputSeesOverlaps(t *testing.T) {
	// Sections overlap by chance, and seldom on a busy machine.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if _, err := throughput(noLock{}, 8, 50*time.Millisecond, onOne("x")); err != nil {
			return
		}
	}
	t.Fatal("sections without a lock overlap, but throughput returned no error")
}

type noLock struct{}

func (noLock) close() {}

func (noLock) section(_ string, fn func()) error {
	fn()
	return nil
}

// each runs a benchmark on each server.
func each(b *testing.B, run func(b *testing.B, t target)) {
	for _, t := range theField(b).targets {
		b.Run(string(t.Kind()), func(b *testing.B) { run(b, t) })
	}
}

// BenchmarkCycle measures the uncontended cycle of every lock.
func BenchmarkCycle(b *testing.B) {
	f := theField(b)
	for _, t := range f.targets {
		all := append([]contender{{what: "prepared", open: func() (lock, error) { return t.prepared() }}}, t.contenders()...)
		b.Run(string(t.Kind()), func(b *testing.B) { cycles(b, all) })
	}
	b.Run("other", func(b *testing.B) { cycles(b, f.others()) })
}

func cycles(b *testing.B, contenders []contender) {
	for _, c := range contenders {
		b.Run(c.what, func(b *testing.B) {
			l := opened(b, c.open)
			name := newName("cycle")
			b.ReportAllocs()
			for b.Loop() {
				check(b, l.section(name, func() {}))
			}
		})
	}
}

// BenchmarkHot measures one lock that 64 goroutines want: with namedlock,
// without and with hand-off, and with all other contenders.
func BenchmarkHot(b *testing.B) {
	f := theField(b)
	for _, t := range f.targets {
		b.Run(string(t.Kind()), func(b *testing.B) {
			b.Run("one by hand", func(b *testing.B) { crowded(b, 1, func() (lock, error) { return t.byHand() }) })
			for _, c := range t.contenders() {
				b.Run(c.what, func(b *testing.B) { crowded(b, crowd, c.open) })
			}
		})
	}
	b.Run("other", func(b *testing.B) {
		for _, c := range f.others() {
			b.Run(c.what, func(b *testing.B) { crowded(b, crowd, c.open) })
		}
	})
}

// BenchmarkParallel measures 64 goroutines with a name each, and one goroutine.
func BenchmarkParallel(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		for _, n := range []int{1, crowd} {
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				l := opened(b, func() (lock, error) { return t.locker() })
				names := make([]string, n)
				for i := range names {
					names[i] = newName("parallel")
				}
				share(b, n, func(i int) error { return l.section(names[i], func() {}) })
			})
		}
	})
}

// BenchmarkForeign measures how long a foreign session waits for a lock that a
// Locker with hand-off passes from caller to caller.
func BenchmarkForeign(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		var waits samples
		for b.Loop() {
			more, err := t.foreignWaits(200 * time.Millisecond)
			check(b, err)
			waits = append(waits, more...)
		}
		b.ReportMetric(1000*waits.median(), "ms-median")
		b.ReportMetric(1000*waits.quantile(0.99), "ms-p99")
	})
}

// BenchmarkContended measures how long a lock takes from one Locker, or
// session, to another.
func BenchmarkContended(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		b.Run("namedlock", func(b *testing.B) {
			lockers := [2]*locker{opened(b, func() (*locker, error) { return t.locker() }), opened(b, func() (*locker, error) { return t.locker() })}
			handovers(b, func(name string) (float64, error) { return lockerToLocker(lockers, name) })
		})
		b.Run("prepared", func(b *testing.B) {
			sessions := [2]*prepared{opened(b, t.prepared), opened(b, t.prepared)}
			handovers(b, func(name string) (float64, error) { return sessionToSession(sessions, name) })
		})
	})
}

func handovers(b *testing.B, measure func(name string) (float64, error)) {
	name := newName("contended")
	var s samples
	for b.Loop() {
		x, err := measure(name)
		check(b, err)
		s = append(s, x)
	}
	b.ReportMetric(1e6*s.median(), "µs-handover")
}

// BenchmarkHeld acquires and releases many locks that are held at the same
// time.
func BenchmarkHeld(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		for _, n := range []int{100, 10_000} {
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				var h holding
				for b.Loop() {
					var err error
					h, err = t.hold(n, 1)
					check(b, err)
				}
				b.ReportMetric(1e6*h.seconds, "µs/lock")
				b.ReportMetric(h.bytes, "B/lock")
				b.ReportMetric(float64(h.connections), "connections")
			})
		}
	})
}

// BenchmarkWaiters measures an unrelated cycle while a thousand goroutines
// wait.
func BenchmarkWaiters(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		for _, names := range []int{1, 8} {
			b.Run(fmt.Sprint(names), func(b *testing.B) {
				w, err := t.wait(full.waiters, names)
				check(b, err)
				defer w.close()
				name := newName("unrelated")
				for b.Loop() {
					check(b, w.locker.cycle(background, name))
				}
				b.ReportMetric(float64(w.blocked), "waiting-connections")
			})
		}
	})
}

// BenchmarkLoss measures the time from a KILL to the end of the last context
// under the killed session's locks.
func BenchmarkLoss(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		var notice samples
		for b.Loop() {
			losses, err := t.losses(1, 1000)
			check(b, err)
			for _, l := range losses {
				notice = append(notice, l.notice)
			}
		}
		b.ReportMetric(1000*notice.median(), "ms-median")
		b.ReportMetric(1000*notice.quantile(1), "ms-longest")
	})
}

// BenchmarkFresh measures the first lock of a new Locker, and connecting alone.
func BenchmarkFresh(b *testing.B) {
	each(b, func(b *testing.B, t target) {
		b.Run("first lock", func(b *testing.B) {
			for b.Loop() {
				l, err := t.locker(namedlock.WithMaxSessions(1))
				check(b, err)
				check(b, l.cycle(background, newName("fresh")))
				l.close()
			}
		})
		b.Run("connect", func(b *testing.B) {
			for b.Loop() {
				s, err := t.session()
				check(b, err)
				s.close()
			}
		})
	})
}

// opened opens a lock that is closed when the benchmark ends.
func opened[L lock](b *testing.B, open func() (L, error)) L {
	b.Helper()
	l, err := open()
	check(b, err)
	b.Cleanup(l.close)
	return l
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// crowded runs b.N sections of one name in the given number of goroutines.
func crowded(b *testing.B, goroutines int, open func() (lock, error)) {
	l := opened(b, open)
	name := newName("hot")
	share(b, goroutines, func(int) error { return l.section(name, func() {}) })
}

// share calls f b.N times, in the given number of goroutines. Each goroutine
// passes its own number to f.
func share(b *testing.B, goroutines int, f func(i int) error) {
	var all sync.WaitGroup
	errs := make([]error, goroutines)
	b.ResetTimer()
	for i := range goroutines {
		all.Go(func() {
			for n := i; n < b.N && errs[i] == nil; n += goroutines {
				errs[i] = f(i)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	check(b, errors.Join(errs...))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sections/s")
}
