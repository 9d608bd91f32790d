package notify

import (
	"sync"
	"time"
)

// most bounds the number of pending calls, so that a blocking function does not
// fill the memory.
const most = 10_000

// A Notifier makes calls in the order of Tell. It has a goroutine only while
// calls are pending.
type Notifier struct {
	mu      sync.Mutex // guards all below
	pending []func()
	running bool
	dropped int64
	idle    chan struct{} // closed when nothing is pending; nil unless a Drain waits
}

// Tell queues a call of f. If too many calls are pending, f is dropped. Tell
// never blocks.
func (n *Notifier) Tell(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == most {
		n.dropped++
		return
	}
	n.pending = append(n.pending, f)
	if !n.running {
		n.running = true
		go n.run()
	}
}

// Dropped returns how many calls were dropped.
func (n *Notifier) Dropped() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dropped
}

// Drain waits until nothing is pending, but no longer than limit, since a call
// may block indefinitely.
func (n *Notifier) Drain(limit time.Duration) {
	n.mu.Lock()
	if !n.running {
		n.mu.Unlock()
		return
	}
	if n.idle == nil {
		n.idle = make(chan struct{})
	}
	idle := n.idle
	n.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
}

func (n *Notifier) run() {
	ended := false
	defer func() {
		if !ended {
			go n.run() // the call has ended this goroutine
		}
	}()
	for f := n.next(); f != nil; f = n.next() {
		n.call(f)
	}
	ended = true
}

func (n *Notifier) next() func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		n.running = false
		if n.idle != nil {
			close(n.idle)
			n.idle = nil
		}
		return nil
	}
	f := n.pending[0]
	n.pending[0] = nil
	n.pending = n.pending[1:]
	return f
}

func (n *Notifier) call(f func()) {
	defer func() { _ = recover() }() // there is no caller to report it to
	f()
}
