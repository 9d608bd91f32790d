package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

// staleTime is how long a greeting may take on a connection that may have been
// idle in the db for too long.
const staleTime = time.Second

// takeRoomLocked makes room for one session more, which open must follow. It
// returns nil if all pools of the db would then have more than limit, or if the
// server had no connection for one more a moment ago. waiting is woken when
// there is room again; nil: no pool is.
func (p *Pool) takeRoomLocked(limit int, waiting *Pool) *Session {
	if p.fullLocked() || !p.share.take(limit, waiting) {
		return nil
	}
	s := &Session{ended: make(chan struct{})}
	p.sessions = append(p.sessions, s)
	return s
}

// openRoomLocked makes room for a session that serves the request, nil if there
// is none: see takeRoomLocked.
//
// If the lock of a chain is on a session with locks of others, all those chains
// may want a session of their own. So one of them may have the last connection
// of the db: its code needs no other.
func (p *Pool) openRoomLocked(req Request, limits limits) *Session {
	own := func(s *Session) bool { return s.status != closing && s.exclusive() }
	switch {
	case !req.Own && p.towardsCapLocked(nil) >= limits.shared:
		return nil
	case req.Own && req.Home != nil && limits.all > 0 && !slices.ContainsFunc(p.sessions, own):
		limits.all++
	}
	return p.takeRoomLocked(limits.all, p)
}

// open gives s, which is opening, its connection, and the caller the turn on
// it. exhausted is called if all connections of the db are in use.
func (p *Pool) open(s *Session, ctx context.Context, exhausted func()) error {
	begun := time.Now()
	c, err := p.connect(ctx, func(blocked bool) {
		p.mu.Lock()
		if s.blocked = blocked; blocked {
			p.wakeWaitersLocked(forAny) // they may be waiting for the same
		}
		p.mu.Unlock()
		if blocked {
			exhausted()
		}
	})
	p.Observer.SessionOpened(time.Since(begun), err)
	if err != nil {
		p.remove(s)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Conn, s.status = c, busy
	return nil
}

// connect borrows a connection and greets it. If the greeting fails on a
// connection that was idle in the db, another one may be alive.
func (p *Pool) connect(ctx context.Context, waits func(bool)) (*server.Conn, error) {
	stale := p.stale()
	left := server.AnswerTime // for all of it, not counting waits for a connection in use
	for {
		conn, took, err := p.borrow(ctx, left, waits)
		left -= took
		if err != nil {
			return nil, err
		}
		bound := left
		if stale > 0 {
			bound = min(left, staleTime)
		}
		c := p.Use(conn, false)
		stop := context.AfterFunc(ctx, c.BreakOff)
		begun := time.Now()
		err = c.Greet(bound)
		left -= time.Since(begun)
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err == nil {
			return c, nil
		}
		if server.Prohibits(err) {
			p.giveBack(c) // there is nothing wrong with the connection
			return nil, err
		}
		_ = c.Discard()
		p.Observer.SessionDiscarded(err)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// A connection that was idle may be dead, or lead to a server that was
		// demoted.
		if !c.Broken() && !errors.Is(err, fault.ErrReadOnly) || stale == 0 || left <= 0 {
			return nil, err
		}
		stale--
	}
}

// stale is how many of the next connections may have been open before. These
// are idle in the db, or are being given back, as all idle sessions are when
// one has failed. The latter are counted first, so that none is missed.
func (p *Pool) stale() int {
	p.mu.Lock()
	parting := p.countLocked(func(s *Session) bool { return s.status == closing })
	p.mu.Unlock()
	return parting + p.db.Stats().Idle
}

// borrow takes a connection from the db, and reports how long that took. limit
// bounds the time to connect. A wait for a connection while all are in use is
// neither bounded nor counted: the callers end it, and waits is called around
// it.
func (p *Pool) borrow(ctx context.Context, limit time.Duration, waits func(bool)) (conn *sql.Conn, took time.Duration, err error) {
	for {
		begun := time.Now()
		limit := limit
		others := p.exhausted()
		if others {
			waits(true)
			limit = math.MaxInt64
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		conn, err = p.dial(bounded)
		late := bounded.Err() != nil
		cancel()
		if others {
			waits(false)
		} else {
			took = time.Since(begun)
		}
		switch {
		case err == nil:
			return conn, took, nil
		case ctx.Err() != nil:
			return nil, took, ctx.Err()
		case late && server.IsContext(err) && p.exhausted():
			took = 0 // the last one was taken in the meantime: that was a wait for it
			continue
		}
		return nil, took, p.noConnection(err, limit)
	}
}

// stuckTime is for how long dial waits for a dialer that ignores its context.
const stuckTime = time.Second

// dial takes a connection from the db. It returns when ctx ends, even if the
// user's dialer does not. A connection that is established later goes back to
// the db, and only Close waits for that.
func (p *Pool) dial(ctx context.Context) (*sql.Conn, error) {
	type dialed struct {
		conn *sql.Conn
		err  error
	}
	result, ended := make(chan dialed), make(chan struct{})
	p.calls.Go(func() {
		defer close(ended)
		conn, err := p.borrowFromDB(ctx)
		select {
		case result <- dialed{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	})
	select {
	case r := <-result:
		return r.conn, r.err
	case <-ctx.Done():
	}
	// The db counts a connection as in use from the dial on. If all are in use,
	// that may be by this dial, which has waited for the server alone.
	if p.exhausted() {
		select {
		case <-ended: // at once, unless the dialer ignores ctx
		case <-time.After(stuckTime):
			return nil, server.ErrSilent
		}
	}
	return nil, ctx.Err()
}

// borrowFromDB takes a connection from the db. The connector, and the functions
// that it calls, may be code of the user. In this goroutine no caller could
// recover their panic.
func (p *Pool) borrowFromDB(ctx context.Context) (conn *sql.Conn, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the db's connector panicked: %v", reason)
		}
	}()
	return p.db.Conn(ctx)
}

// noConnection is the error where the db gave no connection within limit. A db
// whose connections are all in use is not a server that cannot be asked. A db
// that its owner has closed never gives one again.
func (p *Pool) noConnection(err error, limit time.Duration) error {
	if closed := closedError(p.db); closed != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.gone = fault.Because(fault.ErrUnavailable, "the db given to Open is closed; make a new Locker", closed)
		return p.gone
	}
	if stats := p.db.Stats(); server.IsContext(err) && p.exhausted() {
		return fault.Because(fault.ErrNoSession, fmt.Sprintf("no connection of the db was free within %v: %d of %d are in use; raise SetMaxOpenConns or give the Locker its own db",
			limit.Round(time.Millisecond), stats.InUse, stats.MaxOpenConnections), nil)
	}
	if server.IsContext(err) { // our own context, which no caller should see
		err = fmt.Errorf("%w within %v", server.ErrSilent, limit.Round(time.Millisecond))
	}
	return fault.Because(fault.ErrUnavailable, "no connection to the server", err)
}

// closedError returns the error of a db that is closed, nil if it is open. The
// db checks that before it finds that the context has ended.
func closedError(db *sql.DB) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := db.Conn(ended); !server.IsContext(err) {
		return err
	}
	return nil
}
