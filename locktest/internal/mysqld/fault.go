package mysqld

import (
	"context"

	"github.com/go-namedlock/namedlock/internal/server"
)

// faults are what is wrong between a process and the server. The server's mu
// guards them.
type faults struct {
	down   error              // connections are refused with that; nil: they are not
	silent chan struct{}      // nothing gets through until it is closed; nil: all does
	conns  map[*conn]struct{} // that live
}

// Fail has the server be away for p: its connections end, and new ones are
// refused with err. nil has it come back.
func (p *Process) Fail(err error) {
	p.server.mu.Lock()
	p.down = err
	var all []*conn
	if err != nil {
		for c := range p.conns {
			all = append(all, c)
		}
	}
	p.server.mu.Unlock()
	for _, c := range all {
		c.end()
	}
}

// Silence holds up all traffic between p and the server until heal is called.
// It is delivered then.
func (p *Process) Silence() (heal func()) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	silent := make(chan struct{})
	p.silent = silent
	return func() {
		p.server.mu.Lock()
		defer p.server.mu.Unlock()
		if p.silent == silent {
			p.silent = nil
			close(silent)
		}
	}
}

// reach returns when the server can be reached, or an error. c is nil for a new
// connection.
func (p *Process) reach(ctx context.Context, c *conn) error {
	var gone <-chan struct{} // never
	if c != nil {
		gone = c.locks.Ended()
	}
	for {
		p.server.mu.Lock()
		silent, down := p.silent, p.down
		p.server.mu.Unlock()
		if c == nil && down != nil {
			return down
		}
		if silent == nil {
			return nil
		}
		select {
		case <-silent:
		case <-gone:
			return server.ErrInvalidConn
		case <-ctx.Done():
			if c != nil {
				c.end() // as the driver does
			}
			return ctx.Err()
		}
	}
}

// Depose ends the connection by which p holds the lock. It gives the lock to
// another session, before all waiters, until reinstate is called. It returns
// false if p does not hold the lock.
func (p *Process) Depose(name string) (reinstate func(), ok bool) {
	owner := p.holder(name)
	if owner == nil {
		return nil, false
	}
	usurper := p.server.Process("Depose").connect()
	usurper.locks.Next(name)
	owner.end()
	return usurper.end, true
}
