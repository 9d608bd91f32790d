// Package locktable has the named locks of a server in memory. Locks are
// granted first come, first served, counted within a session, and freed at its
// end. A wait that would be a deadlock is refused. internal/memserver and
// locktest use it.
//
// A wait blocks only on channels and timers, as testing/synctest requires.
package locktable

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// The errors of [Session.Get].
var (
	ErrDeadlock = errors.New("locktable: deadlock")
	ErrEnded    = errors.New("locktable: the session has ended")
)

// A Table is the locks of one server, whose clients are of type C.
type Table[C any] struct {
	fold    func(name string) string
	granted func(C) // called with mu held

	mu     sync.Mutex          // guards all below, and all of sessions, locks and waiters
	locks  map[string]*lock[C] // those that are held, by their folded names
	grants int
}

// A Session holds locks, and waits for at most one.
type Session[C any] struct {
	Client C

	table *Table[C]
	held  []*lock[C]
	waits *waiter[C]
	ended chan struct{}
}

type lock[C any] struct {
	key     string
	name    string // as its holder wrote it
	holder  *Session[C]
	count   int // how often the holder has taken it
	grant   int // number of the grant to the holder
	waiters []*waiter[C]
}

type waiter[C any] struct {
	session *Session[C]
	lock    *lock[C]
	name    string
	granted chan struct{} // closed when the lock is the session's
}

// New returns a table in which names are one lock if fold makes them equal. It
// calls granted in the moment in which a client becomes the holder of a lock;
// granted must not call the table.
func New[C any](fold func(name string) string, granted func(C)) *Table[C] {
	return &Table[C]{fold: fold, granted: granted, locks: make(map[string]*lock[C])}
}

// Session returns a session of the client. It must be ended.
func (t *Table[C]) Session(client C) *Session[C] {
	return &Session[C]{Client: client, table: t, ended: make(chan struct{})}
}

// Ended returns a channel that End closes.
func (s *Session[C]) Ended() <-chan struct{} { return s.ended }

// Get works like GET_LOCK, and reports whether the lock was granted. A
// negative timeout waits indefinitely. After an error of ctx the session must
// be ended: until then it is in the queue.
func (s *Session[C]) Get(ctx context.Context, name string, timeout time.Duration) (granted bool, err error) {
	w, err := s.enqueue(name, timeout != 0)
	if w == nil {
		return false, err
	}
	var ends <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		ends = timer.C
	}
	select {
	case <-w.granted:
		return true, nil
	case <-s.ended:
		return false, ErrEnded
	case <-ctx.Done():
		return false, ctx.Err()
	case <-ends:
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	select {
	case <-w.granted:
		return true, nil // in the last moment
	default:
		w.leave()
		return false, nil
	}
}

// enqueue returns a waiter that is granted already, or will be. It returns nil
// if the session would have to wait and must not.
func (s *Session[C]) enqueue(name string, wait bool) (*waiter[C], error) {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.locks[t.fold(name)]
	if l == nil {
		l = &lock[C]{key: t.fold(name)}
	}
	w := &waiter[C]{session: s, lock: l, name: name, granted: make(chan struct{})}
	switch {
	case s.hasEnded():
		return nil, ErrEnded
	case l.holder == nil:
		t.give(w)
	case l.holder == s:
		l.count++
		close(w.granted)
	case !wait:
		return nil, nil
	case w.deadlocks():
		return nil, ErrDeadlock
	default:
		s.waits = w
		l.waiters = append(l.waiters, w)
	}
	return w, nil
}

func (s *Session[C]) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// deadlocks reports whether w's session, were it to wait, would wait for
// itself.
func (w *waiter[C]) deadlocks() bool {
	seen := map[*Session[C]]bool{}
	for reached := w.ahead(); len(reached) > 0; {
		s := reached[0]
		reached = reached[1:]
		if s == w.session {
			return true
		}
		if s.waits != nil && !seen[s] {
			reached = append(reached, s.waits.ahead()...)
		}
		seen[s] = true
	}
	return false
}

// ahead returns the sessions that w waits for: the lock's holder, and the
// waiters before it.
func (w *waiter[C]) ahead() []*Session[C] {
	all := []*Session[C]{w.lock.holder}
	for _, other := range w.lock.waiters {
		if other == w {
			break
		}
		all = append(all, other.session)
	}
	return all
}

// give makes w's session the holder of a lock that is free.
func (t *Table[C]) give(w *waiter[C]) {
	t.grants++
	l := w.lock
	l.holder, l.name, l.count, l.grant = w.session, w.name, 1, t.grants
	t.locks[l.key] = l
	w.session.held = append(w.session.held, l)
	t.granted(w.session.Client)
	close(w.granted)
}

// free takes l from its holder, and gives it to the next waiter.
func (t *Table[C]) free(l *lock[C]) {
	l.holder.held = slices.DeleteFunc(l.holder.held, func(held *lock[C]) bool { return held == l })
	l.holder = nil
	if len(l.waiters) == 0 {
		delete(t.locks, l.key)
		return
	}
	next := l.waiters[0]
	next.leave()
	t.give(next)
}

// leave takes w out of the queue, if it is in there.
func (w *waiter[C]) leave() {
	w.session.waits = nil
	w.lock.waiters = slices.DeleteFunc(w.lock.waiters, func(other *waiter[C]) bool { return other == w })
}

// Release works like RELEASE_LOCK. It returns 1 for the session's own lock, 0
// for a lock of another session, and nil for a free lock.
func (s *Session[C]) Release(name string) any {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	l := s.table.locks[s.table.fold(name)]
	switch {
	case l == nil:
		return nil
	case l.holder != s:
		return int64(0)
	}
	if l.count--; l.count == 0 {
		s.table.free(l)
	}
	return int64(1)
}

// ReleaseAll works like RELEASE_ALL_LOCKS. It counts a lock as often as the
// session acquired it.
func (s *Session[C]) ReleaseAll() (released int64) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return s.releaseAll()
}

func (s *Session[C]) releaseAll() (released int64) {
	for len(s.held) > 0 {
		released += int64(s.held[0].count)
		s.table.free(s.held[0])
	}
	return released
}

// End ends the session's wait, and frees its locks. Calls after the first do
// nothing.
func (s *Session[C]) End() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.hasEnded() {
		return
	}
	close(s.ended)
	if s.waits != nil {
		s.waits.leave()
	}
	s.releaseAll()
}

// Next makes s the next holder of a lock that is held: the first of its
// waiters, whether s waits for it already or not.
func (s *Session[C]) Next(name string) {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.locks[t.fold(name)]
	w := s.waits
	switch {
	case l == nil:
		return
	case w == nil:
		w = &waiter[C]{session: s, lock: l, name: name, granted: make(chan struct{})}
	default:
		w.leave()
	}
	s.waits = w
	l.waiters = slices.Insert(l.waiters, 0, w)
}

// Steal takes a lock from its holder, whose session goes on.
func (t *Table[C]) Steal(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.locks[t.fold(name)]; l != nil {
		t.free(l)
	}
}

// Holder returns the client that holds the lock.
func (t *Table[C]) Holder(name string) (client C, held bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.locks[t.fold(name)]; l != nil {
		return l.holder.Client, true
	}
	return client, false
}

// A Grant is a lock that is held.
type Grant[C any] struct {
	Name, Key string // as the holder wrote it; as names are compared
	Client    C
}

// Grants returns the locks that are held, in the order of the grants.
func (t *Table[C]) Grants() (all []Grant[C]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range slices.SortedFunc(maps.Values(t.locks), func(a, b *lock[C]) int { return cmp.Compare(a.grant, b.grant) }) {
		all = append(all, Grant[C]{l.name, l.key, l.holder.Client})
	}
	return all
}
