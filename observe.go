package namedlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/notify"
)

// slowWait is how long a call waits before a line is logged.
const slowWait = 5 * time.Second

// warnEvery is the shortest time between two log lines about long waits for the
// same name. In an outage thousands of calls may wait for it.
const warnEvery = time.Minute

// patienceWithUsers is how long Close waits for the log.
const patienceWithUsers = 5 * time.Second

// An observer counts the events of a Locker, logs them, and calls the hooks.
type observer struct {
	held                             atomic.Int64
	acquired, timeouts, failed, lost atomic.Int64
	waitTime, holdTime               atomic.Int64
	opened, discarded                atomic.Int64 // sessions

	hooks    []Hooks
	onOpened func(time.Duration) // see package inside
	logger   *slog.Logger        // writes to lines
	lines    notify.Notifier     // writes the log

	mu     sync.Mutex // guards what follows
	calls  int        // under way, until their last hook has returned
	closed bool
	idle   chan struct{}         // closed when closed is set and calls is 0
	warned map[warning]time.Time // when the line was last logged
}

// A warning is a log line about a name.
type warning struct{ line, name string }

func (o *observer) init(hooks []Hooks, logger *slog.Logger) {
	o.hooks = hooks
	o.logger = o.lines.Logger(logger)
	o.idle = make(chan struct{})
	o.warned = make(map[warning]time.Time)
}

// close waits until the calls have reported everything to the hooks and the
// log. The locks have been released.
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
}

// warn logs a line about a name, unless the same line was logged a short time
// ago.
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

// closing is called at the beginning of Close, which waits for the held locks.
// done is called at its end.
func (o *observer) closing(held func() []string) (done func()) {
	slow := time.AfterFunc(slowWait, func() {
		if held := held(); len(held) > 0 {
			o.logger.Warn("namedlock: Close or Shutdown is waiting for held locks", "names", held)
		}
	})
	return func() { slow.Stop() }
}

// A call is one call for locks, from its beginning to the end of the release.
// It counts, logs, and calls the hooks.
type call struct {
	locker   *Locker
	ctx      context.Context // the caller's; the hooks may have added to it
	event    Event
	hooks    []Hooks // nil: none, or the call is a part of another, for which they are called
	counted  bool    // among the observer's calls: it began before Close
	begun    time.Time
	waits    bool        // for another caller
	slow     *time.Timer // reports a long wait; nil: not
	acquired time.Time

	// Of the end of the lock: 0, lossReported or releaseReported.
	reported atomic.Int32
}

// The states of call.reported, in the order in which they are reached.
const (
	lossReported    int32 = 1 + iota // the loss is counted, and its code is told
	releaseReported                  // the release is counted
)

// begin begins a call, and returns the context for it. Hooks are called unless
// e has no Method: then it is one of the calls that WithLocks makes. Close
// waits for the end of the call. A call that begins after Close is reported as
// any other, but Close does not wait for it.
func (c *call) begin(l *Locker, ctx context.Context, e Event) context.Context {
	o := &l.observer
	c.locker, c.ctx, c.event, c.begun = l, ctx, e, time.Now()
	o.mu.Lock()
	if !o.closed {
		o.calls++
		c.counted = true
	}
	o.mu.Unlock()
	if e.Method == "" || ctx == nil {
		return ctx
	}
	c.hooks = o.hooks
	goesOn := false
	defer func() {
		if !goesOn { // a hook has called runtime.Goexit
			c.end()
		}
	}()
	for _, h := range c.hooks {
		c.ctx = o.enter(c.ctx, h.AcquireStarted, c.event)
	}
	goesOn = true
	return c.ctx
}

// end ends the call: everything is reported to the hooks and the log.
func (c *call) end() {
	if !c.counted {
		return
	}
	o := &c.locker.observer
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls--
	if o.closed && o.calls == 0 {
		close(o.idle)
	}
}

// Waits implements queue.Observer: the call waits for another caller. A mutex
// may be held.
func (c *call) Waits() {
	o := &c.locker.observer
	c.waits = true
	if c.event.Timeout < slowWait+time.Second || !o.logger.Enabled(c.ctx, slog.LevelWarn) { // Enabled runs no code of the user
		return // the error at its end says enough
	}
	c.slow = time.AfterFunc(slowWait, func() {
		name, ours := c.locker.namespace+c.event.Name, false
		if c.event.Method == "WithSlot" {
			name, ours = names.Gate(name), c.locker.slots.Has(name)
		} else {
			ours = c.locker.queue.Local(name) != nil
		}
		if c.locker.queue.Starves(name) {
			if o.mayWarn(warning{line: "no session"}) { // one line for all names, because the calls do not wait for a lock
				o.logger.WarnContext(c.ctx, "namedlock: calls are waiting for a session", "name", c.event.Name, "waited", time.Since(c.begun),
					"calls", c.locker.queue.WaitingForSession(), "numbers", c.locker.pool.Numbers())
			}
			return
		}
		if c.event.Method == "Lead" { // where a long wait is as it should be
			return
		}
		o.warn(c.ctx, "namedlock: still waiting for a lock", c.event.Name, "waited", time.Since(c.begun), "timeout", timeoutText(c.event.Timeout), "held_by_this_process", ours)
	})
}

// answered is called when the call's wait ends, by the lock or by err.
func (c *call) answered(err error) {
	o := &c.locker.observer
	c.waited()
	if c.slow != nil {
		c.slow.Stop()
	}
	o.waitTime.Add(int64(c.event.Waited))
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
	case c.event.Method == "Lead" || !c.waits || c.event.Waited < slowWait:
	case err != nil:
		o.warn(c.ctx, "namedlock: failed to acquire a lock after a long wait", c.event.Name, "waited", c.event.Waited, "error", err)
	default:
		o.logger.InfoContext(c.ctx, "namedlock: acquired a lock after a long wait", "name", c.event.Name, "waited", c.event.Waited)
	}
	if err != nil {
		c.failed(err)
	}
}

// waited ends the time for which the call has waited.
func (c *call) waited() {
	c.acquired = time.Now()
	c.event.Waited = c.acquired.Sub(c.begun)
}

// failed is called when the call ends without its locks.
func (c *call) failed(err error) {
	o := &c.locker.observer
	defer c.end()
	c.event.Err = err
	for i := len(c.hooks) - 1; i >= 0; i-- {
		o.leave(c.ctx, c.hooks[i].Failed, c.event)
	}
}

// got returns the context for the code under the locks: ctx with the additions
// of the hooks. The release is deferred already.
func (c *call) got(ctx context.Context) context.Context {
	for _, h := range c.hooks {
		ctx = c.locker.observer.enter(ctx, h.Acquired, c.event)
	}
	return ctx
}

// over is called at the end of the call, when the locks are released. ctx is
// that of the code, which returned that error, or panicked. lost is the loss
// that the releases have found.
func (c *call) over(ctx context.Context, lost, returned error, panicked bool) {
	o := &c.locker.observer
	defer c.end()
	e := c.event
	e.HeldFor, e.Err, e.Returned, e.Panicked = time.Since(c.acquired), lost, returned, panicked
	for i := len(c.hooks) - 1; i >= 0; i-- {
		o.leave(ctx, c.hooks[i].Released, e)
	}
}

// lost is called when the code under the lock is told of its loss, perhaps more
// than once. A mutex may be held.
func (c *call) lost() {
	if c.reported.CompareAndSwap(0, lossReported) {
		c.locker.observer.lost.Add(1)
	}
}

// released is called at the end of a release, which found err. It reports
// whether it is the first one, which counts: then over must follow.
func (c *call) released(err error) (first bool) {
	before := c.reported.Swap(releaseReported)
	if before == releaseReported {
		return false
	}
	o, held := &c.locker.observer, time.Since(c.acquired)
	o.held.Add(-1)
	o.holdTime.Add(int64(held))
	if err != nil && before != lossReported {
		o.lost.Add(1)
		o.logger.ErrorContext(c.ctx, "namedlock: lock was already lost when it was released", "name", c.event.Name, "held", held, "error", err)
	}
	return true
}

// lostUntold logs a loss that the release found after a panic or Goexit of fn,
// because no caller gets the error.
func (c *call) lostUntold(err error) {
	o := &c.locker.observer
	o.logger.ErrorContext(c.ctx, "namedlock: lock was already lost when its function panicked", "name", c.event.Name, "error", err)
}

// endedUntold logs a transaction that had ended before a panic or Goexit of fn,
// because no caller gets the error.
func (c *call) endedUntold(err error) {
	o := &c.locker.observer
	o.logger.ErrorContext(c.ctx, "namedlock: transaction had already ended when its function panicked", "name", c.event.Name, "error", err)
}

func timeoutText(timeout time.Duration) string {
	if timeout == Forever {
		return "forever"
	}
	return timeout.String()
}

// SessionOpened and SessionDiscarded make observer a pool.Observer.
func (o *observer) SessionOpened(took time.Duration, err error) {
	if o.onOpened != nil {
		o.onOpened(took)
	}
	if err == nil {
		o.opened.Add(1)
	}
}

func (o *observer) SessionDiscarded(error) { o.discarded.Add(1) }

// enter calls a hook that may add to ctx.
func (o *observer) enter(ctx context.Context, hook func(context.Context, Event) context.Context, e Event) context.Context {
	if hook != nil {
		o.guard(func() {
			if added := hook(ctx, e); added != nil {
				ctx = added
			}
		})
	}
	return ctx
}

func (o *observer) leave(ctx context.Context, hook func(context.Context, Event), e Event) {
	if hook != nil {
		o.guard(func() { hook(ctx, e) })
	}
}

// guard calls code of the user, and stops its panic.
func (o *observer) guard(hook func()) {
	defer func() {
		if value := recover(); value != nil {
			o.logger.Error("namedlock: a hook panicked", "panic", value)
		}
	}()
	hook()
}

// opened calls the Opened hooks of a new Locker. If one of them refuses it, the
// Closed hooks of those before are called.
func (l *Locker) opened() error {
	for i, h := range l.observer.hooks {
		if h.Opened == nil {
			continue
		}
		var err error
		l.observer.guard(func() { err = h.Opened(l) })
		if err != nil {
			l.observer.hooks = l.observer.hooks[:i]
			_ = l.Close()
			return fmt.Errorf("namedlock: WithHooks: %w", err)
		}
	}
	return nil
}

func (l *Locker) toldClosed() {
	for i := len(l.observer.hooks) - 1; i >= 0; i-- {
		if closed := l.observer.hooks[i].Closed; closed != nil {
			l.observer.guard(func() { closed(l) })
		}
	}
}
