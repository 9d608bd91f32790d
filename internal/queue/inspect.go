package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// Held returns the error of a call for the first of the locks that the call
// chain holds, nil if the chain holds none of them.
func (q *Queue) Held(ctx context.Context, wanted ...string) error {
	chain := q.chainOf(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range wanted {
		if l := q.lines[names.Fold(name)]; l != nil && chain.holds(l.holder) {
			return q.heldAlready(l.holder, name)
		}
	}
	return nil
}

// heldAlready is the error of a call for name under g, which holds it.
func (q *Queue) heldAlready(g *Grant, name string) error {
	as := ""
	if g.name != name {
		as = fmt.Sprintf(", as %q", strings.TrimPrefix(g.name, q.Namespace))
	}
	return fault.Because(fault.ErrReentrant, "this call chain already holds the lock"+as+"; do not acquire it again under fn's ctx", nil)
}

// HeldNames returns the names of all locks that are held, in order, without the
// namespace. The caller of a lock ForOrder only waits for another lock.
func (q *Queue) HeldNames() (held []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		if l.holder != nil && l.holder.use != ForOrder {
			held = append(held, strings.TrimPrefix(l.holder.name, q.Namespace))
		}
	}
	slices.Sort(held)
	return held
}

// Local returns the lock if a caller of this process holds it, nil otherwise.
func (q *Queue) Local(name string) *Grant {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[names.Fold(name)]
	if l == nil || l.holder == nil || l.holder.state != held && l.holder.state != stopped || l.holder.name != name {
		return nil
	}
	return l.holder
}

// HeldFor is how long the process has held the lock.
func (g *Grant) HeldFor() time.Duration { return time.Since(g.since) }

// Inspect runs ask on a session that holds no lock or, if there is only one
// session, on that. It returns when ctx ends. ask may go on then, and Close
// waits for it. If Inspect returns an error, the variables of ask must not be
// read.
func (q *Queue) Inspect(ctx context.Context, ask func(*server.Conn) error) error {
	return q.countedAside(ctx, func(ctx context.Context, home *pool.Session) error { return q.pool.Inspect(ctx, home, ask) })
}

// Check asks whether the server is suitable for locks.
func (q *Queue) Check(ctx context.Context) error {
	return q.countedAside(ctx, q.pool.Check)
}

// countedAside runs ask as Aside does, and Close waits for it. It returns when
// ctx ends, or Close begins. home is the session of the call chain of ctx.
func (q *Queue) countedAside(ctx context.Context, ask func(ctx context.Context, home *pool.Session) error) error {
	if ctx.Err() != nil {
		return ContextError(ctx)
	}
	chain := q.chainOf(ctx)
	q.mu.Lock()
	if q.closing.Err() != nil {
		q.mu.Unlock()
		return fault.ErrClosed
	}
	q.active++
	home := chain.home()
	q.mu.Unlock()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.closing, cancel)()
	err, answered := Aside(asking.Done(), nil, func() error {
		defer q.finish()
		return ask(asking, home)
	})
	switch {
	case answered && (err == nil || ctx.Err() == nil && q.closing.Err() == nil):
		return err
	case ctx.Err() != nil:
		return ContextError(ctx)
	}
	return fault.ErrClosed
}

// Inspect runs ask in a turn on the session of g. It returns when ended is
// closed, or a grace after that time has passed, unless ask has ended before.
// Then ask goes on, and Close waits for it.
func (g *Grant) Inspect(ended <-chan struct{}, left time.Duration, ask func(*server.Conn) error) (err error, answered bool) {
	var late <-chan time.Time
	if left < Forever-grace {
		timer := time.NewTimer(left + grace)
		defer timer.Stop()
		late = timer.C
	}
	q := g.line.queue
	q.mu.Lock()
	q.active++ // ask may go on, and end its session, when g has been released
	q.mu.Unlock()
	return Aside(ended, late, func() error {
		defer q.finish()
		if err := q.pool.TakeUrgent(g.session); err != nil {
			q.pool.AwaitEnd(g.session)
			return err
		}
		defer q.pool.Put(g.session)
		return ask(g.session.Conn)
	})
}

// Lent reports whether the session of g is the one that was given to New, which
// all other calls also need.
func (g *Grant) Lent() bool { return g.session.Lent() }

// Aside runs f, which sends a statement, in a goroutine of its own. It returns
// the error of f, or that f has not ended before ended was closed or late rang.
// Then f goes on. Close waits for f if the queue counts it, or if f is a
// Release.
func Aside(ended <-chan struct{}, late <-chan time.Time, f func() error) (err error, done bool) {
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err, true
	case <-ended:
	case <-late:
	}
	return nil, false
}

func (q *Queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active--
	q.ended.Broadcast()
}
