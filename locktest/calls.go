package locktest

import (
	"slices"
	"time"
)

// A Call is one call of a method of Locker that acquires locks.
type Call struct {
	Method   string        // "WithLock", "WithLockTx", "WithTerm", "WithSlot", "WithLocks", "Acquire" or "Lead"
	Name     string        // as the caller wrote it; empty for WithLocks
	Names    []string      // of WithLocks: all names, as the caller wrote them
	Timeout  time.Duration // as the caller gave it; namedlock.Forever for Lead
	Acquired bool          // all locks were acquired: fn began (for Lead, a term), or Acquire returned a lock
	Returned bool          // the call has returned, or panicked
	Err      error         // the error that it returned
}

// Calls returns the calls so far, in the order in which they began. A WithLocks
// is one call, regardless of its number of locks.
func (l *Locker) Calls() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := make([]Call, len(l.calls))
	for i, c := range l.calls {
		calls[i] = *c
		calls[i].Names = slices.Clone(c.Names)
	}
	return calls
}

func (l *Locker) begin(c Call) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, &c)
	return &c
}

func (l *Locker) acquired(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Acquired = true
}

func (l *Locker) end(c *Call, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Returned, c.Err = true, err
}
