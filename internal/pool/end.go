package pool

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

var errGivenBack = errors.New("session given back")

// A death is the rest of the work on a session that is closing, with its locks.
type death struct {
	session *Session
	cause   error
	lost    map[Hold]struct{}
	locked  bool // there was a lock of ours on it
}

// condemn takes s away from all callers, tells the holders of its locks, and
// closes its connection.
func (p *Pool) condemn(s *Session, cause error) {
	p.mu.Lock()
	d := p.condemnLocked(s, cause)
	p.mu.Unlock()
	p.bury(d)
}

// condemnLocked makes s closing: from now on no caller has a turn on it, and
// its connection never goes back to where it came from. bury must follow. It
// returns nil if s was closing before. p.mu must be held.
func (p *Pool) condemnLocked(s *Session, cause error) *death {
	if s.status == closing {
		return nil
	}
	d := &death{s, cause, s.holds, len(s.holds) > 0}
	s.closeLocked(cause)
	return d
}

// closeLocked makes s closing, by that cause. p.mu must be held.
func (s *Session) closeLocked(cause error) {
	s.status, s.deathCause, s.holds = closing, cause, nil
}

// bury tells those that depended on a session of its death, and discards its
// connection.
func (p *Pool) bury(d *death) {
	if d == nil {
		return
	}
	s, cause := d.session, d.cause
	defer p.parted(s)

	// The holders are told first: a call under a lost lock that waits for a turn
	// had better end for that reason.
	maps.DeleteFunc(d.lost, func(hold Hold, _ struct{}) bool { return !hold.Lost(cause) })
	p.mu.Lock()
	p.wakeWaitersLocked(func(k *waiter) bool { return k.want == s || k.want == nil })
	killed := s.killed
	p.mu.Unlock()
	p.discard(s, d.locked)
	p.Observer.SessionDiscarded(cause)
	switch {
	case len(d.lost) > 0:
		p.Logger.Error("namedlock: lost a session and the locks on it", "locks", len(d.lost), "names", someNames(d.lost), "error", cause)
	case errors.Is(cause, server.ErrCutOff):
		p.Logger.Debug("namedlock: connection closed: a context ended during a transaction", "error", cause)
	case killed:
		// On purpose: no caller wanted the lock any more for which it waited.
		p.Logger.Debug("namedlock: connection discarded to end a wait", "error", cause)
	default:
		p.Logger.Warn("namedlock: connection discarded", "error", cause)
	}
}

// someNames returns the names of the holds, or the first of very many.
func someNames(holds map[Hold]struct{}) (names []string) {
	const most = 20
	for h := range holds {
		if len(names) == most {
			return append(names, "...")
		}
		names = append(names, h.Name())
	}
	return names
}

// discard closes the connection of s. It waits for that within a bound. A
// statement of the user's own on a connection given to New can hold it up. So
// can a COMMIT on a driver that ignores its context and hides its socket.
func (p *Pool) discard(s *Session, locked bool) {
	p.calls.Go(func() {
		defer close(s.ended)
		if errors.Is(s.Discard(), server.ErrReturned) && locked {
			s.CloseSocket()
		}
	})
	if !p.AwaitEnd(s) && !s.CloseSocket() {
		p.Logger.Warn("namedlock: cannot close a broken connection yet: its rows or transaction are still open")
	}
}

// AwaitEnd waits until the connection of s, which is closing, is closed or has
// gone back, and its transaction has ended on our side. It waits for
// ReleaseTimeout at most, and reports whether that is so.
func (p *Pool) AwaitEnd(s *Session) bool {
	timer := time.NewTimer(p.ReleaseTimeout)
	defer timer.Stop()
	select {
	case <-s.ended:
		return true
	case <-timer.C:
		return false
	}
}

// GiveUp ends s, whatever is under way on it, and tells the holders of its
// locks that they are lost by cause. When it returns s is closing, so that
// nothing that ends on it at this moment gives its connection back. It does not
// wait until the connection is closed; Close does.
func (p *Pool) GiveUp(s *Session, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.condemnLocked(s, cause); d != nil {
		p.work.Go(func() {
			s.CloseSocket()
			p.bury(d)
		})
	}
}

// idleTime is how long a session stays without a lock before its connection
// goes back to where it came from.
const idleTime = time.Second

// sweep gives back the sessions that have been idle for so long.
func (p *Pool) sweep(age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweepLocked(age)
}

func (p *Pool) sweepLocked(age time.Duration) {
	if p.closing.Err() != nil { // another pool of the db asks; Close gives all back
		return
	}
	now := time.Now()
	next := time.Duration(0) // until the youngest of those that stay is due
	for _, s := range p.sessions {
		if s.status != idle || len(s.holds) > 0 || s.Lent() {
			continue
		}
		if left := age - now.Sub(s.idleSince); left > 0 {
			next = max(next, left)
			continue
		}
		p.partLocked(s)
	}
	if next > 0 {
		p.startTimerLocked(next)
	}
}

// partLocked gives s back, in a goroutine: on a silent network it takes time.
// No other caller may have the turn. p.mu must be held: if another pool asks,
// Close may begin at once.
func (p *Pool) partLocked(s *Session) {
	s.closeLocked(errGivenBack)
	p.work.Go(func() {
		defer p.parted(s)
		p.giveBack(s.Conn)
		close(s.ended)
	})
}

// parted makes room for a session in the place of one whose connection is gone.
func (p *Pool) parted(s *Session) {
	p.mu.Lock()
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	p.wakeWaitersLocked(forAny)
	p.mu.Unlock()
	p.giveRoom()
}

// giveBack returns a connection, which holds no lock, to its db or its owner as
// it came.
func (p *Pool) giveBack(c *server.Conn) {
	back := c.GiveBack
	if c.Lent() {
		back = c.Leave
	}
	if err := back(); err != nil {
		p.Observer.SessionDiscarded(err)
	}
}

// Close gives all sessions back. No caller may want a turn. The pool's own
// goroutines may have one: then the session goes back when the turn ends.
func (p *Pool) Close() {
	p.mu.Lock()
	p.beginClosing()
	if p.timer != nil && p.timer.Stop() {
		p.work.Done()
	}
	for _, s := range p.sessions {
		if s.status == idle {
			p.partLocked(s)
		}
	}
	p.Hangups.Wake()
	p.mu.Unlock()
	p.work.Wait()
	p.settle()
}
