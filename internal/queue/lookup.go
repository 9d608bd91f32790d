package queue

import (
	"context"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// A caller whose timeout or deadline passes gets the holder with its error. If
// the holder is in this process, the line knows it. Otherwise the server is
// asked, shortly before the time is up, on another session. An answer that
// comes too late is not used.

const (
	// lookupAhead is how long before the end of a wait the server is asked for
	// the holder. On a machine that is busy, a connection may have to be opened
	// first. An answer that is less than half as old is not asked for again.
	lookupAhead = time.Second

	// shortestLookup is the shortest timeout that is worth a question.
	shortestLookup = 100 * time.Millisecond

	// lookupTime bounds a question. Its answer may be of use to those behind.
	lookupTime = time.Second
)

// A Late is the error of a caller whose timeout or deadline has passed.
type Late struct {
	Err    error          // matches fault.ErrTimeout, or the context's error
	Holder *server.Holder // of the lock; nil: not known
}

func (l *Late) Error() string { return l.Err.Error() }
func (l *Late) Unwrap() error { return l.Err }

// A lookup is the question for the holder of a line's lock, for waiters for
// name.
type lookup struct {
	line  *line
	name  string
	until time.Time // when the caller that needs the answer leaves

	// The answer, and when it was asked for. Guarded by queue.mu.
	asked  time.Time
	holder *server.Holder
}

// fresh reports whether k is the answer for name, and at most that old.
func (k *lookup) fresh(name string, now time.Time, age time.Duration) bool {
	return k != nil && k.name == name && !k.asked.IsZero() && now.Sub(k.asked) <= age
}

// lookUpLocked asks the server, later, for the holder of the lock of w. It does
// not if the holder is known, if the question is under way, or if there is no
// connection to spare. The queue's mu must be held.
func (l *line) lookUpLocked(w *waiter, now time.Time) {
	q := l.queue
	underWay := l.lookup != nil && l.lookup.asked.IsZero()
	if l.holder != nil || l.lookup.fresh(w.name, now, lookupAhead/2) || underWay || !q.pool.Spare() {
		return
	}
	l.lookup = &lookup{line: l, name: w.name, until: w.until}
	q.lookups = append(q.lookups, l.lookup)
	if len(q.lookups) == 1 {
		q.active++
		go q.askLookups()
	}
}

// askLookups asks the questions in q.lookups, one after the other.
func (q *Queue) askLookups() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; len(q.lookups) > 0; q.lookups = q.lookups[1:] {
		k := q.lookups[0]
		asked := time.Now()
		if k.line.lookup == k && asked.Before(k.until) && q.closing.Err() == nil && q.pool.Spare() {
			q.mu.Unlock()
			found := q.askHolder(k.name)
			q.mu.Lock()
			k.holder = found
		}
		k.asked = asked
	}
	q.lookups = nil
	q.active--
	q.ended.Broadcast()
}

// askHolder returns the holder of the lock, nil if there is none or the server
// cannot be asked.
func (q *Queue) askHolder(name string) (found *server.Holder) {
	ctx, cancel := context.WithTimeout(q.closing, lookupTime)
	defer cancel()
	err := q.pool.Inspect(ctx, nil, func(s *server.Conn) error {
		h, held, err := s.Holder(name)
		if held {
			found = &h
		}
		return err
	})
	if err != nil {
		return nil
	}
	return found
}

// inTheWayLocked returns the holder of the lock that w waits for, as far as it
// is known. The server's answer may be a moment old. The queue's mu must be
// held.
func (w *waiter) inTheWayLocked(now time.Time) *server.Holder {
	l := w.line
	switch {
	case l.holder != nil:
		return &server.Holder{Name: l.holder.name, Local: true, HeldFor: now.Sub(l.holder.since)}
	case w.terms.Timeout >= shortestLookup && l.lookup.fresh(w.name, now, 2*lookupAhead):
		return l.lookup.holder
	}
	return nil
}
