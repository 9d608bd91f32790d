package pool

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// fullTime is for how long a server that had no connection for us is not asked for one.
const fullTime = time.Second

// A pooled source opens sessions of a db up to a cap. Beyond it sessions are shared.
type pooled struct {
	*Pool
	db    *sql.DB
	share *share
	dials sync.WaitGroup // see settle

	// Guarded by the pool's mu.
	full             time.Time   // when the server last had no connection for us
	again            *time.Timer // see lookAgainSoonLocked; nil: not yet needed
	maxOpen          int         // the db's MaxOpenConnections when again was last set
	waitingForOthers int         // of the opening, those that wait for a connection that others have
	openedAnother    time.Time   // when openAnother last did so
}

// NewPool returns a pool of connections of db.
func NewPool(db *sql.DB, config Config) *Pool {
	p := newPool(config, true)
	source := &pooled{Pool: p, db: db, share: shareOf(db)}
	source.share.join(source)
	p.source = source
	return p
}

func (p *pooled) goneLocked() error { return nil }

// refusalLocked: the db may have been changed so that no session may be taken.
func (p *pooled) refusalLocked() error {
	_, err := p.limitsLocked()
	return err
}

// growLocked: to share a session beats waiting for a connection. But where a caller
// that needs a session to itself can get one only when another is empty, nobody else joins
// those who share that.
func (p *pooled) growLocked(all survey) (growth, error) {
	limits, err := p.limitsLocked()
	if err != nil {
		return growNot, err
	}
	inUse := p.sharedLocked(nil)
	switch {
	case inUse < limits.shared && all.empty != nil:
		return growUseEmpty, nil
	case inUse < limits.shared && !(all.freeSoon && p.exhausted()) && p.takeRoomLocked(limits.all, true):
		return growByOne, nil
	case all.least != nil:
		return growShare, nil
	}
	if !all.freeSoon && p.opening == 0 {
		all.freeSoon = p.endWaitsLocked(inUse - limits.shared + 1)
	}
	if !all.freeSoon && p.opening == p.waitingForOthers {
		return growBlocked, nil
	}
	return growNot, nil
}

// growOwnLocked opens a session for a caller that is to have it alone. One whose chain
// has a lock on a session with others, all of whom may want the same, may have the last
// connection of the db: its code needs no other.
func (p *pooled) growOwnLocked(req Request, freeSoon bool) (growth, error) {
	limits, err := p.limitsLocked()
	if err != nil {
		return growNot, err
	}
	if limits.all > 0 && req.Home != nil && p.openingOwn == 0 && !slices.ContainsFunc(p.sessions, (*Session).ownLocked) {
		limits.all++
	}
	switch {
	case !(freeSoon && p.exhausted()) && p.takeRoomLocked(limits.all, true):
		return growByOne, nil
	case !freeSoon && p.opening == 0:
		return growBlocked, nil
	}
	return growNot, nil
}

func (p *pooled) capLocked() int {
	limits, _ := p.limitsLocked()
	return limits.shared
}

func (p *pooled) numbersLocked() string {
	limits, _ := p.limitsLocked()
	own := 0
	for _, s := range p.sessions {
		if s.ownLocked() {
			own++
		}
	}
	text := fmt.Sprintf("%d sessions, %d of them for transactions and terms; at most %d for other locks (to raise it: WithMaxSessions)", len(p.sessions)+p.opening, own, limits.shared)
	if stats := p.db.Stats(); stats.MaxOpenConnections > 0 {
		taken, _ := p.share.state()
		text += fmt.Sprintf("; %d of the db's %d connections in use, %d by Lockers, which leave one free (to raise it: SetMaxOpenConns)", stats.InUse, stats.MaxOpenConnections, taken)
	}
	return text
}

// takeRoomLocked makes room for one session more, if all pools of the db then have no more
// than limit. openUnder must follow. Otherwise the pool is woken when there is room again, if
// anybody waits for that.
func (p *pooled) takeRoomLocked(limit int, waits bool) bool {
	woken := p
	if !waits {
		woken = nil
	}
	if !p.mayOpenLocked() || !p.share.take(limit, woken) {
		return false
	}
	p.opening++
	return true
}

// giveRoom gives up the place of a session that has gone, or was not opened.
func (p *pooled) giveRoom() {
	for _, woken := range p.share.give() {
		woken.lookAgain()
	}
}

// awaitRoom has the other pools of the db give back what they do not use, if that is what a
// caller waits for.
func (p *pooled) awaitRoom() {
	p.mu.Lock()
	p.lookAgainSoonLocked()
	p.mu.Unlock()
	for _, other := range p.share.inTheWay(p) {
		other.sweep(0)
	}
}

func (p *pooled) wanted() bool { return p.share.wanted(p) }

// lookAgainSoonLocked has those who wait for a session look again after a while, if the db was
// changed in between, or if the server had no connection for one more: nothing else wakes
// them then. p.mu must be held.
func (p *pooled) lookAgainSoonLocked() {
	if p.closing.Err() != nil {
		return
	}
	p.maxOpen = p.db.Stats().MaxOpenConnections
	if p.again == nil {
		p.again = time.AfterFunc(fullTime, p.tick)
	} else {
		p.again.Reset(fullTime)
	}
}

func (p *pooled) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.ContainsFunc(p.waiters, forAny) {
		return
	}
	if p.maxOpen != p.db.Stats().MaxOpenConnections || !p.full.IsZero() {
		p.full = time.Time{}
		p.wakeWaitersLocked(forAny)
	}
	p.lookAgainSoonLocked()
}

func (p *pooled) lookAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeWaitersLocked(forAny)
}

// sharedLocked is how many sessions but one are in use, opened, or given back, that count towards the cap: for
// locks whose code needs a connection beside them, and for a transaction that waits for its lock.
// p.mu must be held.
func (p *pooled) sharedLocked(but *Session) int {
	n := p.opening - p.openingOwn + p.parting
	for _, s := range p.sessions {
		switch {
		case s == but:
		case s.ownLocked():
			if s.state == waiting && !s.leads && len(s.holds) == 0 {
				n++
			}
		case s.state != idle || len(s.holds) > 0:
			n++
		}
	}
	return n
}

func (p *pooled) mayShareLocked(s *Session) bool {
	limits, err := p.limitsLocked()
	return err == nil && (len(s.holds) > 0 || p.sharedLocked(s) < limits.shared)
}

// drainsLocked: there is no room, and no session that another has alone, but for leaders'. It is
// the one with the fewest locks.
func (p *pooled) drainsLocked() (least *Session) {
	if p.openingOwn > 0 || !slices.ContainsFunc(p.waiters, func(k *waiter) bool { return k.own != nil && k.want == nil }) {
		return nil
	}
	limits, err := p.limitsLocked()
	if err != nil || limits.all == 0 {
		return nil
	}
	if taken, _ := p.share.state(); taken < limits.all {
		return nil
	}
	for _, s := range p.sessions {
		switch {
		case s.ownLocked() && !s.leads:
			return nil
		case !s.ownLocked() && (least == nil || len(s.holds) < len(least.holds)):
			least = s
		}
	}
	return least
}

// endWaitsLocked ends n waits that have a session without locks for themselves, and reports
// whether there were any. All sessions wait, and the cap, which has been lowered since they
// began, lets none be opened: somebody who asks for a free name would have to wait for the
// end of a slice. Who waited goes on by polling. p.mu must be held.
func (p *pooled) endWaitsLocked(n int) (any bool) {
	for _, s := range p.sessions {
		if n > 0 && s.state == waiting && len(s.holds) == 0 && !s.leads {
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
	limits, err := p.limitsLocked()
	if err != nil || p.sharedLocked(nil) >= limits.shared {
		return false
	}
	if slices.ContainsFunc(p.sessions, func(other *Session) bool {
		return other != s && (other.state == busy || other.state == idle && len(other.holds) == 0)
	}) {
		return false
	}
	if !p.takeRoomLocked(limits.all, false) {
		return false
	}
	p.openedAnother = time.Now() // a server that refuses is not asked all the time
	p.work.Go(func() {
		if s, err := p.openUnder(p.closing, func() {}, false, false); err == nil {
			p.Put(s)
		}
	})
	return true
}

// waitLocked keeps one session from waiting: the last of the cap, so that there is always
// one to try on. A leader has its session for as long as it stands, and a lock inside a
// transaction is waited for on the session that this has.
func (p *pooled) waitLocked(s *Session, _ int) time.Duration {
	if s != nil && (s.leads || s.owned) {
		return server.Slice
	}
	limits, err := p.limitsLocked()
	if err != nil || p.waitsLocked()+1 >= limits.shared {
		return 0
	}
	return server.Slice
}

// waitsLocked is how many sessions wait for locks, but for leaders', and for locks that are taken
// inside transactions.
func (p *pooled) waitsLocked() (n int) {
	for _, s := range p.sessions {
		if s.state == waiting && !s.leads && !s.owned {
			n++
		}
	}
	return n
}

func (p *pooled) spare() bool {
	stats := p.db.Stats()
	return stats.MaxOpenConnections == 0 || stats.InUse+1 < stats.MaxOpenConnections
}

func (p *pooled) inspect(ctx context.Context, _ *Session, ask func(*server.Conn) error) error {
	// A connection that had been lying idle may be dead, and a live one behind it.
	for stale := p.db.Stats().Idle; ; stale-- {
		broken, err := p.inspectBeside(ctx, ask)
		if !broken || stale <= 0 || ctx.Err() != nil {
			return err
		}
	}
}

func (p *pooled) inspectBeside(ctx context.Context, ask func(*server.Conn) error) (broken bool, err error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return false, p.noConnection(err, server.AnswerTime)
	}
	c := p.Use(conn, false)
	stop := context.AfterFunc(ctx, c.BreakOff)
	if err = c.IsPrimary(); err == nil {
		err = ask(c)
	}
	if !stop() || c.Broken() || c.ReadOnly() {
		_ = c.Discard()
		p.Observer.SessionDiscarded(err)
		return true, err
	}
	p.giveBack(c)
	return false, err
}
