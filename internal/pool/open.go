package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A limits says how many sessions the pool may have.
type limits struct {
	all    int // of all pools of the db together; 0: no limit
	shared int // for locks whose code needs a connection beside them
}

// limitsLocked returns what holds now: the db may be changed at any time. p.mu must be
// held.
func (p *pooled) limitsLocked() (limits, error) {
	open := p.db.Stats().MaxOpenConnections
	shared, err := Limit(p.MaxSessions, open)
	l := limits{shared: shared}
	if open > 0 {
		_, leaders := p.share.state()
		l.all = open - 1
		l.shared = min(l.shared, max(1, l.all-leaders))
	}
	return l, err
}

// mayOpenLocked reports whether the server may have a connection for one more. p.mu must be
// held.
func (p *pooled) mayOpenLocked() bool {
	return len(p.sessions) == 0 || p.full.IsZero() || time.Since(p.full) >= fullTime
}

// shares reports whether there are sessions to share after the server had no connection
// for one more, and has that remembered.
func (p *pooled) shares() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) == 0 {
		return false
	}
	p.full = time.Now()
	return true
}

// Limit returns how many sessions a db with that many connections (0: no limit)
// is good for, where wanted (0: not said) were asked for.
func Limit(wanted, maxOpen int) (int, error) {
	const unlimited = 16
	switch {
	case maxOpen == 1:
		return 0, fault.Because(fault.ErrUnsupported, "the db allows a single connection (SetMaxOpenConns(1)), so code under a lock could never query it: "+
			"allow more, give the Locker a db of its own, or use namedlock.New with a *sql.Conn", nil)
	case wanted == 0 && maxOpen == 0:
		return unlimited, nil
	case wanted == 0:
		wanted = max(2, maxOpen/2)
	}
	if maxOpen > 0 {
		wanted = min(wanted, maxOpen-1)
	}
	return wanted, nil
}

// Lead counts a call that has a session for as long as it lasts. Unless Lead returns an error,
// Resign must follow.
func (p *pooled) lead() error {
	most := 0
	open := p.db.Stats().MaxOpenConnections
	if open > 0 {
		most = max(open-2, 0)
	}
	if open > 0 && most == 0 {
		return tooManyLeaders(1, open)
	}
	if leaders, ok := p.share.lead(most); !ok {
		return tooManyLeaders(leaders+1, open)
	}
	return nil
}

func (p *pooled) resign() { p.share.resign() }

func tooManyLeaders(leaders, open int) error {
	return fault.Because(fault.ErrUnsupported, fmt.Sprintf("the db allows %d connections (SetMaxOpenConns), too few for %d Leads: each Lead needs one, "+
		"other locks one, and the code under them one; allow at least %d", open, leaders, leaders+2), nil)
}

// exhausted reports whether the db has no connection to give, so that to borrow
// one is to wait for others.
func (p *pooled) exhausted() bool {
	stats := p.db.Stats()
	return stats.MaxOpenConnections > 0 && stats.InUse >= stats.MaxOpenConnections
}

// open opens a session, and has the caller told where others have all connections. Where
// the server has none left, the caller had better share a session that there is.
func (p *pooled) open(req Request) (*Session, error) {
	s, err := p.openUnder(req.Caller.Context(), req.Caller.PoolExhausted, req.Own, req.Lead)
	if server.IsFull(err) && p.shares() {
		return nil, errShare
	}
	return s, err
}

var errShare = errors.New("the server has no connection left; share a session")

func (p *pooled) openUnder(ctx context.Context, exhausted func(), own, lead bool) (*Session, error) {
	begun := time.Now()
	s, err := p.connect(ctx, exhausted)
	p.Observer.SessionOpened(time.Since(begun), err)
	p.mu.Lock()
	p.opening--
	if own {
		p.openingOwn--
	}
	closed := p.closing.Err() != nil
	switch {
	case err != nil:
		p.wakeWaitersLocked(forAny) // there is room again
	case !closed:
		s.moveLocked(busy)
		s.reserved, s.leads = own, lead
		p.sessions = append(p.sessions, s)
	}
	p.mu.Unlock()
	if err != nil {
		p.giveRoom()
	}
	if err == nil && closed { // after OpenAnother: Close has not seen it
		p.giveBack(s.Conn)
		p.giveRoom()
		return nil, errGivenBack
	}
	return s, err
}

// connect borrows a connection and greets it. Where the greeting fails on one
// that had been lying idle in the db, there may be a live one behind it.
func (p *pooled) connect(ctx context.Context, exhausted func()) (*Session, error) {
	stale := p.stale()
	left := server.AnswerTime // for all of it but the wait for others
	for {
		conn, took, err := p.borrow(ctx, left, exhausted)
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
			return newSession(c), nil
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
		// A connection that had been lying idle may be dead, or lead to a server that was demoted.
		if !c.Broken() && !c.ReadOnly() || stale == 0 || left <= 0 {
			return nil, err
		}
		stale--
	}
}

// stale is how many connections may come that were open before: those that lie idle in the db, and those on their
// way there, as all idle sessions are when one of them has failed. The latter are counted first, to miss none.
func (p *pooled) stale() int {
	p.mu.Lock()
	parting := p.parting
	p.mu.Unlock()
	return parting + p.db.Stats().Idle
}

// borrow takes a connection from the db, and says how long that took. To connect is
// bounded by limit; to wait for one that others have is not, nor does it count: that
// is for the callers to end, who are told by exhausted.
func (p *pooled) borrow(ctx context.Context, limit time.Duration, exhausted func()) (conn *sql.Conn, took time.Duration, err error) {
	for {
		begun := time.Now()
		limit := limit
		others := p.exhausted()
		if others {
			p.waitForOthers(+1)
			exhausted()
			limit = math.MaxInt64
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		conn, err = p.dial(bounded)
		late := bounded.Err() != nil
		cancel()
		if others {
			p.waitForOthers(-1)
		} else {
			took = time.Since(begun)
		}
		switch {
		case err == nil:
			return conn, took, nil
		case ctx.Err() != nil:
			return nil, took, ctx.Err()
		case late && p.exhausted():
			took = 0 // others took the last one meanwhile: that was a wait for them
			continue
		}
		return nil, took, p.noConnection(err, limit)
	}
}

// dial takes a connection from the db. It returns when ctx ends, also where the dialer,
// which is code of the user's, does not: then a connection that comes later goes back to
// the db, and Close alone waits for that.
func (p *pooled) dial(ctx context.Context) (*sql.Conn, error) {
	type dialed struct {
		conn *sql.Conn
		err  error
	}
	result := make(chan dialed)
	p.dials.Go(func() {
		conn, err := p.db.Conn(ctx)
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
		return nil, ctx.Err()
	}
}

// settle waits for the end of all dials, but not for longer than a dialer takes that
// does as it is told.
func (p *pooled) settle() {
	ended := make(chan struct{})
	go func() {
		p.dials.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(server.AnswerTime):
	}
	p.share.leave(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.again != nil {
		p.again.Stop()
	}
}

// noConnection is the error where the db gave no connection within limit. A db whose
// connections are all in use is not a server that cannot be asked.
func (p *pooled) noConnection(err error, limit time.Duration) error {
	if stats := p.db.Stats(); server.IsContext(err) && p.exhausted() {
		return fault.Because(fault.ErrNoSession, fmt.Sprintf("no connection of the db was free within %v: %d of %d are in use; raise SetMaxOpenConns or give the Locker its own db",
			limit.Round(time.Millisecond), stats.InUse, stats.MaxOpenConnections), nil)
	}
	if server.IsContext(err) { // of ours, which nobody else should see
		err = fmt.Errorf("%w within %v", server.ErrSilent, limit.Round(time.Millisecond))
	}
	return fault.Because(fault.ErrUnavailable, "no connection to the server", err)
}

// waitForOthers counts one more, or less, who waits for a connection that others have.
// Those who wait for a session have to know: it may be their wait, too.
func (p *pooled) waitForOthers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waitingForOthers += n
	if n > 0 {
		p.wakeWaitersLocked(forAny)
	}
}
