package locktest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
)

func releasedHoweverFnEnds(s *suite) {
	p, other, name := s.start(), s.start(), s.name("ends")
	own := errors.New("fn's own")
	for about, end := range map[string]func(){
		"return": func() {
			s.noError(p.WithLock(s.Context(), name, 0, nothing), "WithLock")
		},
		"error": func() {
			s.equal(p.WithLock(s.Context(), name, 0, func(context.Context) error { return own }), own, "WithLock's error")
		},
		"panic": func() {
			defer func() { s.equal(recover(), own, "the panic's value") }()
			_ = p.WithLock(s.Context(), name, 0, func(context.Context) error { panic(own) })
			s.Error("the panic was recovered")
		},
		"Goexit": func() {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = p.WithLock(s.Context(), name, 0, func(context.Context) error {
					runtime.Goexit()
					return nil
				})
				s.Error("the goroutine continues after Goexit")
			}()
			<-ended
		},
		"panic in a nested lock": func() {
			defer func() { s.equal(recover(), own, "the panic's value") }()
			_ = p.WithLock(s.Context(), name, 0, func(ctx context.Context) error {
				return p.WithLock(ctx, s.name("inner"), 0, func(context.Context) error { panic(own) })
			})
		},
	} {
		s.Logf("fn ends by: %s", about)
		end()
		s.free(other, name)
		s.free(p, name)
	}
}

// The caller's context ends under the lock: fn is told, and the lock released
// all the same.
func releasedAfterItsContext(s *suite) {
	p, other, name := s.start(), s.start(), s.name("canceled")
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	err := p.WithLock(ctx, name, 0, func(ctx context.Context) error {
		s.taken(other, name)
		cancel()
		s.ended(ctx, "fn's context, whose parent has ended,")
		s.taken(other, name)
		return ctx.Err()
	})
	s.equal(err, context.Canceled, "WithLock's error")
	s.free(other, name)
}

func acquiredOutlives(s *suite) {
	p, other, name := s.starting("Acquire"), s.start(), s.name("acquired")+"É"
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(s.Context(), key{}, "value"))
	lock, err := p.Acquire(ctx, name, 0)
	if err != nil {
		cancel()
		s.Fatal(err)
	}
	cancel()
	s.equal(lock.Name(), name, "Lock.Name")
	s.equal(lock.Context().Value(key{}), any("value"), "the value in Lock.Context")
	s.noError(lock.Context().Err(), "Lock.Context, after the end of the one given to Acquire")
	if end, has := lock.Context().Deadline(); has {
		s.Errorf("Lock.Context has a deadline: %v", end)
	}
	s.noError(p.WithLock(lock.Context(), s.name("nested"), 0, nothing), "a lock under Lock.Context")
	s.taken(other, name)
	s.isError(p.WithLock(lock.Context(), name, patience, s.unexpected), namedlock.ErrReentrant, name)
	s.noError(lock.Release(), "Release")
	s.ended(lock.Context(), "the context of a lock that is released")
	s.equal(context.Cause(lock.Context()), context.Canceled, "its cause")
	s.free(other, name)
}

func fnsErrorAsItIs(s *suite) {
	p, name := s.start(), s.name("as-it-is")
	for _, own := range []error{nil, errors.New("fn's own"), context.Canceled, namedlock.ErrLost} {
		err := p.WithLock(s.Context(), name, 0, func(context.Context) error { return own })
		s.equal(err, own, "WithLock's error")
	}
}

func lossIsJoined(s *suite) {
	p, other, name := s.starting("Lose"), s.start(), s.name("joined")
	own := errors.New("fn's own")
	for _, want := range []error{nil, own} {
		// The second must wait: the name of a lost lock is free when the server has
		// seen the loss.
		err := p.WithLock(s.Context(), name, patience, func(ctx context.Context) error {
			p.Lose(name)
			s.lost(ctx, name)
			return want
		})
		s.matches(err, namedlock.ErrLost)
		if want != nil {
			s.matches(err, want)
		}
		s.about(err, "release", name)
		p = s.afterLoss(p)
	}
	// fn has not looked at its context, and another process has the lock by now.
	for _, want := range []error{nil, own, namedlock.ErrTimeout} {
		var newer *call
		var newerCtx context.Context
		err := p.WithLock(s.Context(), name, patience, func(context.Context) error {
			p.Lose(name)
			newer, newerCtx = s.hold(s.Context(), other, name)
			return want
		})
		s.matches(err, namedlock.ErrLost)
		if want != nil {
			s.matches(err, want)
		}
		s.about(err, "release", name)
		s.noError(newerCtx.Err(), "the newer holder's context")
		p = s.afterLoss(p)
		s.taken(p, name)
		newer.release()
	}
	s.freeSoon(p, name)
}

// A release is never taken for a loss.
func releaseIsNoLoss(s *suite) {
	p, name := s.start(), s.name("no-loss")
	for range 20 {
		var kept context.Context
		s.noError(p.WithLock(s.Context(), name, 0, func(ctx context.Context) error {
			kept = ctx
			return nil
		}), "WithLock")
		s.ended(kept, "fn's context, after WithLock has returned,")
		s.equal(context.Cause(kept), context.Canceled, "its cause")
	}
}

func releaseTwice(s *suite) {
	p, other, name := s.starting("Acquire"), s.start(), s.name("release")
	lock, err := p.Acquire(s.Context(), name, 0)
	if err != nil {
		s.Fatal(err)
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { s.noError(lock.Release(), "Release, by many at the same time") })
	}
	all.Wait()
	for _, newer := range []Process{other, p} {
		holder, ctx := s.hold(s.Context(), newer, name)
		s.noError(lock.Release(), "Release, again")
		s.noError(ctx.Err(), "the newer holder's context")
		s.taken(other, name)
		holder.release()
	}
}

func releaseAfterLoss(s *suite) {
	p, other, name := s.starting("Acquire", "Lose"), s.start(), s.name("release")
	lock, err := p.Acquire(s.Context(), name, 0)
	if err != nil {
		s.Fatal(err)
	}
	p.Lose(name)
	s.lost(lock.Context(), name)
	holder, _ := s.hold(s.Context(), other, name)
	first := lock.Release()
	if !s.matches(first, namedlock.ErrLost) {
		return
	}
	s.about(first, "release", name)
	if again := lock.Release(); s.matches(again, namedlock.ErrLost) {
		s.equal(again.Error(), first.Error(), "Release, again")
	}
	p = s.afterLoss(p)
	s.taken(p, name)
	holder.release()
	newer, err := p.Acquire(s.Context(), name, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.matches(lock.Release(), namedlock.ErrLost)
	s.noError(newer.Context().Err(), "the newer lock's context")
	s.taken(other, name)
	s.noError(newer.Release(), "Release of the newer lock")
	s.free(p, name)
}

func closeEndsWaits(s *suite) {
	p, other := s.starting("Close"), s.start()
	taken, held := s.name("taken"), s.name("held")
	holder, _ := s.hold(s.Context(), other, taken)
	mine, under := s.hold(s.Context(), p, held)
	waiters := []*call{
		s.begin(s.Context(), p, taken, namedlock.Forever),
		s.begin(s.Context(), p, taken, patience),
		s.begin(s.Context(), p, held, patience),
		s.begin(under, p, taken, patience),
	}
	for _, waiter := range waiters {
		waiter.queued()
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	for _, waiter := range waiters {
		s.isError(waiter.err(), namedlock.ErrClosed, waiter.name)
	}
	late := s.name("late")
	s.isError(p.WithLock(s.Context(), late, 0, s.unexpected), namedlock.ErrClosed, late)
	s.isError(p.WithLock(under, late, namedlock.Forever, s.unexpected), namedlock.ErrClosed, late)
	if p.Acquire != nil {
		_, err := p.Acquire(under, late, 0)
		s.isError(err, namedlock.ErrClosed, late)
	}
	select {
	case <-closed:
		s.Error("Close returned while a lock was held")
	case <-time.After(aWhile):
	}
	s.noError(under.Err(), "the context of the lock that is held")
	s.taken(other, held)
	mine.release()
	s.noError(<-closed, "Close")
	s.free(other, held)
	holder.release()
	s.freeSoon(other, taken)
	s.isError(p.WithLock(s.Context(), late, 0, s.unexpected), namedlock.ErrClosed, late)
	s.noError(p.Close(), "Close, again")
}

func closeWaits(s *suite) {
	p, other, name := s.starting("Close", "Acquire"), s.start(), s.name("close")
	lock, err := p.Acquire(s.Context(), name, 0)
	if err != nil {
		s.Fatal(err)
	}
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- p.Close() }()
	}
	select {
	case <-closed:
		s.Error("Close returned while a lock was held")
	case <-time.After(aWhile):
	}
	s.noError(lock.Context().Err(), "Lock.Context")
	s.taken(other, name)
	s.noError(lock.Release(), "Release")
	for range 2 {
		s.noError(<-closed, "Close")
	}
	s.free(other, name)
}

// Neither a timeout, a deadline nor a cancel of a nested wait harms the outer
// lock.
func outerLockSurvives(s *suite) {
	p, other, outer, inner := s.start(), s.start(), s.name("outer"), s.name("inner")
	holder, _ := s.hold(s.Context(), other, inner)
	mine, ctx := s.hold(s.Context(), p, outer)

	s.isError(p.WithLock(ctx, inner, aWhile, s.unexpected), namedlock.ErrTimeout, inner)
	deadline, cancelDeadline := context.WithTimeout(ctx, aWhile)
	defer cancelDeadline()
	s.isError(p.WithLock(deadline, inner, patience, s.unexpected), context.DeadlineExceeded, inner)
	canceled, cancel := context.WithCancel(ctx)
	waiter := s.begin(canceled, p, inner, namedlock.Forever)
	waiter.queued()
	waiter.waits()
	cancel()
	s.isError(waiter.err(), context.Canceled, inner)

	s.noError(ctx.Err(), "the outer lock's context")
	s.taken(other, outer)
	mine.release()
	s.free(other, outer)
	holder.release()
	s.freeSoon(other, inner)
}
