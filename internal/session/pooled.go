package session

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"
)

// fullTime is for how long a server that had no connection for us is not asked for one.
const fullTime = time.Second

// A pooled source opens sessions of a db up to a cap. Beyond it sessions are shared.
type pooled struct {
	*Pool
	db    *sql.DB
	dials sync.WaitGroup // see settle

	// Guarded by the pool's mu.
	full             time.Time // when the server last had no connection for us
	waitingForOthers int       // of the opening, those that wait for a connection that others have
	openedAnother    time.Time // when openAnother last did so
}

// NewPool returns a pool of connections of db.
func NewPool(db *sql.DB, config Config) *Pool {
	config.setUp()
	config.spell = true
	p := newPool(config)
	p.source = &pooled{Pool: p, db: db}
	return p
}

func (p *pooled) goneLocked() error { return nil }

// ownLocked leaves one session to all others, unless there is only one.
func (p *pooled) ownLocked() int {
	limit, _ := p.limitLocked()
	return max(1, limit-1)
}

// refusalLocked: the db may have been changed so that no session may be taken.
func (p *pooled) refusalLocked() error {
	_, err := p.limitLocked()
	return err
}

// growLocked opens a session up to the cap, unless one that is idle has no locks. To share a
// session beats waiting for a connection.
func (p *pooled) growLocked(least *Session, freeSoon bool) (growth, error) {
	limit, err := p.limitLocked()
	if err != nil {
		return growNot, err
	}
	if (least == nil || len(least.holds) > 0) && p.countLocked() < limit && !(freeSoon && p.exhausted()) {
		return growByOne, nil
	}
	if least == nil && !freeSoon && p.opening == 0 {
		freeSoon = p.endWaitsLocked(p.countLocked() - limit + 1)
	}
	if !freeSoon && p.opening == p.waitingForOthers {
		return growBlocked, nil
	}
	return growNot, nil
}

// countLocked is how many connections the pool has, or is about to have, or has not quite let
// go of. p.mu must be held.
func (p *pooled) countLocked() int { return len(p.sessions) + p.opening + p.parting }

// endWaitsLocked ends n waits that have a session without locks for themselves, and reports
// whether there were any. All sessions wait, and the cap, which has been lowered since they
// began, lets none be opened: somebody who asks for a free name would have to wait for the
// end of a slice. Who waited goes on by polling. p.mu must be held.
func (p *pooled) endWaitsLocked(n int) (any bool) {
	for _, s := range p.sessions {
		if n > 0 && s.state == waiting && len(s.holds) == 0 {
			p.Kill(s)
			n, any = n-1, true
			p.full = time.Time{} // that gives the server a connection back
		}
	}
	return any
}

// openAnother opens no session where another is about to be idle: one on which nobody waits is
// busy for a moment only.
func (p *pooled) openAnother(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil || p.opening > 0 || time.Since(p.openedAnother) < time.Second || p.exhausted() {
		return false
	}
	if limit, err := p.limitLocked(); err != nil || p.countLocked() >= limit {
		return false
	}
	if slices.ContainsFunc(p.sessions, func(other *Session) bool {
		return other != s && (other.state == busy || other.state == idle && len(other.holds) == 0)
	}) {
		return false
	}
	p.opening++
	p.openedAnother = time.Now() // a server that refuses is not asked all the time
	p.work.Go(func() {
		if s, err := p.openUnder(p.closing, func() {}, false); err == nil {
			p.Put(s)
		}
	})
	return true
}

// waitLocked keeps one session from waiting: the last of the cap, so that there is always
// one to try on. What one call chain has alone is none for the others anyway.
func (p *pooled) waitLocked(s *Session, _ int) time.Duration {
	if s != nil && s.owned > 0 {
		return slice
	}
	most, err := p.limitLocked()
	if err != nil || p.takenLocked()+1 >= most {
		return 0
	}
	return slice
}

// takenLocked is how many sessions are of no use to most callers: they wait, or are one call chain's own.
func (p *pooled) takenLocked() (n int) {
	for _, s := range p.sessions {
		if s.state == waiting || s.owned > 0 {
			n++
		}
	}
	return n
}

func (p *pooled) roomyLocked() bool {
	most, err := p.limitLocked()
	return err == nil && 2*p.takenLocked() < most
}

func (p *pooled) spare() bool {
	stats := p.db.Stats()
	return stats.MaxOpenConnections == 0 || stats.InUse+1 < stats.MaxOpenConnections
}

func (p *pooled) inspect(ctx context.Context, _ *Session, ask func(*Session) error) error {
	// A connection that had been lying idle may be dead, and a live one behind it.
	for stale := p.db.Stats().Idle; ; stale-- {
		broken, err := p.inspectBeside(ctx, ask)
		if !broken || stale <= 0 || ctx.Err() != nil {
			return err
		}
	}
}

func (p *pooled) inspectBeside(ctx context.Context, ask func(*Session) error) (broken bool, err error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return false, noConnection(err, answerTime)
	}
	s := newSession(conn, &p.Config)
	stop := context.AfterFunc(ctx, s.breakOff)
	if err = s.isPrimary(); err == nil {
		err = ask(s)
	}
	if !stop() || s.Broken() || s.readOnly {
		_ = s.discard()
		p.Observer.SessionDiscarded(err)
		return true, err
	}
	s.giveBack()
	return false, err
}
