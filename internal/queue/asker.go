package queue

import (
	"context"
	"runtime"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/pool"
)

// An asker asks the server for the lock of a line. It tries first, and waits
// only if the server returns that another session holds the lock. It asks for
// the first waiter, until a caller has the lock or no caller wants it. It has a
// goroutine of its own: its statement goes on when the caller leaves. Its line
// lets go of it by setting line.asker to another asker or nil.
type asker struct {
	line *line

	// Guarded by queue.mu.
	phase     phase
	wait      *wait         // the statement that waits on the server; nil: none does
	pauseOver chan struct{} // closed to end the pause; nil: there is none, or it ends
	waited    bool          // another session was found to hold the lock: the line's wait has begun
	own       bool          // it takes a session that only one call chain uses
	retry     retry         // changed by the asker's goroutine alone

	// ctx is nil until needed. It ends when the line lets go of the asker: so
	// do its pauses and its waits in the pool, but not its statements.
	ctx    context.Context
	cancel context.CancelFunc
}

// A phase is what an asker is doing, as far as its waiters depend on that.
type phase int

const (
	asking   phase = iota // any other: it opens a session, waits on the server, or pauses
	starving              // it waits for a session or a connection that other callers use
	trying                // it asks without waiting, or has the lock for the next caller
)

// A step is what an asker does next.
type step int

const (
	asks    step = iota // asks for the first waiter, if there is one
	waits               // waits on the server: another session holds the lock
	polls               // asks after the pause of a poll
	sitsOut             // asks after the pause of an outage
)

// run is the goroutine of the asker. It begins with a wait on spare, if that is
// not nil: see prefetchLocked. At its end it starts another asker if there are
// waiters that this one does not ask for.
func (a *asker) run(spare *pool.Session) {
	growStack()
	l := a.line
	q := l.queue
	if spare != nil {
		a.waitOn(spare)
	}
	q.mu.Lock()
	for w := a.firstLocked(); w != nil; w = a.firstLocked() {
		a.phase, a.own = asking, w.OwnSession()
		req := pool.Request{Own: a.own, Lead: w.use == ForLead, Fresh: a.retry.failures > 0, Poll: w.busy, Caller: a}
		if w.chain.inner != nil {
			req.Home = w.chain.home()
			req.Mine = w.chain.on(req.Home)
		}
		q.mu.Unlock()
		s, err := q.pool.Take(req)
		var next step
		if err != nil {
			next = a.failed(w, nil, err, false)
		} else if next = a.try(s, w); next == waits {
			next = a.waitOn(s)
		}
		q.mu.Lock()
		if next != asks {
			a.pauseLocked(next)
		}
	}
	defer q.mu.Unlock()
	if a.cancel != nil {
		a.cancel()
	}
	if l.asker == a {
		l.asker = nil
		q.advanceLocked(l)
	}
	q.active--
	q.ended.Broadcast()
}

// growStack makes room for the calls down to the socket while the stack is
// small. A stack that grows on the way there is copied with all its frames,
// which takes 6 % of the time of an uncontended cycle (see the bench).
//
//go:noinline
func growStack() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
}

// firstLocked returns the first waiter, nil if there is none or the line has
// let go of the asker. It serves those whose context has ended or whose timeout
// has passed. The queue's mu must be held.
func (a *asker) firstLocked() *waiter {
	l := a.line
	if l.asker != a {
		return nil
	}
	for now := time.Now(); l.front != nil; {
		err := l.front.overLocked(now)
		if err == nil {
			break
		}
		l.queue.serveLocked(l.front, err)
	}
	return l.front
}

// Context implements pool.Caller. It ends when the line lets go of the
// asker.
func (a *asker) Context() context.Context {
	q := a.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if a.ctx == nil {
		a.ctx, a.cancel = context.WithCancel(context.Background())
		if a.line.asker != a {
			a.cancel()
		}
	}
	return a.ctx
}

// Queued implements pool.Caller: a session is free only when another caller
// gives one back. A caller that tries once does not wait for that, but the lock
// may be free, so its time does not begin.
func (a *asker) Queued() { a.starve(1) }

// DBExhausted implements pool.Caller: a connection is free only when
// another user of the db gives one back.
func (a *asker) DBExhausted() { a.starve(0) }

// starve starts the timer of the first waiter if at least that much of its
// timeout is left.
func (a *asker) starve(least time.Duration) {
	q := a.line.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	a.phase = starving
	if w := a.line.front; a.line.asker == a && w != nil && w.terms.Left >= least {
		w.noteWaitLocked()
	}
}

// try asks once on s, without waiting. The turn on s goes on if it returns
// waits. Otherwise the turn is over, and perhaps the asker's task.
func (a *asker) try(s *pool.Session, w *waiter) step {
	q := a.line.queue
	q.mu.Lock()
	switch {
	case a.line.asker != a: // an answer, even a lock for a moment, would mislead other callers
		q.mu.Unlock()
		q.pool.Put(s)
		return asks
	case w.terms.Busy && !w.busy:
		a.busyLocked(w)
		q.mu.Unlock()
		return waits
	}
	a.phase = trying
	poll := w.busy
	q.mu.Unlock()
	begun := time.Now()
	granted, err := s.GetLock(w.name, 0)
	took := time.Since(begun)
	if granted && poll {
		err = confirm(s, w.name)
		granted = err == nil
	}
	q.mu.Lock()
	if !granted {
		a.phase = asking
	}
	if poll {
		// A poll that takes much longer than the others counts for little.
		q.trip += (min(took, 2*q.trip+time.Millisecond) - q.trip) / 8
	}
	if err == nil {
		a.retry = retry{slice: a.retry.slice}
	}
	if err == nil && !granted {
		a.busyLocked(w)
	}
	q.mu.Unlock()
	switch {
	case granted:
		a.grant(s, w)
		return asks
	case err != nil:
		return a.failed(w, s, err, a.retry.failures == 0)
	}
	return waits
}

// busyLocked notes that another session holds the lock: the wait of w begins.
// The queue's mu must be held.
func (a *asker) busyLocked(w *waiter) {
	w.busy, a.waited = true, true
	w.noteWaitLocked()
}

// wantedByLocked reports whether w, which is now the first waiter, has a use
// for the statement of the asker. The queue's mu must be held.
func (a *asker) wantedByLocked(w *waiter) bool {
	if a.wait != nil {
		return w != nil && a.wait.suits(w)
	}
	if a.phase == starving && a.own && w != nil && !w.OwnSession() {
		return false // w may share a session, and the asker waits for one to itself
	}
	// A try is over soon, and so is the question after a grant. Without its
	// asker, the next caller would find the lock held by that grant.
	return w != nil || a.phase == trying
}

// abandonLocked has the line let go of the asker. The asker ends by itself. A
// lock that it is granted is released before another caller has a turn on the
// session. The queue's mu must be held.
func (a *asker) abandonLocked() {
	q := a.line.queue
	a.line.asker = nil
	if a.cancel != nil {
		a.cancel()
	}
	if a.wait != nil {
		q.pool.KillWait(a.wait.session)
	}
}

// confirm asks, after the lock was granted on s, whether the server still
// excludes. It returns an error if it does not, or if the session has died: no
// code runs under the lock yet, so another session can be asked for it.
func confirm(s *pool.Session, name string) error {
	if !s.Broken() { // it was not killed as its wait was granted
		if err := s.Confirm(name); err != nil {
			return err
		}
	}
	if s.Broken() {
		return fault.Because(fault.ErrUnavailable, "the session closed as the lock was granted", s.BrokenBy())
	}
	return nil
}

// grant ends the turn on s, where the lock was granted for w. It gives the lock
// to the first waiter, or back to the server if that caller does not want it.
func (a *asker) grant(s *pool.Session, w *waiter) {
	l := a.line
	q := l.queue
	q.mu.Lock()
	first := l.front
	switch {
	case l.asker != a:
		first = nil
	case first != nil && first != w && !(first.anySessionLocked(w.name) && w.anySessionLocked(w.name)):
		first = nil // its chain has, or needs, another session
	}
	if first != nil {
		first.session, first.since = s, time.Now()
	}
	if first == nil || !q.pool.Hold(s, &first.Grant) {
		q.mu.Unlock()
		_ = s.ReleaseLock(w.name) // if that fails, Put discards the session
		q.pool.Put(s)
		return
	}
	q.active++
	l.holder, l.asker, l.lookup = &first.Grant, nil, nil
	q.pool.Put(s)
	q.serveLocked(first, nil)
	q.mu.Unlock()
}
