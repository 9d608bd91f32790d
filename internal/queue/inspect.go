package queue

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A caller whose timeout passes, or its context's deadline, wants to know who was in the way. If that is a caller of
// this process its line knows. Otherwise the server is asked, shortly before the time is
// up, beside all that waits: what comes of it is there in time or is not used.

const (
	// lookupAhead is how long before the end of a wait the server is asked who holds the
	// lock: a connection may have to be opened first, on a machine that is busy. An answer
	// that is half as old is not asked for again.
	lookupAhead = time.Second

	// shortestLookup is the shortest timeout that is worth the question and the answer.
	shortestLookup = 100 * time.Millisecond

	// lookupTime bounds a question. Its answer may be of use to those behind.
	lookupTime = time.Second
)

// A Late is the error of a caller whose timeout has passed, or its context's deadline.
type Late struct {
	error                 // matches fault.ErrTimeout, or the context's error
	Holder *server.Holder // who was in the way; nil where that is not known
}

func (l *Late) Unwrap() error { return l.error }

// A lookup is the question who holds a line's lock, for those who wait for name.
type lookup struct {
	line  *line
	name  string
	until time.Time // when the caller for whom it is asked leaves

	// What has been found, and when it was asked. Guarded by queue.mu.
	asked  time.Time
	holder *server.Holder
}

// lookupAt returns when the server is to be asked for w; zero: not at all.
func (w *waiter) lookupAt(now time.Time) time.Time {
	left := w.until.Sub(now)
	if w.until.IsZero() || left < shortestLookup || w.terms.Busy || w.terms.Use == ForGate {
		return time.Time{}
	}
	return w.until.Add(-min(lookupAhead, left/2))
}

// lookUpLocked has the server asked who is in the way of w, unless that is known, or is being
// asked, or there is no connection to spare. The queue's mu must be held.
func (l *line) lookUpLocked(w *waiter, now time.Time) {
	q := l.queue
	known := l.holder != nil || l.lookup != nil && l.lookup.fresh(w.name, now, lookupAhead/2)
	underWay := l.lookup != nil && l.lookup.asked.IsZero()
	if known || underWay || q.closed || !q.pool.Spare() {
		return
	}
	l.lookup = &lookup{line: l, name: w.name, until: w.until}
	q.lookups = append(q.lookups, l.lookup)
	if !q.looking {
		q.looking = true
		q.active++
		go q.askLookups()
	}
}

// fresh reports whether k tells who holds name, or held it at most so long ago.
func (k *lookup) fresh(name string, now time.Time, age time.Duration) bool {
	return k.name == name && !k.asked.IsZero() && now.Sub(k.asked) <= age
}

// askLookups asks what there is to be asked, one after the other.
func (q *Queue) askLookups() {
	for k := q.nextLookup(); k != nil; k = q.nextLookup() {
		ctx, cancel := context.WithTimeout(q.closing, lookupTime)
		asked := time.Now()
		var found *server.Holder
		err := q.pool.Inspect(ctx, nil, func(s *server.Conn) error {
			h, held, err := s.Holder(k.name)
			if held {
				found = &h
			}
			return err
		})
		cancel()
		if err != nil {
			found = nil
		}
		q.mu.Lock()
		k.asked, k.holder = asked, found
		q.mu.Unlock()
	}
}

// nextLookup returns nil, and the asking is over, if there is nothing more to ask.
func (q *Queue) nextLookup() *lookup {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lookups) > 0 && !q.closed {
		k := q.lookups[0]
		q.lookups = q.lookups[1:]
		if k.line.lookup == k && time.Now().Before(k.until) && q.pool.Spare() {
			return k
		}
		k.asked = time.Now() // in vain
	}
	q.lookups, q.looking = nil, false
	q.finishLocked()
	return nil
}

// inTheWayLocked returns who holds what w waits for, or did a moment ago, as far as that is
// known. The queue's mu must be held.
func (w *waiter) inTheWayLocked(now time.Time) *server.Holder {
	l := w.line
	switch {
	case l.holder != nil:
		return &server.Holder{Name: l.holder.name, Local: true, HeldFor: now.Sub(l.holder.since)}
	case w.terms.Timeout < shortestLookup:
		return nil // that was no wait to speak of
	case l.lookup != nil && l.lookup.fresh(w.name, now, 2*lookupAhead):
		return l.lookup.holder
	}
	return nil
}

// HeldNames returns the names of all locks that are held, in order, as they were asked for.
func (q *Queue) HeldNames() (held []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		if l.holder != nil && l.holder.use != ForGate { // of a call that only waits
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
	if l == nil || l.holder == nil || l.holder.name != name || l.holder.releasing || l.holder.isLost() {
		return nil
	}
	return l.holder
}

// HeldFor is how long the process has had the lock.
func (g *Grant) HeldFor() time.Duration { return time.Since(g.since) }

// Inspect has ask run on a session that holds no lock or, where there is only one, on
// that. It returns when ctx ends; ask may go on, and Close waits for it. If Inspect
// returns an error, what ask has written is not to be read.
func (q *Queue) Inspect(ctx context.Context, ask func(*server.Conn) error) error {
	home := q.homeOf(ctx)
	return q.beside(ctx, func(ctx context.Context) error { return q.pool.Inspect(ctx, home, ask) })
}

// homeOf returns the session of the call chain of ctx, nil if it has none.
func (q *Queue) homeOf(ctx context.Context) *pool.Session {
	c := q.chainOf(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	home, _ := c.home()
	return home
}

// beside runs ask beside all that goes on. It returns when ctx ends, or Close begins.
func (q *Queue) beside(ctx context.Context, ask func(context.Context) error) error {
	if ctx.Err() != nil {
		return ContextError(ctx)
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return fault.ErrClosed
	}
	q.active++
	q.mu.Unlock()
	asking, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(q.closing, cancel)
	done := make(chan error, 1)
	go func() {
		defer q.inspected()
		defer cancel()
		defer stop()
		done <- ask(asking)
	}()
	select {
	case err := <-done:
		if err == nil || ctx.Err() == nil && q.closing.Err() == nil {
			return err
		}
	case <-ctx.Done():
	case <-q.closing.Done():
	}
	if ctx.Err() != nil {
		return ContextError(ctx)
	}
	return fault.ErrClosed
}

// Check asks whether the server is fit for locks.
func (q *Queue) Check(ctx context.Context) error {
	home := q.homeOf(ctx)
	return q.beside(ctx, func(ctx context.Context) error { return q.pool.Check(ctx, home) })
}

func (q *Queue) inspected() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finishLocked()
}
