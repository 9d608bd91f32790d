package queue

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// Forever is a timeout that never passes.
const Forever time.Duration = math.MaxInt64

// Terms are on what a caller wants a lock.
type Terms struct {
	// It waits for others for Left of Timeout, which is what it was told. They differ if it has
	// waited for another lock already, under the same timeout.
	Timeout, Left time.Duration

	Use Use

	// Busy: the caller has seen that others have the lock. It waits without a try first, and
	// nobody is asked who has the lock.
	Busy bool

	// Waited: the caller has begun to wait before, on a session that is gone. So it outlasts
	// an outage.
	Waited bool
}

// A Use is what a call uses the session of its lock for.
type Use int

const (
	ForLock Use = iota // alone: other call chains may have locks there
	ForGate            // for the lookups of a call for a slot, and for the slot: see slot.go
	ForSlot            // for a slot: as ForLock
	ForTx              // for one transaction, whose code may cost the session
	ForTerm            // for several transactions
	ForLead            // for the terms of one Lead, and the waits between them
)

// own reports whether the session belongs to the call chain for as long as the lock is held.
func (u Use) own() bool { return u == ForTx || u == ForTerm || u == ForLead }

// grace is how long a caller whose time is up waits for a statement that is
// about to end by itself, rather than break its connection.
const grace = 50 * time.Millisecond

// A Queue is the state of one Locker.
type Queue struct {
	Namespace string // with which all names begin, and which texts leave out

	pool         *pool.Pool
	handOff      time.Duration   // how long a lock goes round among this process's callers; 0: not at all
	closing      context.Context // ends when Close begins
	beginClosing context.CancelFunc

	mu      sync.Mutex // guards all below, and what lines, waiters and runs say they are
	lines   map[string]*line
	slots   map[string]*slots    // those of the names that a call for a slot is under way for, or has one of
	nested  map[*waiter]struct{} // those of the waiters whose chain holds a lock
	closed  bool
	waiting int           // callers in line
	polling int           // runs that pause between polls
	trip    time.Duration // that a question takes, as a moving average
	handed  int64         // how often a lock was passed on without the server
	active  int           // grants, runs and questions that are under way
	lookups []*lookup     // still to be asked
	looking bool          // somebody asks them
	idle    chan struct{} // closed when closed is set and active is 0
	endPool sync.Once     // gives the sessions back
}

// New returns a queue for locks on the sessions of pool, which it closes.
func New(pool *pool.Pool, handOff time.Duration) *Queue {
	closing, cancel := context.WithCancel(context.Background())
	return &Queue{
		pool:         pool,
		handOff:      handOff,
		closing:      closing,
		beginClosing: cancel,
		lines:        make(map[string]*line),
		slots:        make(map[string]*slots),
		nested:       make(map[*waiter]struct{}),
		idle:         make(chan struct{}),
	}
}

// An Observer of a call is told when it turns out that others have the lock, and that the
// call waits: once, with the queue's mutex held.
type Observer interface{ Waits() }

// Acquire takes the lock, or returns an error and nothing is held.
func (q *Queue) Acquire(ctx context.Context, name string, terms Terms, observer Observer) (*Grant, error) {
	if ctx.Err() != nil {
		return nil, ContextError(ctx)
	}
	w, err := q.enter(ctx, name, terms, observer)
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		// A method of ctx, which is code of the user's, has panicked.
		if g, _ := q.leave(w, context.Canceled); g != nil {
			g.unwanted()
		}
	}()
	q.begin(w, ctx.Done())
	g, err := q.await(w)
	if err == nil && ctx.Err() != nil {
		g.unwanted()
		g, err = nil, ContextError(ctx)
	}
	returned = true
	return g, err
}

// enter puts a new caller into the line of the name.
func (q *Queue) enter(ctx context.Context, name string, terms Terms, observer Observer) (*waiter, error) {
	w := &waiter{
		ctx:      ctx,
		chain:    q.chainOf(ctx),
		name:     name,
		terms:    terms,
		observer: observer,
		called:   make(chan struct{}, 1),
	}
	if terms.Left == Forever {
		w.setDeadline(time.Time{})
	} else {
		w.setDeadline(time.Now().Add(terms.Left))
	}
	key := names.Fold(name)

	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, fault.ErrClosed
	}
	if err := q.pool.Gone(); err != nil {
		return nil, err
	}
	l := q.lines[key]
	if l == nil {
		l = &line{queue: q, key: key} // among the lines when somebody is in it
	}
	w.line = l
	if w.chain.holding(l) {
		return nil, q.heldAlready(l.holder, w.name)
	}
	if terms.Left == 0 && (l.holder != nil || l.front != nil) {
		return nil, w.timedOutLocked()
	}
	if err := w.chain.mayHaveOwn(); terms.Use.own() && err != nil {
		return nil, err
	}
	nested := !w.chain.empty()
	if nested && l.holder != nil && q.deadlocksLocked(w.chain, l.holder) {
		return nil, fault.Because(fault.ErrDeadlock, "deadlock: the holder, in this process, is waiting for a lock that this call chain holds; release the outer lock", nil)
	}
	if l.holder != nil || l.front != nil {
		w.terms.Busy = false // one in this process has it, who may be about to release it
	}
	q.lines[key] = l
	if l.front == nil && l.run != nil {
		l.run.waited = false // for another, who has left; w has not begun to wait
	}
	l.joinLocked(w)
	if nested {
		q.nested[w] = struct{}{}
	}
	return w, nil
}

// begin has the server asked for w, which is in line, and from now on given up when done is
// closed: that of its context, which is code of the user's.
func (q *Queue) begin(w *waiter, done <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.done = done
	if w.served {
		return
	}
	l := w.line
	q.advanceLocked(l)
	if l.front != w || l.holder != nil {
		w.waitsLocked()
	}
}

// Held returns nil, or the error of a call for a lock that the call chain holds.
func (q *Queue) Held(ctx context.Context, name string) error {
	chain := q.chainOf(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[names.Fold(name)]
	if l == nil || !chain.holding(l) {
		return nil
	}
	return q.heldAlready(l.holder, name)
}

// heldAlready is the error for a call for name under g, which has it.
func (q *Queue) heldAlready(g *Grant, name string) error {
	as := ""
	if g.name != name {
		as = fmt.Sprintf(", as %q", strings.TrimPrefix(g.name, q.Namespace))
	}
	return fault.Because(fault.ErrReentrant, "this call chain already holds the lock"+as+"; do not acquire it again under fn's ctx", nil)
}

// await stands in line until w is served or its time is up.
func (q *Queue) await(w *waiter) (*Grant, error) {
	for {
		select {
		case <-w.called:
		case <-w.done:
			err := q.contextError(w)
			if w.ctx.Err() == context.DeadlineExceeded {
				return q.awaitAnswer(w, err)
			}
			return q.leave(w, err)
		}
		q.mu.Lock()
		served := w.served
		var late error
		if !served && w.lateLocked(time.Now()) {
			late = w.timedOutLocked()
		}
		q.mu.Unlock()
		switch {
		case served && w.err == errContext:
			return nil, q.contextError(w)
		case served:
			return w.grant, w.err
		case late != nil:
			return q.awaitAnswer(w, late)
		}
	}
}

// awaitAnswer is for a caller whose deadline has passed. The server knew of it, unlike
// of a cancel, so its answer may be near, and to wait for it spares the connection. err
// says what becomes of the caller otherwise.
func (q *Queue) awaitAnswer(w *waiter, err error) (*Grant, error) {
	if !q.endsSoon(w) {
		return q.leave(w, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for q.endsSoon(w) {
		select {
		case <-w.called:
			continue
		case <-timer.C:
		}
		break
	}
	return q.leave(w, err)
}

// endsSoon reports whether the wait that w heads ends by itself within the grace.
func (q *Queue) endsSoon(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := w.line.run
	return r != nil && r.wait != nil && w.line.front == w && time.Until(r.wait.ends) < grace
}

// leave takes w out of its line with err, unless it has been served meanwhile:
// then it returns that.
func (q *Queue) leave(w *waiter, err error) (*Grant, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.served && w.err == errContext {
		return nil, err
	}
	if w.served {
		return w.grant, w.err
	}
	l := w.line
	first := l.front == w // who stands behind changes nothing for the run
	q.serveLocked(w, nil, err)
	switch r := l.run; {
	case !first || r == nil:
	case r.wantedByLocked(l.front):
		r.stepUpLocked()
	default:
		r.abandonLocked()
	}
	q.advanceLocked(l)
	return nil, err
}

// newGrant is the lock that w has waited for, on s.
func (q *Queue) newGrant(w *waiter, s *pool.Session, since time.Time) *Grant {
	w.lock = Grant{
		queue:   q,
		line:    w.line,
		name:    w.name,
		session: s,
		outer:   w.chain.inner,
		alone:   w.chain.empty(),
		use:     w.terms.Use,
		since:   since,
	}
	return &w.lock
}

// serveLocked ends the wait of w, by a lock or by an error.
func (q *Queue) serveLocked(w *waiter, g *Grant, err error) {
	w.line.partLocked(w)
	if w.timer != nil {
		w.timer.Stop()
	}
	delete(q.nested, w)
	w.served, w.grant, w.err = true, g, err
	w.call()
}

// dismissLocked ends the waits of all in line by err.
func (q *Queue) dismissLocked(l *line, err error) {
	for l.front != nil {
		q.serveLocked(l.front, nil, err)
	}
}

// lost is called when the holder has lost its lock, with its session. It ends the waits
// of all in line if there is no session left that could ever serve them.
func (q *Queue) lost(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.pool.Gone(); err != nil {
		q.dismissLocked(l, err)
	}
}

// advanceLocked has somebody ask the server if anybody waits and nobody
// holds, and forgets a line that has ended.
func (q *Queue) advanceLocked(l *line) {
	if l.holder != nil || l.run != nil {
		return
	}
	if l.front == nil {
		if q.lines[l.key] == l {
			delete(q.lines, l.key)
		}
		return
	}
	r := &run{queue: q, line: l, waited: l.front.terms.Waited}
	l.run = r
	q.active++
	go r.ask()
}

// release frees the line of g, whose session has given the lock back, or died.
func (q *Queue) release(g *Grant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.line.holder == g { // and not one that was prefetched
		g.line.holder = nil
	}
	if g.slots != nil {
		g.slots.freedLocked(g)
	}
	q.advanceLocked(g.line)
	q.finishLocked()
}

// Gone returns an error if no lock can ever be taken again.
func (q *Queue) Gone() error { return q.pool.Gone() }

// Starves reports whether the server has not been asked for the lock, since there is no session for the question.
func (q *Queue) Starves(name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[names.Fold(name)]
	return l != nil && l.front != nil && l.front.starvesLocked()
}

// Lead counts a call that stands for leader: see pool.Pool.Lead. Unless it returns an error,
// Resign must follow.
func (q *Queue) Lead() error { return q.pool.Lead() }

// Resign undoes Lead.
func (q *Queue) Resign() { q.pool.Resign() }

// Numbers says how many sessions there are, and may be.
func (q *Queue) Numbers() string { return q.pool.Numbers() }

// MaxSessions is the cap, 0 if there can be no session.
func (q *Queue) MaxSessions() int { return q.pool.Cap() }

// Waiting is how many callers are in line.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// WaitingForSession is how many calls wait for a session.
func (q *Queue) WaitingForSession() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		if l.front != nil && l.front.starvesLocked() {
			n += l.length
		}
	}
	return n
}

// Sessions is how many sessions there are now, and how many of them cannot be looked at.
func (q *Queue) Sessions() (all, unwatched int) { return q.pool.Sessions() }

// HandOffs is how often a lock was passed on without the server.
func (q *Queue) HandOffs() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.handed
}

// finishLocked counts a grant, a run or a question that has ended. The queue's mu
// must be held.
func (q *Queue) finishLocked() {
	q.active--
	if q.closed && q.active == 0 {
		close(q.idle)
	}
}
