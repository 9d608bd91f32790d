package locktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/lateness"
)

// patience is for how long the suite waits for what must happen; it decides
// nothing.
const patience = 20 * time.Second

// aWhile is for how long it looks whether something happens that must not.
const aWhile = 50 * time.Millisecond

// A suite is one test of Run.
type suite struct {
	*testing.T
	another func() Process
	notices atomic.Bool // a call is noticed when it begins to wait: see queued
}

// start starts a process that ends with the test.
func (s *suite) start() Process {
	s.Helper()
	p := s.another()
	if p.Interface == nil {
		s.Fatal("the Process of the factory has a nil Interface")
	}
	p.Interface = watched{p.Interface}
	if p.Close != nil {
		s.Cleanup(func() {
			closed := make(chan error, 1)
			go func() { closed <- p.Close() }()
			select {
			case err := <-closed:
				s.noError(err, "Close")
			case <-time.After(patience):
				s.Errorf("Close has not returned after %v", patience)
			}
		})
	}
	return p
}

// watched is an implementation whose WithLock does not block indefinitely
// without a message.
type watched struct{ namedlock.Interface }

// WithLock panics if it has neither returned nor called fn long after the
// timeout. The blocked goroutine cannot report it in another way.
func (w watched) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error {
	if fn == nil || timeout < 0 || timeout > patience {
		return w.Interface.WithLock(ctx, name, timeout, fn)
	}
	bound := timeout + patience
	dog := time.AfterFunc(bound, func() {
		panic(fmt.Sprintf("locktest: WithLock(ctx, %q, %v, fn) has neither returned nor called fn after %v", name, timeout, bound))
	})
	defer dog.Stop()
	return w.Interface.WithLock(ctx, name, timeout, func(ctx context.Context) error {
		dog.Stop()
		return fn(ctx)
	})
}

// starting returns a process whose optional parts are there, or skips the test.
func (s *suite) starting(needs ...string) Process {
	s.Helper()
	p := s.start()
	for _, need := range needs {
		missing := need == "Acquire" && p.Acquire == nil || need == "WithLocks" && p.WithLocks == nil || need == "WithSlot" && p.WithSlot == nil ||
			need == "Close" && p.Close == nil || need == "Lose" && p.Lose == nil
		if missing {
			s.Skipf("needs Process.%s, which the factory does not provide", need)
		}
	}
	return p
}

// afterLoss returns a process to go on with after p has lost a lock.
func (s *suite) afterLoss(p Process) Process {
	s.Helper()
	if p.LossIsFinal {
		return s.start()
	}
	return p
}

var (
	thisRun   = strings.ToLower(rand.Text()[:8])
	nameCount atomic.Int64
)

// name returns a name that no other caller uses.
func (s *suite) name(about string) string {
	return fmt.Sprintf("locktest-%s-%s-%d", about, thisRun, nameCount.Add(1))
}

func (s *suite) noError(err error, what string) {
	s.Helper()
	if err != nil {
		s.Errorf("%s: unexpected error: %v", what, err)
	}
}

func (s *suite) equal(got, want any, what string) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// called is the type of a sentinel, or the text of another error.
func called(err error) string {
	for typ, sentinel := range namedlock.ErrorTypes() {
		if err == sentinel {
			return typ
		}
	}
	return fmt.Sprintf("%q", err)
}

// here is the line of the promise that is being tested, for what is said in a
// function that the implementation calls.
func here() string {
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if file := filepath.Base(frame.File); strings.HasPrefix(file, "promises_") {
			return fmt.Sprintf("%s:%d", file, frame.Line)
		}
		if !more {
			return "another goroutine"
		}
	}
}

// isError fails the test unless err is an *Error about the name that matches
// want and, of all others, no sentinel. It reports whether err matches want.
func (s *suite) isError(err, want error, name string) bool {
	s.Helper()
	if !s.matches(err, want) {
		return false
	}
	for typ, other := range namedlock.ErrorTypes() {
		if errors.Is(err, other) && !errors.Is(want, other) {
			s.Errorf("error %q matches both %s and %s", err, called(want), typ)
		}
	}
	s.about(err, "acquire", name)
	return true
}

// matches fails the test unless err matches want.
func (s *suite) matches(err, want error) bool {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got error %v, want one that matches %s", err, called(want))
		return false
	}
	return true
}

// about fails the test unless err is an *Error of that operation on that name.
func (s *suite) about(err error, op, name string) {
	s.Helper()
	var e *namedlock.Error
	if !errors.As(err, &e) {
		s.Errorf("error %v is not a *namedlock.Error", err)
		return
	}
	if e.Op != op || e.Name != name {
		s.Errorf("error %v is about %s %q, want %s %q", err, e.Op, e.Name, op, name)
	}
}

// free fails the test unless p can have the names at once.
func (s *suite) free(p Process, names ...string) {
	s.Helper()
	for _, name := range names {
		s.noError(p.WithLock(s.Context(), name, 0, nothing), "acquiring "+name+", which must be free")
	}
}

// freeSoon fails the test unless p can have the name when what is still under
// way has ended.
func (s *suite) freeSoon(p Process, name string) {
	s.Helper()
	s.noError(p.WithLock(s.Context(), name, patience, nothing), "acquiring "+name+", which must become free")
}

// taken fails the test unless a process other than p holds the name.
func (s *suite) taken(p Process, name string) {
	s.Helper()
	s.isError(p.WithLock(s.Context(), name, 0, s.unexpected), namedlock.ErrTimeout, name)
}

func nothing(context.Context) error { return nil }

// unexpected is a function that must not run.
func (s *suite) unexpected(context.Context) error {
	s.Errorf("%s: fn ran, but the call must fail", here())
	return nil
}

// prompt fails the test unless f, which says how long something took, stays
// within limit and the lateness of this machine in that time.
func (s *suite) prompt(limit time.Duration, what string, f func() time.Duration) {
	s.Helper()
	var took time.Duration
	late := lateness.Of(func() { took = f() })
	if allowed := limit + late; took > allowed {
		s.Errorf("%s: %s took %v, longer than the allowed %v", here(), what, took, allowed)
	}
}

// A call is a WithLock that runs in a goroutine of its own, and holds its lock
// until it is told to return.
type call struct {
	*suite
	name   string
	inLine chan struct{}        // closed when it waits, or has waited
	held   chan context.Context // gets fn's context when fn begins
	finish context.CancelCauseFunc
	told   <-chan struct{} // closed by finish
	done   chan error      // gets WithLock's error
}

// begin starts a call, which ends with the test at the latest.
func (s *suite) begin(ctx context.Context, p Process, name string, timeout time.Duration) *call {
	s.Helper()
	finished, finish := context.WithCancelCause(context.Background())
	s.Cleanup(func() { finish(nil) })
	c := &call{
		suite:  s,
		name:   name,
		inLine: make(chan struct{}),
		held:   make(chan context.Context, 1),
		finish: finish,
		told:   finished.Done(),
		done:   make(chan error, 1),
	}
	ctx = &noticed{Context: ctx, notice: sync.OnceFunc(func() { close(c.inLine) })}
	go func() {
		c.done <- p.WithLock(ctx, name, timeout, func(ctx context.Context) error {
			c.held <- ctx
			<-finished.Done()
			if err := context.Cause(finished); err != context.Canceled {
				return err
			}
			return nil
		})
	}()
	return c
}

// noticed is a context that reports when a goroutine begins to wait for its
// end.
type noticed struct {
	context.Context
	notice func()
}

func (c *noticed) Done() <-chan struct{} {
	c.notice()
	return c.Context.Done()
}

// hold begins a call that gets its lock, and returns when it has it, with fn's
// context.
func (s *suite) hold(ctx context.Context, p Process, name string) (*call, context.Context) {
	s.Helper()
	c := s.begin(ctx, p, name, patience)
	ctx = c.holds()
	select {
	case <-c.inLine:
		s.notices.Store(true)
	default:
	}
	return c, ctx
}

// queued waits until the call is in the queue, or past it. If a call that got
// its lock did not use its context, the implementation is taken for one that
// does not when it begins to wait. For such a one queued waits for a fixed
// time.
func (c *call) queued() {
	c.Helper()
	bound := 4 * aWhile
	if c.notices.Load() {
		bound = patience
	}
	select {
	case <-c.inLine:
	case <-time.After(bound):
	}
}

// holds waits until the call's fn runs, and returns its context.
func (c *call) holds() context.Context {
	c.Helper()
	select {
	case ctx := <-c.held:
		return ctx
	case err := <-c.done:
		c.Fatalf("the call for %s ended without the lock: %v", c.name, err)
	case <-time.After(patience):
		c.Fatalf("the call for %s did not get the lock", c.name)
	}
	panic("unreachable")
}

// waits fails the test if the call gets the lock, or ends.
func (c *call) waits() {
	c.Helper()
	select {
	case <-c.held:
		c.Fatalf("the call for %s has the lock, but must wait", c.name)
	case err := <-c.done:
		c.Fatalf("the call for %s has ended, but must wait: %v", c.name, err)
	case <-time.After(aWhile):
	}
}

// err waits for the end of the call, which needs no telling, or has been told.
func (c *call) err() error {
	c.Helper()
	held := c.held
	select {
	case <-c.told:
		held = nil
	default:
	}
	select {
	case err := <-c.done:
		return err
	case <-held:
		c.finish(nil)
		c.Fatalf("the call for %s acquired the lock, but must fail", c.name)
	case <-time.After(patience):
		c.Fatalf("the call for %s has not ended in time", c.name)
	}
	panic("unreachable")
}

// release lets the call's fn return nil, and waits for the end.
func (c *call) release() {
	c.Helper()
	c.finish(nil)
	c.noError(c.err(), "the call for "+c.name)
}

// ended waits for the end of a context.
func (s *suite) ended(ctx context.Context, whose string) {
	s.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		s.Fatalf("%s has not ended in time", whose)
	}
}
