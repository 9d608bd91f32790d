package locktest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock"
)

// inOtherCase returns the name in letters of another case, ASCII and others.
func inOtherCase(name string) string { return strings.ToUpper(name) }

// alike are endings of names that at least one server takes for one.
var alike = [][]string{
	{"foo", "FOO", "Foo", "fOO"},
	{"é", "É"},
	{"σ", "Σ"},
	{"İ", "i", "I"},
	{"ǆ", "Ǆ", "ǅ"},
	{"Ⅷ", "ⅷ"},
}

// In one process, a name is held once in whatever case it is written; in two,
// in the same.
func neverTwice(s *suite) {
	p, other, name := s.start(), s.start(), s.name("twice")
	const callers = 20
	var inside, overlaps, sections atomic.Int32
	section := func(context.Context) error {
		if inside.Add(1) > 1 {
			overlaps.Add(1)
		}
		runtime.Gosched()
		time.Sleep(100 * time.Microsecond)
		inside.Add(-1)
		sections.Add(1)
		return nil
	}
	count := func(callers int, call func(i int) error) {
		errs := make([]error, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() { errs[i] = call(i) })
		}
		all.Wait()
		for _, err := range errs {
			s.noError(err, "a caller among many")
		}
	}
	for _, endings := range alike {
		count(callers, func(i int) error {
			return p.WithLock(s.Context(), name+endings[i%len(endings)], patience, section)
		})
		for _, ending := range endings {
			s.free(other, name+ending)
		}
	}
	count(callers, func(i int) error {
		return []Process{p, other}[i%2].WithLock(s.Context(), name, patience, section)
	})
	s.equal(overlaps.Load(), int32(0), "sections at the same time")
	s.equal(sections.Load(), int32((len(alike)+1)*callers), "sections")
}

// Callers of one process are served in the order of their calls, in whatever
// letter case they write the name, if the holder is in the same process. If the
// holder is in another process, a name in another case may be another lock.
func firstInFirstOut(s *suite) {
	p, other, name := s.start(), s.start(), s.name("order")
	for _, same := range []bool{true, false} {
		holding := other
		if same {
			holding = p
		}
		holder, _ := s.hold(s.Context(), holding, name)
		var waiters []*call
		var mu sync.Mutex
		var order []int
		for i := range 10 {
			written := name
			if same && i%2 == 1 {
				written = inOtherCase(name)
			}
			waiter := s.begin(s.Context(), Process{Interface: before(p, func() {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})}, written, namedlock.Forever)
			waiter.queued()
			waiter.finish(nil)
			waiters = append(waiters, waiter)
		}
		holder.release()
		for _, waiter := range waiters {
			s.noError(waiter.err(), "a waiter")
		}
		if !slices.IsSorted(order) {
			s.Errorf("served in the order %v, behind a holder in the same process: %v", order, same)
		}
	}
}

// before returns a process that runs f under the lock before fn.
func before(p Process, f func()) namedlock.Interface {
	return withLock(func(ctx context.Context, name string, timeout time.Duration, fn func(context.Context) error) error {
		return p.WithLock(ctx, name, timeout, func(ctx context.Context) error {
			f()
			return fn(ctx)
		})
	})
}

// withLock is an Interface made of a function.
type withLock func(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error

func (f withLock) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error {
	return f(ctx, name, timeout, fn)
}

func heldAgain(s *suite) {
	p, other, name := s.start(), s.start(), s.name("again")+"é"
	outer, ctx := s.hold(s.Context(), p, name)
	inner, innerCtx := s.hold(ctx, p, s.name("inner"))
	for _, chain := range []context.Context{ctx, innerCtx, context.WithoutCancel(ctx)} {
		chain, cancel := context.WithTimeout(chain, patience)
		defer cancel()
		for _, again := range []string{name, inOtherCase(name)} {
			for _, timeout := range []time.Duration{0, patience, namedlock.Forever} {
				if !s.isError(p.WithLock(chain, again, timeout, s.unexpected), namedlock.ErrReentrant, again) {
					return
				}
			}
		}
	}
	// In other goroutines of the chain, too, and by Acquire.
	var chain sync.WaitGroup
	for range 10 {
		chain.Go(func() { s.isError(p.WithLock(ctx, name, patience, s.unexpected), namedlock.ErrReentrant, name) })
	}
	chain.Wait()
	if p.Acquire != nil {
		_, err := p.Acquire(innerCtx, name, patience)
		s.isError(err, namedlock.ErrReentrant, name)
	}
	s.noError(ctx.Err(), "the context of the lock, which stays held")
	s.taken(other, name)
	inner.release()
	outer.release()

	for _, endings := range alike {
		for _, held := range endings {
			holder, ctx := s.hold(s.Context(), p, name+held)
			for _, again := range endings {
				s.isError(p.WithLock(ctx, name+again, 0, s.unexpected), namedlock.ErrReentrant, name+again)
			}
			holder.release()
		}
	}
}

func otherNamesNest(s *suite) {
	p, other := s.start(), s.start()
	var names []string
	for range 5 {
		names = append(names, s.name("nest"))
	}
	var nest func(ctx context.Context, depth int) error
	nest = func(ctx context.Context, depth int) error {
		if depth == len(names) {
			return nil
		}
		err := p.WithLock(ctx, names[depth], 0, func(ctx context.Context) error {
			s.taken(other, names[depth])
			return nest(ctx, depth+1)
		})
		s.free(other, names[depth])
		if depth > 0 {
			s.taken(other, names[depth-1])
		}
		return err
	}
	s.noError(nest(s.Context(), 0), "nested locks")
}

// A context that outlives its lock no longer belongs to a call chain.
func contextKept(s *suite) {
	p, name := s.start(), s.name("kept")
	holder, ctx := s.hold(s.Context(), p, name)
	holder.release()
	kept := context.WithoutCancel(ctx)
	s.noError(p.WithLock(kept, name, 0, nothing), "taking the lock again, under the context it had")
	if p.Acquire != nil {
		lock, err := p.Acquire(kept, name, 0)
		if err != nil {
			s.Fatal(err)
		}
		s.noError(lock.Release(), "Release")
		s.noError(p.WithLock(context.WithoutCancel(lock.Context()), name, 0, nothing), "taking the lock again, under Lock.Context")
	}
	holder, _ = s.hold(s.Context(), p, name)
	s.isError(p.WithLock(kept, name, aWhile, s.unexpected), namedlock.ErrTimeout, name)
	holder.release()
}

func otherProcessesChain(s *suite) {
	p, other, name := s.start(), s.start(), s.name("others")
	_, ctx := s.hold(s.Context(), p, name)
	s.isError(other.WithLock(ctx, name, aWhile, s.unexpected), namedlock.ErrTimeout, name)
	_, ctx = s.hold(ctx, other, s.name("own"))
	s.isError(p.WithLock(ctx, name, 0, s.unexpected), namedlock.ErrReentrant, name)
}

// lost fails the test unless ctx, the context under the lock, ends by its loss.
func (s *suite) lost(ctx context.Context, name string) {
	s.Helper()
	s.ended(ctx, "the context under "+name+", which is lost,")
	cause := context.Cause(ctx)
	if !errors.Is(cause, namedlock.ErrLost) {
		s.Fatalf("the context's cause is %v, want one that matches ErrLost", cause)
	}
	s.about(cause, "hold", name)
	s.equal(ctx.Err(), context.Canceled, "the context's error")
}

func lossEndsTheContext(s *suite) {
	p, other, name := s.starting("Lose"), s.start(), s.name("loss")
	holder, ctx := s.hold(s.Context(), p, name)
	s.noError(ctx.Err(), "fn's context")
	p.Lose(name)
	s.lost(ctx, name)
	s.freeSoon(other, name)
	holder.finish(nil)
	err := holder.err()
	s.matches(err, namedlock.ErrLost)
	s.about(err, "release", name)
	s.free(s.afterLoss(p), name)
}

// After a loss the name stays closed to its own process until fn has returned.
func closedAfterLoss(s *suite) {
	p, other, name := s.starting("Lose"), s.start(), s.name("closed")
	holder, ctx := s.hold(s.Context(), p, name)
	waiter := s.begin(s.Context(), p, name, namedlock.Forever)
	waiter.queued()
	p.Lose(name)
	s.lost(ctx, name)
	if p.LossIsFinal {
		s.isError(waiter.err(), namedlock.ErrUnavailable, name)
		// Neither this name nor any other can be acquired, now or later.
		for _, name := range []string{name, s.name("next")} {
			s.isError(p.WithLock(s.Context(), name, namedlock.Forever, s.unexpected), namedlock.ErrUnavailable, name)
		}
		return
	}
	for _, timeout := range []time.Duration{0, aWhile} {
		s.isError(p.WithLock(s.Context(), name, timeout, s.unexpected), namedlock.ErrTimeout, name)
	}
	s.isError(p.WithLock(context.WithoutCancel(ctx), name, 0, s.unexpected), namedlock.ErrReentrant, name)
	newer, newerCtx := s.hold(s.Context(), other, name)
	waiter.waits()
	holder.finish(nil)
	s.matches(holder.err(), namedlock.ErrLost)
	waiter.waits()
	s.noError(newerCtx.Err(), "the newer holder's context")
	s.taken(other, name)
	newer.release()
	waiter.holds()
	waiter.release()
}
