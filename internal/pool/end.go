package pool

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

var errGivenBack = errors.New("session given back")

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
		p.giveBackLocked(s)
	}
	if next > 0 {
		p.startTimerLocked(next)
	}
}

// giveBackLocked gives s back, in a goroutine: on a silent network it takes
// time. No other caller may have the turn. p.mu is held until the goroutine is
// counted: if another pool asks, Close may begin at once.
func (p *Pool) giveBackLocked(s *Session) {
	p.closeLocked(s, errGivenBack)
	p.work.Go(func() {
		defer p.remove(s)
		p.giveBack(s.Conn)
		close(s.ended)
	})
}

// giveBack returns a connection, which holds no lock, to its db or its owner as
// it came.
func (p *Pool) giveBack(c *server.Conn) {
	if err := c.GiveBack(); err != nil {
		p.Observer.SessionDiscarded(err)
	}
}

// discard takes s away from all callers, tells the holders of its locks, and
// closes its connection. releasing is the lock whose release has failed on s,
// which its own caller reports. nil: none.
func (p *Pool) discard(s *Session, cause error, releasing Hold) {
	p.mu.Lock()
	holds, first := p.closeLocked(s, cause)
	p.mu.Unlock()
	if first {
		p.finishDiscard(s, holds, releasing)
	}
}

// GiveUp discards s, whatever is under way on it. When it returns s is closing,
// so that nothing that ends on it at this moment gives its connection back. It
// does not wait until the connection is closed; Close does.
func (p *Pool) GiveUp(s *Session, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if holds, first := p.closeLocked(s, cause); first {
		p.work.Go(func() {
			s.CloseSocket()
			p.finishDiscard(s, holds, nil)
		})
	}
}

// closeLocked makes s closing, by that cause: from now on no caller has a turn
// on it. It returns the locks on s, and whether s was not closing before.
func (p *Pool) closeLocked(s *Session, cause error) (holds map[Hold]struct{}, first bool) {
	if s.status == closing {
		return nil, false
	}
	if s == p.lent {
		p.gone = fault.Because(fault.ErrUnavailable, "the connection given to New is closed; make a new Locker", cause)
	}
	holds = s.holds
	s.status, s.closedBy, s.holds = closing, cause, nil
	return holds, true
}

// finishDiscard is what discard does on a session that is closing.
func (p *Pool) finishDiscard(s *Session, holds map[Hold]struct{}, releasing Hold) {
	defer p.remove(s)
	cause, locked := s.closedBy, len(holds) > 0

	// The holders are told first: a call under a lost lock that waits for a turn
	// had better end for that reason.
	delete(holds, releasing)
	maps.DeleteFunc(holds, func(hold Hold, _ struct{}) bool { return !hold.Lost(cause) })
	p.mu.Lock()
	p.wakeWaitersLocked(func(k *waiter) bool { return k.want == s || k.want == nil })
	killed := s.killed
	p.mu.Unlock()
	p.closeConn(s, locked)
	p.Observer.SessionDiscarded(cause)
	switch {
	case len(holds) > 0:
		p.Logger.Error("namedlock: lost a session and the locks on it", "locks", len(holds), "names", someNames(holds), "error", cause)
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

// closeConn closes the connection of s. It waits for that within a bound. A
// statement of the user's own on a connection given to New can hold it up. So
// can a COMMIT on a driver that ignores its context and hides its socket.
// locked says that a lock of ours was on it.
func (p *Pool) closeConn(s *Session, locked bool) {
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

// remove makes room for a session in the place of s, whose connection is gone,
// or was not opened.
func (p *Pool) remove(s *Session) {
	p.mu.Lock()
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	p.wakeWaitersLocked(forAny)
	p.mu.Unlock()
	for _, waiting := range p.share.give() {
		waiting.mu.Lock()
		waiting.wakeWaitersLocked(forAny)
		waiting.mu.Unlock()
	}
}

// Close gives all sessions back. No caller may want a turn. The pool's own
// goroutines may have one: then the session goes back when the turn ends.
//
// Close waits for dials and discards no longer than a dialer or a driver takes
// that obeys its context. A discard has had ReleaseTimeout before.
func (p *Pool) Close() {
	p.mu.Lock()
	p.beginClosing()
	if p.timer != nil && p.timer.Stop() {
		p.work.Done()
	}
	for _, s := range p.sessions {
		if s.status == idle {
			p.giveBackLocked(s)
		}
	}
	p.Hangups.Wake()
	p.mu.Unlock()
	p.work.Wait()
	ended := make(chan struct{})
	go func() {
		p.calls.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(server.AnswerTime):
	}
	p.share.leave(p)
}
