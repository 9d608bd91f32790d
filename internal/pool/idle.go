package pool

import (
	"errors"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

var errGivenBack = errors.New("session given back")

// armJanitorLocked has idle sessions given back after d, if they are still idle. p.mu must be held.
func (p *Pool) armJanitorLocked(d time.Duration) {
	if p.janitor != nil || p.closing.Err() != nil {
		return
	}
	p.work.Add(1)
	if p.source.wanted() {
		d = 0
	}
	p.janitor = time.AfterFunc(d, func() {
		defer p.work.Done()
		p.mu.Lock()
		p.janitor = nil
		p.mu.Unlock()
		age := idleTime
		if p.source.wanted() {
			age = 0
		}
		p.sweep(age)
	})
}

// sweep gives back the sessions that have been idle for so long.
func (p *Pool) sweep(age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil { // another pool of the db asks; Close gives everything back
		return
	}
	now := time.Now()
	next := time.Duration(0) // until the youngest of those that stay is due
	p.sessions = slices.DeleteFunc(p.sessions, func(s *Session) bool {
		if s.state != idle || len(s.holds) > 0 || s.Lent() {
			return false
		}
		if left := age - now.Sub(s.idleSince); left > 0 {
			next = max(next, left)
			return false
		}
		p.partLocked(s)
		return true
	})
	if next > 0 {
		p.armJanitorLocked(next)
	}
}

// partLocked gives s back. The caller takes it out of p.sessions. p.mu must be held: Close
// may begin at once, where another pool asks.
func (p *Pool) partLocked(s *Session) {
	s.dieLocked(errGivenBack)
	p.parting++
	p.work.Go(func() { // on a silent network it takes time
		defer p.parted()
		p.giveBack(s.Conn)
	})
}

// parted makes room for a session in the place of one that has been given back or closed.
func (p *Pool) parted() {
	p.mu.Lock()
	p.parting--
	p.wakeWaitersLocked(forAny)
	p.mu.Unlock()
	p.source.giveRoom()
}

// giveBack returns a connection, which holds no lock, to its db as it came.
func (p *Pool) giveBack(c *server.Conn) {
	if err := c.GiveBack(); err != nil {
		p.Observer.SessionDiscarded(err)
	}
}

// Close gives all sessions back. Nobody may have a turn or want one.
func (p *Pool) Close() {
	p.mu.Lock()
	p.close()
	if p.janitor != nil && p.janitor.Stop() {
		p.work.Done()
	}
	sessions := p.sessions
	p.sessions = nil
	for _, s := range sessions {
		s.dieLocked(errGivenBack) // for a GiveUp that is under way there is nothing left to do
	}
	p.Hangups.Wake()
	p.mu.Unlock()
	for _, s := range sessions {
		p.work.Go(func() {
			defer p.source.giveRoom()
			if !s.Lent() {
				p.giveBack(s.Conn)
			} else if err := s.Leave(); err != nil {
				p.Observer.SessionDiscarded(err)
			}
		})
	}
	p.work.Wait()
	p.source.settle()
}
