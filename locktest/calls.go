package locktest

import "time"

// A Call is a call of one of a Locker's methods that take locks.
type Call struct {
	Method   string        // "WithLock" or "Acquire"
	Name     string        // as the caller wrote it
	Timeout  time.Duration // as the caller gave it
	Acquired bool          // the lock was had: the function began, or Acquire returned a lock
	Returned bool          // the call has returned, or panicked
	Err      error         // what it returned
}

// Calls returns the calls of l's methods so far, in the order in which they began.
func (l *Locker) Calls() []Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := make([]Call, len(l.calls))
	for i, c := range l.calls {
		calls[i] = *c
	}
	return calls
}

func (l *Locker) begin(method, name string, timeout time.Duration) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Call{Method: method, Name: name, Timeout: timeout}
	l.calls = append(l.calls, c)
	return c
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
