package pool

import (
	"context"
	"database/sql"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A lent source is the one connection that New was given. It is never replaced, its owner
// may use it too, and Close leaves it open.
type lent struct {
	pool    *Pool
	session *Session
}

// NewLent returns a pool whose one session is conn. Close leaves conn open.
func NewLent(conn *sql.Conn, config Config) *Pool {
	p := newPool(config, false)
	s := newSession(p.Use(conn, true))
	p.sessions = []*Session{s}
	p.source = &lent{pool: p, session: s}
	return p
}

func (l *lent) refusalLocked() error { return l.goneLocked() }

func (l *lent) goneLocked() error {
	if l.session.state != dead {
		return nil
	}
	return fault.Because(fault.ErrUnavailable, "the connection given to New is closed; make a new Locker", l.session.deathCause)
}

// growLocked: where one call chain has the session alone, nothing will be free before that has
// ended.
func (l *lent) growLocked(all survey) (growth, error) {
	switch {
	case all.empty != nil:
		return growUseEmpty, nil
	case all.least != nil:
		return growShare, nil
	case !all.freeSoon && l.session.owned:
		return growBlocked, nil
	}
	return growNot, nil
}

func (l *lent) growOwnLocked(_ Request, freeSoon bool) (growth, error) {
	if !freeSoon {
		return growBlocked, nil
	}
	return growNot, nil
}

func (l *lent) drainsLocked() *Session { return nil }

func (l *lent) mayShareLocked(*Session) bool { return true }

func (l *lent) capLocked() int { return 1 }

func (l *lent) numbersLocked() string {
	return "the connection given to New has one session, and a transaction, a term, or a call for a slot is using it; use Open for more"
}

func (l *lent) lead() error { return nil }
func (l *lent) resign()     {}
func (l *lent) awaitRoom()  {}
func (l *lent) giveRoom()   {}

func (l *lent) wanted() bool { return false }

func (l *lent) open(Request) (*Session, error) { panic("there is only the session that was lent") }

func (l *lent) openAnother(*Session) bool { return false }

// waitLocked keeps waits so short that the others hardly notice, and refuses them while one
// of the others is there.
func (l *lent) waitLocked(_ *Session, polling int) time.Duration {
	if len(l.pool.waiters) > 0 || polling > 0 {
		return 0
	}
	return sliceLent
}

func (l *lent) spare() bool { return false }

func (l *lent) settle() {}

func (l *lent) inspect(ctx context.Context, home *Session, ask func(*server.Conn) error) error {
	s, err := l.pool.Take(Request{Home: home, Caller: inspector{ctx}})
	switch {
	case err != nil && ctx.Err() != nil:
		return fault.Because(fault.ErrUnavailable, "the connection given to New stayed busy until the deadline", nil)
	case err != nil:
		return err
	}
	defer l.pool.Put(s)
	return ask(s.Conn)
}

// An inspector waits for a turn on the lent session.
type inspector struct{ ctx context.Context }

func (i inspector) Context() context.Context { return i.ctx }
func (i inspector) Queued()                  {}
func (i inspector) PoolExhausted()           {}
