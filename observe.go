package namedlock

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/notify"
)

// Stats is what a Locker is doing, and what it has done since it was made.
type Stats struct {
	Held     int // locks held now
	Waiting  int // calls under way that have no lock yet
	Sessions int // connections taken from the db now; with New, 1 until its connection has gone

	// Unwatched counts those of the sessions whose end is noticed by a keep-alive at the
	// earliest, not at once: the driver is not go-sql-driver itself, as behind a wrapper for
	// tracing, or does not look, as under checkConnLiveness=false. (Under [WithProbe](0) it is 0.)
	Unwatched int

	Acquired int64 // locks acquired, hand-offs included
	Timeouts int64 // calls that ended with ErrTimeout
	Failed   int64 // calls that ended with any other error, a context's end included
	Lost     int64 // locks that were not provably held to the end
	HandOffs int64 // locks passed on within the process (WithHandOff)

	WaitTime time.Duration // all that calls took, from their begin to the lock or the error
	HoldTime time.Duration // all that locks were held for, from the lock to its release

	// DroppedEvents counts the events that no hook was told of, and the lines that were not
	// logged, since the hooks or the log's handler are too slow.
	DroppedEvents int64
}

// Stats returns what l is doing and has done. It is cheap, and sends nothing.
func (l *Locker) Stats() Stats {
	if l.isZero() {
		return Stats{}
	}
	o := &l.observer
	s := Stats{
		Held:     int(o.held.Load()),
		Waiting:  int(o.waiting.Load()),
		Acquired: o.acquired.Load(),
		Timeouts: o.timeouts.Load(),
		Failed:   o.failed.Load(),
		Lost:     o.lost.Load(),
		HandOffs: l.queue.HandOffs(),
		WaitTime: time.Duration(o.waitTime.Load()),
		HoldTime: time.Duration(o.holdTime.Load()),
	}
	s.Sessions, s.Unwatched = l.queue.Sessions()
	s.DroppedEvents = o.events.Dropped() + o.lines.Dropped()
	return s
}

// Hooks are functions that are told what happens in a Locker; nil ones are not. They
// are called one after the other, in the order of the events, in a goroutine of their
// own, a moment after the event: so a hook that blocks or panics holds nobody up, no
// caller and no release, but the hooks behind it. If 10,000 events are pending, further ones
// are dropped (Stats counts them). A panic goes to the log ([WithLogger]). Close waits
// until all have been told of every call that began before it, for 5 s at most.
//
// Each says which fields of Event are set, beside Time.
type Hooks struct {
	// AcquireStarted: [Locker.WithLock] or Acquire was called. Context, Name, Timeout.
	AcquireStarted func(Event)
	// Waiting: others have the lock, or the connection that it takes, and the call
	// waits. Context, Name, Timeout, Waited.
	Waiting func(Event)
	// Acquired: the lock is held, or Err says why not. Context, Name, Timeout, Waited.
	Acquired func(Event)
	// Released: the lock is not held any more. Err, unless nil, matches [ErrLost]. Context,
	// Name, Waited, Held.
	Released func(Event)
	// Lost: the lock was lost, as the end of its context tells the code under it, or
	// its release found. Context, Name, Waited, Held, Err.
	Lost func(Event)
	// SessionOpened: a connection was taken from the db and greeted, or Err says why
	// not. Waited is how long that took.
	SessionOpened func(Event)
	// SessionDiscarded: a connection was closed instead of going back to the db. Err
	// says why.
	SessionDiscarded func(Event)
}

// An Event is something that has happened in a Locker.
type Event struct {
	Time    time.Time       // when it happened
	Context context.Context // as the caller gave it, for its values: a trace, a request's id
	Name    string          // the lock's name as the caller wrote it
	Timeout time.Duration   // as the caller gave it; of WithLocks, for all the locks together
	Waited  time.Duration   // from the call to the lock, or as long as it has taken so far
	Held    time.Duration   // from the lock to its release, or loss
	Err     error
}

// WithHooks has hooks called for what happens. Given twice, the last counts.
func WithHooks(hooks Hooks) Option {
	return func(o *options) error {
		o.hooks = &hooks
		return nil
	}
}

// slowWait is how long a call waits before that is worth a line in the log.
const slowWait = 5 * time.Second

// warnEvery is how often, at most, the log tells of long waits for the same name: in an
// outage thousands of calls wait for it.
const warnEvery = time.Minute

// patienceWithUsers is how long Close waits for hooks, and for the log.
const patienceWithUsers = 5 * time.Second

// An observer sees what happens in a Locker, and tells whoever wants to know.
type observer struct {
	held, waiting                    atomic.Int64
	acquired, timeouts, failed, lost atomic.Int64
	waitTime, holdTime               atomic.Int64

	hooks  Hooks
	logger *slog.Logger    // writes to lines
	events notify.Notifier // calls hooks
	lines  notify.Notifier // writes the log

	mu     sync.Mutex // guards what follows
	calls  int        // under way, from their begin to the end of what they lead to
	closed bool
	idle   chan struct{}         // closed when closed is set and calls is 0
	warned map[warning]time.Time // when the log last had the line
}

// A warning is a line of the log about a name.
type warning struct{ line, name string }

func (o *observer) init(hooks *Hooks, logger *slog.Logger) {
	o.logger = o.lines.Logger(logger)
	o.idle = make(chan struct{})
	o.warned = make(map[warning]time.Time)
	if hooks != nil {
		o.hooks = *hooks
	}
	o.events.Panicked = func(value any) { o.logger.Error("namedlock: a hook panicked", "panic", value) }
}

// tell has hook called with e, if there is such a hook.
func (o *observer) tell(hook func(Event), e Event) {
	if hook == nil {
		return
	}
	e.Time = time.Now()
	o.events.Tell(func() { hook(e) })
}

// begin counts a call, and reports whether it did: one that begins after Close is told of
// like any other, but Close does not wait for that. end undoes it.
func (o *observer) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.calls++
	return true
}

func (o *observer) end(begun bool) {
	if !begun {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls--
	if o.closed && o.calls == 0 {
		close(o.idle)
	}
}

// close waits for what the calls still have to tell, and until the hooks and the log have
// been told everything. The locks have been released.
func (o *observer) close() {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		if o.calls == 0 {
			close(o.idle)
		}
	}
	o.mu.Unlock()
	<-o.idle
	until := time.Now().Add(patienceWithUsers)
	o.events.Drain(time.Until(until))
	o.lines.Drain(time.Until(until))
}

// warn writes a line about a name, unless the last one is so recent that it tells nothing
// new.
func (o *observer) warn(ctx context.Context, line, name string, args ...any) {
	if o.mayWarn(warning{line, name}) {
		o.logger.WarnContext(ctx, line, append([]any{"name", name}, args...)...)
	}
}

func (o *observer) mayWarn(w warning) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if last, ok := o.warned[w]; ok && now.Sub(last) < warnEvery {
		return false
	}
	if len(o.warned) >= 1000 {
		for other, last := range o.warned {
			if now.Sub(last) >= warnEvery {
				delete(o.warned, other)
			}
		}
	}
	o.warned[w] = now
	return true
}

// closing is the begin of Close, which waits for the locks that are held. done is its end.
func (o *observer) closing(held func() []string) (done func()) {
	slow := time.AfterFunc(slowWait, func() {
		if names := held(); len(names) > 0 {
			o.logger.Warn("namedlock: Close waits for locks that are still held", "names", names)
		}
	})
	return func() { slow.Stop() }
}

// A call is one call for a lock, from its begin to the release. It stands beside the way
// of the name, and only looks on.
type call struct {
	locker   *Locker
	ctx      context.Context // as the caller gave it
	name     string
	timeout  time.Duration
	counted  bool // among the observer's calls
	stands   bool // for Lead, where a long wait is as it should be
	begun    time.Time
	waits    bool        // others have the lock
	slow     *time.Timer // says so in the log; nil: not
	waited   time.Duration
	acquired time.Time

	lostKnown, ended atomic.Bool // the loss, the release: each is told of once
}

func (c *call) begin(l *Locker, ctx context.Context, name string, timeout time.Duration) {
	c.locker, c.ctx, c.name, c.timeout, c.begun = l, ctx, name, timeout, time.Now()
	o := &l.observer
	c.counted = o.begin()
	o.waiting.Add(1)
	o.tell(o.hooks.AcquireStarted, Event{Context: ctx, Name: name, Timeout: timeout})
}

// Waits implements queue.Observer: others have the lock. A mutex may be held.
func (c *call) Waits() {
	o := &c.locker.observer
	o.tell(o.hooks.Waiting, Event{Context: c.ctx, Name: c.name, Timeout: c.timeout, Waited: time.Since(c.begun)})
	c.waits = true
	if c.timeout < slowWait+time.Second || !o.logger.Enabled(c.ctx, slog.LevelWarn) { // asks no code of the user's
		return // its end says enough
	}
	c.slow = time.AfterFunc(slowWait, func() {
		if c.stands {
			if c.locker.queue.Starves(c.locker.namespace + c.name) {
				o.warn(c.ctx, "namedlock: Lead waits for a session, as others have all of them (WithMaxSessions)", c.name, "waited", time.Since(c.begun))
			}
			return
		}
		ours := c.locker.queue.Local(c.locker.namespace+c.name) != nil
		o.warn(c.ctx, "namedlock: still waiting for a lock", c.name, "waited", time.Since(c.begun), "timeout", timeoutText(c.timeout), "held_by_this_process", ours)
	})
}

// answered is the end of the call's waiting, by the lock or by err.
func (c *call) answered(err error) {
	o := &c.locker.observer
	c.acquired = time.Now()
	c.waited = c.acquired.Sub(c.begun)
	if c.slow != nil {
		c.slow.Stop()
	}
	o.waiting.Add(-1)
	o.waitTime.Add(int64(c.waited))
	switch {
	case err == nil:
		o.held.Add(1)
		o.acquired.Add(1)
	case errors.Is(err, ErrTimeout):
		o.timeouts.Add(1)
	default:
		o.failed.Add(1)
	}
	switch {
	case c.stands || !c.waits || c.waited < slowWait:
	case err != nil:
		o.warn(c.ctx, "namedlock: waited long for a lock, in vain", c.name, "waited", c.waited, "error", err)
	default:
		o.logger.InfoContext(c.ctx, "namedlock: acquired a lock after a long wait", "name", c.name, "waited", c.waited)
	}
	o.tell(o.hooks.Acquired, Event{Context: c.ctx, Name: c.name, Timeout: c.timeout, Waited: c.waited, Err: err})
	if err != nil {
		o.end(c.counted)
	}
}

// lost is the code under the lock being told that it is lost. A mutex may be held.
func (c *call) lost(err error) {
	o := &c.locker.observer
	c.lostKnown.Store(true)
	o.lost.Add(1)
	o.tell(o.hooks.Lost, Event{Context: c.ctx, Name: c.name, Waited: c.waited, Held: time.Since(c.acquired), Err: err})
}

// released is the end of a release, which found err. The first counts.
func (c *call) released(err error) {
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	o := &c.locker.observer
	held := time.Since(c.acquired)
	o.held.Add(-1)
	o.holdTime.Add(int64(held))
	e := Event{Context: c.ctx, Name: c.name, Waited: c.waited, Held: held, Err: err}
	if err != nil && c.lostKnown.CompareAndSwap(false, true) {
		o.lost.Add(1)
		o.logger.ErrorContext(c.ctx, "namedlock: lock lost, as its release found", "name", c.name, "held", held, "error", err)
		o.tell(o.hooks.Lost, e)
	}
	o.tell(o.hooks.Released, e)
	o.end(c.counted)
}

// lostUntold is a loss that the release found after a panic or Goexit of fn: nobody gets an
// error.
func (c *call) lostUntold(err error) {
	o := &c.locker.observer
	o.logger.ErrorContext(c.ctx, "namedlock: lock lost by the time of a panic or Goexit", "name", c.name, "error", err)
}

func timeoutText(timeout time.Duration) string {
	if timeout == Forever {
		return "forever"
	}
	return timeout.String()
}

// SessionOpened and SessionDiscarded make observer a session.Observer.
func (o *observer) SessionOpened(took time.Duration, err error) {
	o.tell(o.hooks.SessionOpened, Event{Waited: took, Err: err})
}

func (o *observer) SessionDiscarded(cause error) {
	o.tell(o.hooks.SessionDiscarded, Event{Err: cause})
}
