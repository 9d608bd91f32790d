package queue

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// Forever is a timeout that never passes.
const Forever time.Duration = math.MaxInt64

// Terms are the terms on which a caller asks for a lock.
type Terms struct {
	// The caller waits for Left at most, which is the rest of Timeout. They
	// differ if the caller has waited under the same timeout before. Errors
	// name Timeout.
	Timeout, Left time.Duration

	Use Use

	// Busy: the caller has seen that another session holds the lock. The first
	// question is a wait, not a try, and the server is not asked for the
	// holder.
	Busy bool

	// Waited: the call has begun to wait before, on a session that is gone, so
	// the wait outlasts an outage.
	Waited bool

	// Part: the call is a part of another one, which its caller counts among
	// those that wait.
	Part bool
}

// A Use is the purpose for which a call uses the session of its lock.
type Use int

const (
	ForLock  Use = iota // for the lock only: the session may hold locks of other chains
	ForOrder            // only for the order of calls: it is not listed as held, and its holder is not looked up
	ForTx               // for one transaction, whose code may cost the session
	ForTerm             // for several transactions
	ForLead             // for the terms of one Lead, and the waits between them
)

// grace is how long a caller whose time is up waits for a statement that is
// about to end by itself, before its connection is broken.
const grace = 50 * time.Millisecond

// A Queue is the state of one Locker.
type Queue struct {
	Namespace string // the prefix of all names, which errors leave out

	pool         *pool.Pool
	handOff      time.Duration   // how long callers of this process pass a lock on; 0: never
	closing      context.Context // ends when Close begins, under mu
	beginClosing context.CancelFunc

	mu      sync.Mutex // guards the fields below, and lines, waiters, askers and grants
	lines   map[string]*line
	nested  map[*waiter]struct{} // the waiters whose chain holds a lock
	waiting int                  // callers in line, except those whose call is a part of another
	polling int                  // askers that pause between two polls
	trip    time.Duration        // how long a poll takes, as a moving average
	handed  int64                // how often a lock was passed on without the server
	active  int                  // grants, askers and questions that are under way
	lookups []*lookup            // to be asked, one after the other; the first is being asked
	ended   sync.Cond            // active may be 0, or a Release has returned
	endPool sync.Once            // closes the pool
}

// New returns a queue for locks on the sessions of pool. Close closes the pool.
func New(pool *pool.Pool, handOff time.Duration) *Queue {
	closing, cancel := context.WithCancel(context.Background())
	q := &Queue{
		pool:         pool,
		handOff:      handOff,
		closing:      closing,
		beginClosing: cancel,
		lines:        make(map[string]*line),
		nested:       make(map[*waiter]struct{}),
	}
	q.ended.L = &q.mu
	return q
}

// An Observer of a call is told when the call begins to wait for another
// caller, for a session or for the lock: once, with the queue's mutex held.
type Observer interface{ Waits() }

// Acquire takes the lock. If it returns an error, nothing is held.
func (q *Queue) Acquire(ctx context.Context, name string, terms Terms, observer Observer) (*Grant, error) {
	if ctx.Err() != nil {
		return nil, ContextError(ctx)
	}
	w := &waiter{
		Grant:    Grant{name: name, chain: q.chainOf(ctx), use: terms.Use},
		ctx:      ctx,
		terms:    terms,
		deadline: deadlineAfter(terms.Left),
		observer: observer,
		served:   make(chan struct{}),
	}
	w.until = w.deadline
	if end, ok := ctx.Deadline(); ok && end.Before(w.until) {
		w.until = end
	}
	if err := q.enter(w, names.Fold(name)); err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		// A method of ctx, which is code of the user's, may have panicked.
		if !returned && q.withdraw(w, context.Canceled) == nil {
			Abandon(w.Release)
		}
	}()
	err := q.await(w)
	if err == nil && ctx.Err() != nil {
		Abandon(w.Release)
		err = ContextError(ctx)
	}
	returned = true
	if err != nil {
		return nil, err
	}
	return &w.Grant, nil
}

// enter puts w at the end of the line of its name. It starts an asker if no
// caller holds the lock or asks for it.
func (q *Queue) enter(w *waiter, key string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing.Err() != nil {
		return fault.ErrClosed
	}
	if err := q.pool.Gone(); err != nil {
		return err
	}
	l := q.lines[key]
	if l == nil {
		l = &line{queue: q, key: key}
	}
	w.line = l
	nested, taken := !w.chain.empty(), l.holder != nil || l.front != nil
	if nested || taken {
		if err := w.refusedLocked(nested, taken); err != nil {
			return err
		}
	}
	if taken {
		w.terms.Busy = false // the holder, in this process, may be about to release it
	}
	q.lines[key] = l
	if l.front == nil && l.asker != nil {
		l.asker.waited = false // for a caller that has given up; w has not begun to wait
	}
	l.joinLocked(w)
	if nested {
		q.nested[w] = struct{}{}
	}
	q.advanceLocked(l)
	if taken {
		w.noteWaitLocked()
	}
	return nil
}

// await returns when w is served, or its context has ended. If it returns nil,
// w has the lock. It calls Done of the context only now that w is in line:
// tests notice by that call that w waits.
func (q *Queue) await(w *waiter) error {
	done := w.ctx.Done()
	q.mu.Lock()
	w.done = done
	q.mu.Unlock()
	select {
	case <-w.served:
	case <-done:
		err, endsSoon := q.contextError(w)
		if endsSoon {
			timer := time.NewTimer(grace)
			defer timer.Stop()
			select {
			case <-w.served:
			case <-timer.C:
			}
		}
		return q.withdraw(w, err)
	}
	if w.err == errContext {
		err, _ := q.contextError(w)
		return err
	}
	return w.err
}

// withdraw takes w out of its line with err, which it returns. If w has been
// served in the meantime, it returns the error of that, or nil if w has the
// lock.
func (q *Queue) withdraw(w *waiter, err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.withdrawLocked(w, err)
	if w.err == errContext {
		return err
	}
	return w.err
}

func (q *Queue) withdrawLocked(w *waiter, err error) {
	if w.isServed() {
		return
	}
	l := w.line
	first := l.front == w // a waiter behind the first changes nothing for the asker
	q.serveLocked(w, err)
	switch a := l.asker; {
	case !first || a == nil:
	case a.wantedByLocked(l.front):
		a.stepUpLocked()
	default:
		a.abandonLocked()
	}
	q.advanceLocked(l)
}

// serveLocked takes w out of its line, with err or, if that is nil, with the
// lock.
func (q *Queue) serveLocked(w *waiter, err error) {
	w.line.partLocked(w)
	if w.timer != nil {
		w.timer.Stop()
	}
	delete(q.nested, w)
	if w.err = err; err == nil {
		w.state = held
	}
	close(w.served)
}

// dismissLocked ends the waits of all callers in line by err.
func (q *Queue) dismissLocked(l *line, err error) {
	for l.front != nil {
		q.serveLocked(l.front, err)
	}
}

// advanceLocked starts an asker if the line has a waiter and neither a holder
// nor an asker. It forgets a line that has ended.
func (q *Queue) advanceLocked(l *line) {
	if l.holder != nil || l.asker != nil {
		return
	}
	if l.front == nil {
		if q.lines[l.key] == l {
			delete(q.lines, l.key)
		}
		return
	}
	l.asker = &asker{line: l, waited: l.front.terms.Waited}
	q.active++
	go l.asker.run(nil)
}
