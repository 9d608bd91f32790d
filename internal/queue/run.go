package queue

import (
	"context"
	"errors"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// A run asks the server for a line's lock: it tries first, and waits only when
// the server says that others have it. It goes on for whoever is first in line
// until somebody has the lock or nobody wants it. It has a goroutine of its
// own, which the queue's Close waits for: its statement goes on when the caller leaves.
type run struct {
	queue *Queue
	line  *line

	slice  time.Duration // what waits are asked for at most, if not 0; see mayRepeat
	failed bool          // the last statement failed with its connection

	outagePause time.Duration // the last one
	refused     time.Time     // when the server was first refused, in an outage; zero: it was not

	// Guarded by queue.mu.
	phase     phase
	waited    bool            // the server has said that others have the lock
	outage    error           // why it cannot be asked any more, while a wait goes on; nil: it can. Set by the run alone
	refusal   bool            // outage is that the server is refused
	ctx       context.Context // of all that can be given up at once, nil until needed; not of statements
	cancel    context.CancelFunc
	detached  bool          // the line has let go of it: served, or not wanted any more
	wait      *wait         // waiting: the statement
	pauseOver chan struct{} // pausing: closed to end the pause
}

// ask is the run's goroutine.
func (r *run) ask() {
	growStack()
	defer r.end()
	r.askAll()
}

// askAll asks for one after the other.
func (r *run) askAll() {
	for w := r.first(); w != nil; w = r.first() {
		s, err := r.session(w)
		switch {
		case err == nil:
			if (r.knownBusy(w) || r.try(s, w)) && !r.waitOn(s) {
				r.pause()
			}
		case !r.outlasts(err):
			r.failAll(err)
		}
		if r.outage != nil {
			r.sitOut()
		}
	}
}

// growStack makes room for the calls down to the socket while there is little on the stack. A
// stack that grows on the way there is copied with all its frames, which is 6 % of the time
// of an uncontended cycle (see the bench).
//
//go:noinline
func growStack() {
	var room [6 << 10]byte
	touch(&room)
}

//go:noinline
func touch(*[6 << 10]byte) {}

// first returns whom the run is for now, nil if nobody. Those who have given up, and
// those whose time is up after they had their try, are told so.
func (r *run) first() *waiter {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return r.firstLocked()
}

func (r *run) firstLocked() *waiter {
	if r.line.run != r || r.line.heldLocked() {
		return nil
	}
	for now := time.Now(); ; {
		w := r.line.front
		switch {
		case w == nil:
			return nil
		case w.ended(): // as the context of a chain whose session has just died with its locks
			r.queue.serveLocked(w, nil, errContext)
		case w.lateLocked(now):
			r.queue.serveLocked(w, nil, w.timedOutLocked())
		default:
			return w
		}
	}
}

// end hands the line on to another run if there are waiters that this one has not
// seen.
func (r *run) end() {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
	}
	if !r.detached {
		r.detachLocked()
		q.advanceLocked(r.line)
	}
	q.finishLocked()
}

// session takes a turn on a session for w.
func (r *run) session(w *waiter) (*pool.Session, error) {
	q := r.queue
	q.mu.Lock()
	home, mine := w.chain.home()
	req := session.Request{Home: home, Own: w.terms.Use.own(), Lead: w.terms.Use == ForLead, Mine: mine, Fresh: r.failed, Poll: w.asked, Caller: r}
	q.mu.Unlock()
	return q.pool.Take(req)
}

// Context implements pool.Caller: it ends when nobody wants the run any more.
func (r *run) Context() context.Context {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.ctx == nil {
		r.ctx, r.cancel = context.WithCancel(context.Background())
		if r.detached {
			r.cancel()
		}
	}
	return r.ctx
}

// Queued implements pool.Caller: there is no session but by waiting for others.
func (r *run) Queued() {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	r.phase = queued
	// One that tries once has no time to wait, but the lock may be free.
	if w := r.line.front; !r.detached && w != nil && w.terms.Left > 0 {
		w.waitsLocked()
	}
}

// PoolExhausted implements pool.Caller: there is no connection but by
// waiting for others.
func (r *run) PoolExhausted() {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	r.phase = exhausted
	if w := r.line.front; !r.detached && w != nil {
		w.waitsLocked()
	}
}

// try asks once, without waiting. It returns true if others have the lock; then the
// turn on s goes on. Otherwise it is over, and so may be the run.
func (r *run) try(s *pool.Session, w *waiter) (busy bool) {
	q := r.queue
	q.mu.Lock()
	if r.detached { // an answer, and be it a lock for a moment, would mislead other callers
		q.mu.Unlock()
		q.pool.Put(s)
		return false
	}
	r.phase = trying
	waited := w.asked
	q.mu.Unlock()
	begun := time.Now()
	granted, err := s.GetLock(w.name, 0)
	took := time.Since(begun)
	if granted && waited {
		err = s.Confirm(w.name)
		granted = err == nil
	}
	q.mu.Lock()
	q.tripTookLocked(took)
	r.phase = taking
	if err == nil {
		r.overLocked()
	}
	if err == nil && !granted {
		w.asked, r.waited = true, true
		w.waitsLocked()
	}
	q.mu.Unlock()
	if granted || err != nil {
		r.settle(s, w, w.name, granted, err, r.failed)
		return false
	}
	r.failed = false
	return true
}

// knownBusy reports whether w need not try first, since it has seen that others have the lock.
func (r *run) knownBusy(w *waiter) bool {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.terms.Busy || w.asked {
		return false
	}
	w.asked, r.waited = true, true
	w.waitsLocked()
	return true
}

// wantedByLocked reports whether w, now the first in line, has a use for what the run
// is doing. The queue's mu must be held.
func (r *run) wantedByLocked(w *waiter) bool {
	if r.wait != nil {
		return w != nil && r.wait.suits(w)
	}
	// A try is over soon. The next caller had better wait for its end than find
	// its own name taken by it.
	return w != nil || r.phase == trying
}

// abandonLocked detaches the run from its line. It ends by itself, and what it may yet
// be granted is released before anybody else has a turn on that session. The
// queue's mu must be held.
func (r *run) abandonLocked() {
	r.detachLocked()
	if r.cancel != nil {
		r.cancel()
	}
	if r.wait != nil && r.queue.pool.Expendable(r.wait.session) {
		r.queue.pool.Kill(r.wait.session)
	}
}

// detachLocked has the line let go of r. The queue's mu must be held.
func (r *run) detachLocked() {
	r.detached = true
	if r.line.run == r {
		r.line.run = nil
	}
}

// settle ends the turn on s with what was asked there for w: the lock goes to who
// is first in line now, or back; an error goes to w. A broken connection is not an
// error yet, unless it is final: nothing is held, so it is tried once more. A wait that has
// begun, and has a bound, outlasts that, too.
func (r *run) settle(s *pool.Session, w *waiter, name string, granted bool, err error, final bool) {
	q := r.queue
	broken := s.Broken()
	if granted {
		switch {
		case !r.grant(s, w, name):
			_ = s.ReleaseLock(name) // if that fails, Put discards the session
			q.pool.Put(s)
		case broken: // it did not outlive the grant by long, and the holder is told
			q.pool.Put(s)
		}
		return
	}
	q.pool.Put(s)
	if broken && (!final || r.outlasts(err)) {
		r.failed = true
		return
	}
	r.failed = false
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.line.run == r && r.line.front == w {
		q.serveLocked(w, nil, err)
	}
}

// grant gives the lock that was asked for w to who is first in line now, if it is
// what that caller wants, and ends the turn on s, unless s is broken: to discard it tells the holder, who
// takes the queue's mu.
func (r *run) grant(s *pool.Session, w *waiter, name string) bool {
	q := r.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	first := r.line.front
	if r.detached || first == nil || first.name != name {
		return false
	}
	if r.line.heldLocked() {
		return false // its holder has lost it, and does not know yet
	}
	if first != w && (!first.chain.empty() || !w.chain.empty() || first.terms.Use.own() || w.terms.Use.own()) {
		return false // its chain has, or needs, another session
	}
	g := q.newGrant(first, s, time.Now())
	if !q.pool.Hold(s, g) {
		return false
	}
	q.active++
	r.line.holder, r.line.lookup = g, nil
	if !s.Broken() {
		q.pool.Put(s)
	}
	q.serveLocked(first, g, nil)
	r.detachLocked()
	return true
}

// failAll tells everybody in line that no session could be acquired; but if somebody
// has killed the question for one, that was the question of the first alone.
func (r *run) failAll(err error) {
	q, interrupted := r.queue, errors.Is(err, fault.ErrInterrupted)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case r.detached:
	case interrupted && r.line.front != nil:
		q.serveLocked(r.line.front, nil, err)
	default:
		q.dismissLocked(r.line, err)
	}
}
