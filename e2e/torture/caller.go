package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/internal/names"
)

// The names that all callers contend for. busyNames are only held for short
// times.
var (
	busyNames  = []string{"torture-busy", "Torture-Busy", "torture-b", "torture-é", "torture-É"}
	slowNames  = []string{"torture-slow", "TORTURE-SLOW", "torture-t"}
	slotNames  = []slotName{{"torture-slots", 2, 4}, {"Torture-Slots", 3, 3}, {"torture-pair", 2, 2}}
	watchNames = allNames()
)

// A slotName is a name with slots. Callers differ in the number of slots, like
// processes while a new version is rolled out.
type slotName struct {
	name        string
	least, most int
}

// allNames returns the names of all locks.
func allNames() []string {
	all := slices.Concat(busyNames, slowNames)
	for _, s := range slotNames {
		all = append(all, names.Gate(s.name))
		for i := range s.most {
			all = append(all, names.Slot(s.name, i))
		}
	}
	return all
}

// A caller is one goroutine that makes one call after the other, with nested
// calls.
type caller struct {
	worker *worker
	slot   *slot
	rand   *rand.Rand
}

func (c *caller) loop(round <-chan struct{}) {
	for {
		select {
		case <-round:
			return
		default:
		}
		l, err := c.slot.get()
		if err != nil {
			c.pause(20 * time.Millisecond) // the server is away
			continue
		}
		if c.chance(20) {
			done := make(chan struct{})
			go func() { // so that fn may end by Goexit
				defer close(done)
				c.call(context.Background(), l, 0, 0, runtime.Goexit)
			}()
			<-done
		} else {
			c.call(context.Background(), l, 0, 0, nil)
		}
		if c.chance(8) {
			c.pause(c.upTo(20 * time.Millisecond))
		}
	}
}

func (c *caller) pause(d time.Duration)              { <-time.After(d) }
func (c *caller) chance(oneIn int) bool              { return c.rand.IntN(oneIn) == 0 }
func (c *caller) upTo(d time.Duration) time.Duration { return time.Duration(c.rand.Int64N(int64(d))) }

// An attempt is one call while it runs.
type attempt struct {
	*caller
	locker *locker
	id     int64
	name   string
	slots  int    // 0: the lock of that name, without slots
	lock   string // the lock that it acquires: the name, or the name of a slot
	own    error  // the error that the section returns
	long   bool
	depth  int
	called int64
	begun  bool
	cutOff bool // its own time limit has ended a statement of a transaction
}

var (
	errGaveUp = errors.New("the caller gave up")
	errOwn    = errors.New("the section's own error")
)

// bang is the value with which sections panic.
type bang struct{ call int64 }

// call makes one call under ctx, within the section of call parent. If exit is
// not nil, the section ends with a call of exit.
func (c *caller) call(ctx context.Context, l *locker, parent int64, depth int, exit func()) {
	a := &attempt{caller: c, locker: l, id: c.worker.calls.Add(1), depth: depth}
	a.name = busyNames[c.rand.IntN(len(busyNames))]
	if l.setup.handOff && !c.chance(4) {
		a.name = busyNames[0] // a lock is only passed on to callers with the very same name
	}
	rarely := 20
	if l.setup.flaky || l.setup.far {
		rarely = 6 // losses are detected later there
	}
	switch {
	case c.chance(rarely):
		a.name, a.long = slowNames[c.rand.IntN(len(slowNames))], c.chance(2)
	case c.chance(6):
		of := slotNames[c.rand.IntN(len(slotNames))]
		a.name, a.slots, a.long = of.name, of.least+c.rand.IntN(of.most-of.least+1), c.chance(rarely)
	}
	a.lock = a.name
	timeout := time.Duration(0)
	switch n := c.rand.IntN(8); {
	case n == 0:
	case n == 1:
		timeout = c.upTo(5 * time.Millisecond)
	case depth > 0 && n < 7:
		timeout = c.upTo(15 * time.Millisecond) // other callers wait for the locks of the chain
	case n < 4:
		timeout = c.upTo(300 * time.Millisecond)
	default:
		timeout = time.Second + c.upTo(time.Second)
	}
	event := history.Event{Kind: history.EventCall, Call: a.id, Parent: parent, Locker: l.id, Name: a.name, N: a.slots, Timeout: timeout}
	cancel := context.CancelFunc(func() {})
	switch c.rand.IntN(6) {
	case 0:
		d := c.upTo(200 * time.Millisecond)
		event.Deadline = history.Now() + int64(d)
		ctx, cancel = context.WithTimeout(ctx, d)
	case 1:
		var giveUp context.CancelCauseFunc
		ctx, giveUp = context.WithCancelCause(ctx)
		timer := time.AfterFunc(c.upTo(150*time.Millisecond), func() {
			a.note(history.Event{Kind: history.EventCancel})
			giveUp(errGaveUp)
			a.note(history.Event{Kind: history.EventCancel}) // the first note may have waited for the file
		})
		cancel = func() { timer.Stop(); giveUp(nil) }
	}
	defer cancel()
	event.At = history.Now()
	c.worker.record.Note(event)

	switch {
	case exit != nil:
		defer func() {
			if a.begun {
				a.finish(history.Event{Outcome: history.Panicked})
			}
		}()
		a.withLock(ctx, timeout, exit)
	case a.slots == 0 && !l.setup.flaky && ctx.Value(inTx{}) == nil && c.chance(3):
		if c.chance(3) {
			a.withTerm(ctx, timeout)
		} else {
			a.withLockTx(ctx, timeout)
		}
	case a.slots == 0 && c.chance(4):
		a.acquire(ctx, timeout)
	case c.chance(12):
		a.withPanic(ctx, timeout)
	default:
		a.withLock(ctx, timeout, nil)
	}
}

func (a *attempt) note(e history.Event) {
	e.Call = a.id
	a.worker.record.Note(e)
}

func (a *attempt) withLock(ctx context.Context, timeout time.Duration, exit func()) {
	if a.chance(3) {
		a.own = errOwn
	}
	a.called = history.Now()
	err := a.hold(ctx, timeout, func(ctx context.Context) error {
		a.section(ctx, func() { a.work(ctx) })
		if exit != nil {
			exit()
		}
		return a.own
	})
	at := history.Now()
	e := history.Event{At: at}
	e.Outcome, e.Flaws = a.judge(ctx, err)
	if err != nil {
		e.Error = err.Error()
	}
	a.finish(e)
}

// hold runs fn under the lock, or under one of the slots.
func (a *attempt) hold(ctx context.Context, timeout time.Duration, fn func(ctx context.Context) error) error {
	if a.slots == 0 {
		return a.locker.WithLock(ctx, a.name, timeout, fn)
	}
	return a.locker.WithSlot(ctx, a.name, a.slots, timeout, func(ctx context.Context, slot int) error {
		a.lock = names.Slot(a.name, slot)
		return fn(ctx)
	})
}

// finish notes that the call has returned. If its connection has ended, finish
// replaces the Locker.
func (a *attempt) finish(e history.Event) {
	e.Kind, e.Called = history.EventReturn, a.called
	a.note(e)
	if e.Outcome != history.Unavailable {
		return
	}
	if a.locker.setup.single {
		a.slot.replace(a.locker)
	}
	a.pause(50 * time.Millisecond) // the server may be away
}

// withPanic checks that the value with which the section panics reaches the
// caller.
func (a *attempt) withPanic(ctx context.Context, timeout time.Duration) {
	want := &bang{a.id}
	defer func() {
		got := recover()
		if got == nil {
			return
		}
		var flaws []string
		if got != any(want) {
			flaws = append(flaws, fmt.Sprintf("the call panicked with %v", got))
		}
		a.finish(history.Event{Outcome: history.Panicked, Flaws: flaws})
	}()
	a.withLock(ctx, timeout, func() { panic(want) })
}

func (a *attempt) acquire(ctx context.Context, timeout time.Duration) {
	a.called = history.Now()
	lock, err := a.locker.Acquire(ctx, a.name, timeout)
	at := history.Now()
	if err != nil {
		outcome, flaws := a.judge(ctx, err)
		a.finish(history.Event{At: at, Outcome: outcome, Error: err.Error(), Flaws: flaws})
		return
	}
	a.section(lock.Context(), func() { a.work(lock.Context()) })
	err = lock.Release()
	e := history.Event{At: history.Now()}
	e.Outcome, e.Flaws = a.judge(ctx, err)
	if err != nil {
		e.Error = err.Error()
	}
	if again := lock.Release(); (again == nil) != (err == nil) || err != nil && again.Error() != e.Error {
		e.Flaws = append(e.Flaws, fmt.Sprintf("a second Release returned %v", again))
	}
	a.finish(e)
}

// section runs code, the code under the lock. It notes the start and the end of
// code, and the end of ctx.
func (a *attempt) section(ctx context.Context, code func()) {
	a.begun = true
	begin := history.Event{Kind: history.EventBegin, Called: a.called}
	if a.slots > 0 {
		begin.Name = a.lock
	}
	a.note(begin)
	stop := context.AfterFunc(ctx, func() { a.note(history.Event{Kind: history.EventOver}) })
	defer func() {
		stop()
		a.note(history.Event{Kind: history.EventEnd})
	}()
	code()
}

// work is the work under a lock. Like any code, it may run for a while after
// ctx has ended.
func (a *attempt) work(ctx context.Context) {
	a.look(ctx)
	d := a.upTo(2 * time.Millisecond)
	if a.long {
		d = a.upTo(1500 * time.Millisecond)
	} else if a.chance(10) {
		d = a.upTo(20 * time.Millisecond)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if a.chance(3) {
			a.pause(min(d, a.upTo(50*time.Millisecond)))
		}
	}
	if a.depth < 3 && a.chance(8) {
		a.caller.call(ctx, a.locker, a.id, a.depth+1, nil)
	}
	if a.setupUses() {
		bounded, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, _ = a.locker.db.ExecContext(bounded, "DO 0") // it only competes for connections
		cancel()
	}
	a.look(ctx)
}

// setupUses reports whether this section uses a connection of the Locker's db.
func (a *attempt) setupUses() bool { return a.locker.setup.conns > 0 && a.chance(6) }

// look queries the server for the holder of the lock, on a session outside the
// library.
func (a *attempt) look(ctx context.Context) {
	// The faults of flaky Lockers are known by their sessions, so their holder is
	// always noted.
	if !a.locker.setup.flaky && !a.chance(3) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	from := history.Now()
	session, err := locksql.Holder(ctx, a.worker.witness, a.lock)
	if err != nil {
		return
	}
	a.note(history.Event{Kind: history.EventSeen, From: from, Session: session})
}

// judge returns the outcome that err, the error of a call under ctx, stands
// for, and the defects of err.
func (a *attempt) judge(ctx context.Context, err error) (outcome history.Outcome, flaws []string) {
	if a.begun {
		if err == a.own {
			return history.Clean, nil
		}
		if a.own != nil && !errors.Is(err, a.own) {
			flaws = append(flaws, "the section's own error is gone")
		}
		if err == nil {
			return history.Clean, flaws
		}
	}
	op := "acquire"
	if a.begun {
		op = "release"
	}
	var e *namedlock.Error
	switch {
	case !errors.As(err, &e):
		return "untyped", append(flaws, fmt.Sprintf("it is not an *Error but a %T", err))
	case e.Op != op, e.Name != a.name:
		flaws = append(flaws, fmt.Sprintf("its Op and Name are %s %q", e.Op, e.Name))
	}
	var matched []string
	for typ, sentinel := range namedlock.ErrorTypes() {
		if isContexts(sentinel) || !errors.Is(err, sentinel) {
			continue
		}
		if sentinel == namedlock.ErrTimeout && errors.Is(err, namedlock.ErrNoSession) {
			continue // it is a kind of ErrTimeout
		}
		outcome = history.Outcome(typ)
		matched = append(matched, typ)
	}
	if !a.begun && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// The error may match everything that the cause matches.
		if !errors.Is(err, context.Cause(ctx)) {
			flaws = append(flaws, "it does not match the context's cause")
		}
		if len(matched) > 0 && !errors.Is(context.Cause(ctx), namedlock.ErrLost) {
			flaws = append(flaws, "it matches the context's error and "+strings.Join(matched, ", "))
		}
		if ctx.Err() == context.DeadlineExceeded {
			return history.Expired, flaws
		}
		return history.Cancelled, flaws
	}
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			flaws = append(flaws, "it matches "+ended.Error())
		}
	}
	if len(matched) != 1 {
		flaws = append(flaws, fmt.Sprintf("it matches %d sentinels: %s", len(matched), strings.Join(matched, ", ")))
	}
	if (outcome == history.Lost || outcome == history.Unavailable) && !hasCause(err) {
		flaws = append(flaws, "it has no cause")
	}
	return outcome, flaws
}

// isContexts reports whether err is the error of a context, and not an error of
// namedlock.
func isContexts(err error) bool { return err == context.Canceled || err == context.DeadlineExceeded }

// hasCause reports whether err contains an error that is not a sentinel and
// does not wrap one.
func hasCause(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return hasCause(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if hasCause(inner) {
				return true
			}
		}
		return false
	}
	for _, sentinel := range namedlock.ErrorTypes() {
		if err == sentinel && !isContexts(sentinel) {
			return false
		}
	}
	return err != errOwn
}
