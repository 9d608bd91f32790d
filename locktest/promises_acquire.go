package locktest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock"
)

func badArguments(s *suite) {
	p, name := s.start(), s.name("bad")
	for about, bad := range map[string]string{
		"empty":              "",
		"too long":           strings.Repeat("x", 65),
		"too long, in runes": strings.Repeat("é", 65),
		"NUL":                "a\x00b",
		"no UTF-8":           "a\xffb",
		"beyond the BMP":     "a\U0001F600b",
	} {
		s.Logf("name: %s", about)
		s.isError(p.WithLock(s.Context(), bad, patience, s.unexpected), namedlock.ErrInvalidName, bad)
	}
	for _, timeout := range []time.Duration{-1, -time.Second, -1 << 63} {
		s.isError(p.WithLock(s.Context(), name, timeout, s.unexpected), namedlock.ErrInvalidTimeout, name)
	}
	s.free(p, name)
}

func endedContext(s *suite) {
	p, name := s.start(), s.name("ended")
	why := errors.New("the cause that the context was cancelled with")
	canceled, cancel := context.WithCancelCause(s.Context())
	cancel(why)
	for _, timeout := range []time.Duration{0, patience, namedlock.Forever} {
		err := p.WithLock(canceled, name, timeout, s.unexpected)
		s.isError(err, context.Canceled, name)
		s.matches(err, why)
	}
	expired, cancelExpired := context.WithDeadline(s.Context(), time.Now().Add(-time.Second))
	defer cancelExpired()
	s.isError(p.WithLock(expired, name, patience, s.unexpected), context.DeadlineExceeded, name)
	s.free(p, name)
}

func zeroTriesOnce(s *suite) {
	p, other, name := s.start(), s.start(), s.name("zero")
	ran := 0
	s.noError(p.WithLock(s.Context(), name, 0, func(context.Context) error {
		ran++
		return nil
	}), "a free name")
	s.equal(ran, 1, "fn's runs")

	holder, _ := s.hold(s.Context(), other, name)
	s.prompt(time.Second, "trying once", func() time.Duration {
		start := time.Now()
		s.taken(p, name)
		return time.Since(start)
	})
	holder.release()
	s.free(p, name)
}

func foreverWaits(s *suite) {
	p, other, name := s.start(), s.start(), s.name("forever")
	holder, _ := s.hold(s.Context(), other, name)
	waiter := s.begin(s.Context(), p, name, namedlock.Forever)
	waiter.queued()
	waiter.waits()
	holder.release()
	waiter.holds()
	s.taken(other, name)
	waiter.release()
	s.free(other, name)
}

func localLineIsBounded(s *suite) {
	p, name := s.start(), s.name("line")
	holder, ctx := s.hold(s.Context(), p, name)
	s.taken(p, name)
	s.prompt(100*time.Millisecond, "a timeout behind a holder in the same process", func() time.Duration {
		const timeout = 150 * time.Millisecond
		start := time.Now()
		s.isError(p.WithLock(s.Context(), name, timeout, s.unexpected), namedlock.ErrTimeout, name)
		return time.Since(start) - timeout
	})
	s.noError(ctx.Err(), "the holder's context")
	holder.release()
	s.free(p, name)
}

func freeNameBesideWaiters(s *suite) {
	p, other := s.start(), s.start()
	var waiters []*call
	var holders []*call
	for range 5 {
		name := s.name("beside")
		holder, _ := s.hold(s.Context(), other, name)
		waiter := s.begin(s.Context(), p, name, namedlock.Forever)
		waiter.queued()
		holders, waiters = append(holders, holder), append(waiters, waiter)
	}
	s.free(p, s.name("free"))
	for i, holder := range holders {
		holder.release()
		waiters[i].holds()
		waiters[i].release()
	}
}

func waitIsExact(s *suite) {
	p, other, name := s.start(), s.start(), s.name("exact")
	holder, _ := s.hold(s.Context(), other, name)
	for _, timeout := range []time.Duration{time.Millisecond, 90 * time.Millisecond, 400 * time.Millisecond, 1100 * time.Millisecond} {
		s.prompt(100*time.Millisecond, "a timeout of "+timeout.String(), func() time.Duration {
			start := time.Now()
			err := p.WithLock(s.Context(), name, timeout, s.unexpected)
			took := time.Since(start)
			s.isError(err, namedlock.ErrTimeout, name)
			if took < timeout {
				s.Errorf("waited for %v, which is shorter than %v", took, timeout)
			}
			return took - timeout
		})
	}
	holder.release()
}

// The holder is another process, or the process itself.
func contextEndsFirst(s *suite) {
	p, other := s.start(), s.start()
	why := errors.New("the cause that the context ended with")
	for about, holding := range map[string]Process{"the same process": p, "another process": other} {
		s.Logf("behind a holder in %s", about)
		name := s.name("context")
		holder, _ := s.hold(s.Context(), holding, name)

		deadline, cancel := context.WithTimeout(s.Context(), aWhile)
		defer cancel()
		s.isError(p.WithLock(deadline, name, patience, s.unexpected), context.DeadlineExceeded, name)

		deadline, cancel = context.WithTimeoutCause(s.Context(), aWhile, why)
		defer cancel()
		err := p.WithLock(deadline, name, namedlock.Forever, s.unexpected)
		s.isError(err, context.DeadlineExceeded, name)
		s.matches(err, why)

		canceled, cancelCause := context.WithCancelCause(s.Context())
		waiter := s.begin(canceled, p, name, namedlock.Forever)
		waiter.queued()
		cancelCause(why)
		err = waiter.err()
		s.isError(err, context.Canceled, name)
		s.matches(err, why)

		holder.release()
		s.freeSoon(p, name)
	}
}

func nestedTimeout(s *suite) {
	p, other, outer, inner := s.start(), s.start(), s.name("outer"), s.name("inner")
	holder, _ := s.hold(s.Context(), other, inner)
	err := p.WithLock(s.Context(), outer, 0, func(ctx context.Context) error {
		return p.WithLock(ctx, inner, aWhile, s.unexpected)
	})
	s.isError(err, namedlock.ErrTimeout, inner)
	holder.release()
	s.free(other, outer)
}

// The holder is another process, or the process itself; the wait is under
// another lock, or under none.
func cancelReturns(s *suite) {
	p, other, far, near := s.start(), s.start(), s.name("far"), s.name("near")
	cancels := func(under context.Context, name string) {
		s.Helper()
		s.prompt(100*time.Millisecond, "the return after a cancel", func() time.Duration {
			ctx, cancel := context.WithCancel(under)
			waiter := s.begin(ctx, p, name, namedlock.Forever)
			waiter.queued()
			waiter.waits()
			start := time.Now()
			cancel()
			err := waiter.err()
			took := time.Since(start)
			s.isError(err, context.Canceled, name)
			return took
		})
	}
	farHolder, _ := s.hold(s.Context(), other, far)
	cancels(s.Context(), far)
	nearHolder, _ := s.hold(s.Context(), p, near)
	cancels(s.Context(), near)
	outer, under := s.hold(s.Context(), p, s.name("outer"))
	cancels(under, far)
	cancels(under, near)
	s.noError(under.Err(), "the context of the lock around")
	for _, holder := range []*call{outer, nearHolder, farHolder} {
		holder.release()
	}
	s.freeSoon(other, far)
	s.freeSoon(other, near)
}

// A grant and a cancel meet.
func cancelLeavesNothing(s *suite) {
	p, other, name := s.start(), s.start(), s.name("race")
	for range 30 {
		holder, _ := s.hold(s.Context(), other, name)
		ctx, cancel := context.WithCancel(s.Context())
		waiter := s.begin(ctx, p, name, namedlock.Forever)
		waiter.queued()
		waiter.finish(nil) // it does not keep what it gets
		holder.finish(nil)
		cancel()
		if err := waiter.err(); err != nil {
			s.isError(err, context.Canceled, name)
		}
		s.noError(holder.err(), "the holder")
		s.freeSoon(other, name)
	}
}

func deadlockWithin(s *suite) {
	p := s.start()
	s.deadlock(p, p)
}

func deadlockBetween(s *suite) {
	s.deadlock(s.start(), s.start())
}

// deadlock has two call chains ask for each other's lock. One of them is told,
// its lock stays, and when it gives way the other goes on. If both begin to
// wait in the same moment, servers may tell both: with plain connections 137 of
// 20,000 times on MySQL 9.7, 102 on MariaDB 10.11.
func (s *suite) deadlock(first, second Process) {
	s.Helper()
	a, b := s.name("a"), s.name("b")
	outerA, underA := s.hold(s.Context(), first, a)
	outerB, underB := s.hold(s.Context(), second, b)
	innerB := s.begin(underA, first, b, patience)
	innerB.queued()
	innerB.waits()
	innerA := s.begin(underB, second, a, patience)

	victim, outer, underVictim := innerA, outerB, underB
	other, otherOuter, underOther := innerB, outerA, underA
	var err error
	select {
	case err = <-innerA.done:
	case err = <-innerB.done:
		victim, outer, underVictim = innerB, outerA, underA
		other, otherOuter, underOther = innerA, outerB, underB
	case <-time.After(patience / 2):
		s.Fatal("the deadlock was not detected")
	}
	s.isError(err, namedlock.ErrDeadlock, victim.name)
	s.noError(underVictim.Err(), "the context of the lock that stays")
	select {
	case <-other.held:
		s.Fatalf("the call for %s has the lock, but must wait", other.name)
	case err := <-other.done:
		s.isError(err, namedlock.ErrDeadlock, other.name)
		s.noError(underOther.Err(), "the context of the other lock that stays")
		outer.release()
	case <-time.After(aWhile):
		outer.release()
		other.holds()
		other.release()
	}
	otherOuter.release()
	s.free(first, a, b)
}

func noDeadlock(s *suite) {
	p, other, a, b := s.start(), s.start(), s.name("a"), s.name("b")
	outer, underA := s.hold(s.Context(), p, a)
	inner, _ := s.hold(underA, p, b)
	behindA := s.begin(s.Context(), other, a, namedlock.Forever)
	behindB := s.begin(s.Context(), p, b, namedlock.Forever)
	behindA.queued()
	behindB.queued()
	behindA.waits()
	behindB.waits()
	inner.release()
	behindB.holds()
	outer.release()
	behindA.holds()
	behindA.release()
	behindB.release()
}

func longestNames(s *suite) {
	p, other := s.start(), s.start()
	for _, filling := range []string{"x", "é", "\uFFFD"} {
		name := s.name("long")
		name += strings.Repeat(filling, 64-len(name))
		holder, _ := s.hold(s.Context(), p, name)
		s.taken(other, name)
		holder.release()
		s.free(other, name)
	}
}

func namesAreDistinct(s *suite) {
	p, other, base := s.start(), s.start(), s.name("distinct")
	names := []string{base, base + " ", " " + base, base + "e", base + "é", base + "%", base + "'", base + `\`, base + "ß", base + "ss"}
	for _, name := range names {
		s.begin(s.Context(), p, name, 0).holds()
		s.taken(other, name)
	}
}
