package locktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock"
)

// names returns n names that no other caller uses.
func (s *suite) names(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = s.name("many")
	}
	return names
}

// all returns a process whose calls, by whatever name, are for all these names.
func all(p Process, names ...string) Process {
	return Process{Interface: withLock(func(ctx context.Context, _ string, timeout time.Duration, fn func(context.Context) error) error {
		return p.WithLocks(ctx, names, timeout, fn)
	})}
}

// busy holds the names in p until free is called.
func (s *suite) busy(p Process, names ...string) (free func()) {
	s.Helper()
	var holders []*call
	for _, name := range names {
		holder, _ := s.hold(s.Context(), p, name)
		holders = append(holders, holder)
	}
	return func() {
		s.Helper()
		for _, holder := range holders {
			holder.release()
		}
	}
}

func badLists(s *suite) {
	p, names := s.starting("WithLocks"), s.names(2)
	for _, none := range [][]string{nil, {}} {
		s.isError(p.WithLocks(s.Context(), none, patience, s.unexpected), namedlock.ErrInvalidName, "")
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a\x00b", "a\xffb"} {
		s.isError(p.WithLocks(s.Context(), []string{names[0], bad, names[1]}, patience, s.unexpected), namedlock.ErrInvalidName, bad)
	}
	s.matches(p.WithLocks(s.Context(), names, -1, s.unexpected), namedlock.ErrInvalidTimeout)
	why := errors.New("why")
	ended, end := context.WithCancelCause(s.Context())
	end(why)
	err := p.WithLocks(ended, names, patience, s.unexpected)
	s.matches(err, context.Canceled)
	s.matches(err, why)
	s.free(p, names...)
}

// If one cannot be acquired, the others are not kept, whichever it is and
// however long it was waited for.
func allOrNothing(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(3)
	given := slices.Clone(names)
	for i, name := range names {
		free := s.busy(other, name)
		for _, timeout := range []time.Duration{0, aWhile} {
			s.isError(p.WithLocks(s.Context(), names, timeout, s.unexpected), namedlock.ErrTimeout, name)
			s.free(other, slices.Delete(slices.Clone(names), i, i+1)...)
		}
		free()
		// On a busy server the wait that has timed out may still be in its queue.
		s.freeSoon(other, name)
	}
	calls := 0
	s.noError(p.WithLocks(s.Context(), names, 0, func(ctx context.Context) error {
		calls++
		s.noError(ctx.Err(), "fn's context")
		for _, name := range names {
			s.taken(other, name)
		}
		return nil
	}), "WithLocks")
	s.equal(calls, 1, "fn's runs")
	s.free(other, names...)
	if !slices.Equal(names, given) {
		s.Errorf("the list is %q after the calls; it was %q before", names, given)
	}
}

// One timeout bounds the waits for all locks together.
func oneTimeoutForAll(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(2)
	s.prompt(100*time.Millisecond, "a timeout for two locks", func() time.Duration {
		const timeout = 400 * time.Millisecond
		first := s.first(p, other, names)
		holder, _ := s.hold(s.Context(), other, first)
		free := s.busy(other, slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == first })...)
		time.AfterFunc(timeout/2, func() { holder.finish(nil) })
		start := time.Now()
		err := p.WithLocks(s.Context(), names, timeout, s.unexpected)
		took := time.Since(start)
		s.matches(err, namedlock.ErrTimeout)
		if took < timeout {
			s.Errorf("waited for %v, which is shorter than %v", took, timeout)
		}
		s.noError(holder.err(), "the holder")
		free()
		return took - timeout
	})
}

// first returns which of the names p takes first: the one that cannot be
// acquired when none is.
func (s *suite) first(p, other Process, names []string) string {
	s.Helper()
	holder, _ := s.hold(s.Context(), all(other, names...), "all")
	defer holder.release()
	var e *namedlock.Error
	if err := p.WithLocks(s.Context(), names, 0, s.unexpected); !errors.As(err, &e) || !slices.Contains(names, e.Name) {
		s.Fatalf("got error %v, want one that names one of %q", err, names)
	}
	return e.Name
}

// Calls with some names in common, in whatever order they are written, all get
// their locks, one call at a time.
func overlapIsNoDeadlock(s *suite) {
	p, names := s.starting("WithLocks"), s.names(4)
	processes := []Process{p, s.start(), s.start()}
	s.overlap(processes, names, func(name string) string { return name })
	// In two processes a name in another case may be another lock.
	s.overlap(processes[:1], names, func(name string) string {
		if rand.N(2) == 0 {
			return inOtherCase(name)
		}
		return name
	})
	s.free(p, names...)
}

// overlap takes lists of the names, each written by written, in the processes.
func (s *suite) overlap(processes []Process, names []string, written func(name string) string) {
	s.Helper()
	inside := make([]atomic.Int32, len(names))
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for range 4 {
				some := rand.Perm(len(names))[:2+rand.N(len(names)-1)]
				var list []string
				for _, n := range some {
					list = append(list, written(names[n]))
				}
				s.noError(processes[i%len(processes)].WithLocks(s.Context(), list, patience, func(context.Context) error {
					for _, n := range some {
						if inside[n].Add(1) > 1 {
							s.Errorf("two callers hold %s at the same time", names[n])
						}
					}
					runtime.Gosched()
					for _, n := range some {
						inside[n].Add(-1)
					}
					return nil
				}), fmt.Sprintf("WithLocks(%q)", list))
			}
		})
	}
	callers.Wait()
}

func duplicatesOnce(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(2)
	list := []string{names[1], names[0], names[1], names[0], inOtherCase(names[1])}
	calls := 0
	s.noError(p.WithLocks(s.Context(), list, 0, func(ctx context.Context) error {
		calls++
		for _, name := range names {
			s.taken(other, name)
		}
		for _, name := range list {
			s.isError(p.WithLock(ctx, name, patience, s.unexpected), namedlock.ErrReentrant, name)
		}
		return nil
	}), "WithLocks")
	s.equal(calls, 1, "fn's runs")
	s.free(other, list...)
}

// A name that the call chain holds is refused before any other is waited for.
func oneHeldAgain(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(3)
	outer, ctx := s.hold(s.Context(), p, names[1])
	free := s.busy(other, names[0], names[2])
	s.isError(p.WithLocks(ctx, names, patience, s.unexpected), namedlock.ErrReentrant, names[1])
	free()
	s.noError(ctx.Err(), "the context of the lock, which stays held")
	s.taken(other, names[1])
	// The others nest under it.
	inner, _ := s.hold(ctx, all(p, names[0], names[2]), "the others")
	s.taken(other, names[0])
	inner.release()
	outer.release()
	s.free(other, names...)
}

// A waiter for the lock that is acquired first finds the other locks free when
// it gets that lock. There are many locks, so that a release in another order
// would show.
func releasedInReverse(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(30)
	first := s.first(p, other, names)
	for range 5 {
		holder, _ := s.hold(s.Context(), all(p, names...), "all")
		waiter := s.begin(s.Context(), Process{Interface: before(other, func() {
			for _, name := range slices.Backward(names) {
				if name != first {
					s.free(p, name)
				}
			}
		})}, first, namedlock.Forever)
		waiter.queued()
		waiter.finish(nil)
		holder.release()
		s.noError(waiter.err(), "the waiter")
	}
}

func allReleasedHoweverFnEnds(s *suite) {
	p, other, names := s.starting("WithLocks"), s.start(), s.names(3)
	own := errors.New("fn's own")
	for about, end := range map[string]func(){
		"error": func() {
			s.equal(p.WithLocks(s.Context(), names, 0, func(context.Context) error { return own }), own, "WithLocks' error")
		},
		"end of the caller's context": func() {
			ctx, cancel := context.WithCancel(s.Context())
			s.equal(p.WithLocks(ctx, names, 0, func(ctx context.Context) error {
				cancel()
				s.ended(ctx, "fn's context, whose parent has ended,")
				for _, name := range names {
					s.taken(other, name)
				}
				return own
			}), own, "WithLocks' error")
		},
		"panic": func() {
			defer func() { s.equal(recover(), own, "the panic's value") }()
			_ = p.WithLocks(s.Context(), names, 0, func(context.Context) error { panic(own) })
			s.Error("the panic was recovered")
		},
		"Goexit": func() {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = p.WithLocks(s.Context(), names, 0, func(context.Context) error {
					runtime.Goexit()
					return nil
				})
				s.Error("the goroutine continues after Goexit")
			}()
			<-ended
		},
	} {
		s.Logf("fn ends by: %s", about)
		end()
		s.free(other, names...)
		s.free(p, names...)
	}
}

// Whichever lock is lost, the code under all of them is told.
func lossOfOne(s *suite) {
	for i := range 3 {
		p, other, names := s.starting("WithLocks", "Lose"), s.start(), s.names(3)
		holder, ctx := s.hold(s.Context(), all(p, names...), "all")
		p.Lose(names[i])
		s.ended(ctx, "the context under "+names[i]+", which is lost,")
		cause := context.Cause(ctx)
		s.matches(cause, namedlock.ErrLost)
		if e := (*namedlock.Error)(nil); !errors.As(cause, &e) || e.Op != "hold" || !slices.Contains(names, e.Name) {
			s.Errorf("the cause %v does not name the hold of one of %q", cause, names)
		}
		s.freeSoon(other, names[i])
		holder.finish(nil)
		s.matches(holder.err(), namedlock.ErrLost)
		p = s.afterLoss(p)
		for _, name := range names {
			s.freeSoon(other, name)
		}
		s.free(p, names...)
	}
}
