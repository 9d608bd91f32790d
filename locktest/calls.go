package locktest

import (
	"slices"
	"time"
)

// A Call is a call of one of a Locker's methods that take locks.
type Call struct {
	Method   string        // "WithLock", "WithLockTx", "WithTerm", "WithSlot", "WithLocks", "Acquire" or "Lead"
	Name     string        // as the caller wrote it; empty for WithLocks
	Names    []string      // WithLocks alone: all, as the caller wrote them
	Timeout  time.Duration // as the caller gave it; namedlock.Forever for Lead
	Acquired bool          // the lock was had, or all locks: the function began (of Lead: a term), or Acquire returned a lock
	Returned bool          // the call has returned, or panicked
	Err      error         // what it returned
}

// Calls returns the calls of l's methods so far, in the order in which they
// began. One of WithLocks is one call, however many locks it takes.
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
