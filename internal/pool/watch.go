package pool

import (
	"errors"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/server"
)

// The watch notices that a lock is lost. One goroutine a pool ticks while any
// lock is held, and asks nothing that could hang:
//
//   - It looks at the socket of every session with locks (probe). A session that the
//     server has closed, by KILL, shutdown or wait_timeout, shows at once. Where the
//     kernel tells of such an end (package hangup), the watch is woken for it, and may
//     tick slowly meanwhile: to wake up is most of what a tick costs.
//   - When a session's interval is over it has it prove its locks (prove), in a
//     goroutine beside it. A silent network, a lock that has gone from a living
//     session and a server that has turned read-only show there.
//   - It knows when a server must have given the locks of a silent session away
//     (overdue), and does not have to ask: this process may have been stopped, or its
//     machine suspended (noticeSuspension).
//
// Why the holder knows before the server gives its locks away: let the last proof
// have begun at 0, let the network fall silent after it, and call the interval K.
// The server hears nothing and frees the locks at its idle limit, 3K or later. The
// next proof is due at K. Unless the turn is taken it begins then, plus a tick,
// and fails K*3/4 later; if the turn is taken by a statement that began before K,
// that one fails no later than K*3/4 after K. Both are before 2K as long as a tick
// is less than K/4.
//
// A statement of the code under the lock, on a session that it shares (lent, or with a
// transaction), holds a proof up for as long as it runs. On a silent network the holder then
// learns of the loss when that statement ends, which may be after the server gave the lock
// away. What it does in the transaction is rolled back all the same.

// proofsAtOnce is how many locks one statement asks about, if maxAllowedPacket allows.
const proofsAtOnce = 64

// watchTick is how often the watch looks around, restTick how often at least if the
// kernel tells of every end of a session with locks.
const (
	watchTick = 25 * time.Millisecond
	restTick  = 250 * time.Millisecond
)

// startWatchLocked begins the watch if there is none. p.mu must be held.
func (p *Pool) startWatchLocked() {
	if p.watching {
		return
	}
	p.watching = true
	p.work.Go(p.watch)
}

func (p *Pool) watch() {
	tick := max(min(watchTick, p.KeepAlive/4), time.Millisecond)
	if p.Probe > 0 {
		tick = min(tick, p.Probe)
	}
	probed := clock.Now()
	for rest := tick; ; {
		hungUp := p.Hangups.Wait(rest)
		clock.NoticeSuspension()
		var held []*Session
		held, rest = p.holding(hungUp, tick)
		if len(held) == 0 {
			return
		}
		now := clock.Now()
		probe := len(hungUp) > 0 || p.Probe > 0 && now-probed > p.Probe-tick/2
		if probe {
			probed = now
		}
		for _, s := range held {
			p.attend(s, probe)
		}
	}
}

// holding returns the sessions with locks, and how long the watch may rest: no longer than
// a tick while one is to be looked at; else until the next proof is due, and for less than
// a quarter of an interval. If there is no session with locks the watch is over.
func (p *Pool) holding(hungUp []int32, tick time.Duration) (held []*Session, rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock.Now()
	rest = min(restTick, p.KeepAlive/4)
	for _, s := range p.sessions {
		if slices.Contains(hungUp, s.HangupID()) {
			s.hungUp = true
		}
		if len(s.holds) == 0 {
			continue
		}
		held = append(held, s)
		rest = min(rest, s.due-now)
		if s.idleLimit > 0 {
			rest = min(rest, s.idleLimit/3/4)
		}
		if p.needsProbeLocked(s) {
			rest = tick
		}
	}
	rest = max(rest, tick)
	p.watching, p.resting = len(held) > 0, rest > tick
	return held, rest
}

// needsProbeLocked reports whether the end of s would show by a probe alone, or has been told
// of: it may have been busy, or without a lock, when that was.
func (p *Pool) needsProbeLocked(s *Session) bool {
	return p.Probe > 0 && (s.HangupID() == 0 || s.hungUp)
}

// attend does what is to be done about s now, without waiting for anything.
func (p *Pool) attend(s *Session, probe bool) {
	p.mu.Lock()
	now := clock.Now()
	switch {
	case s.state == dead || len(s.holds) == 0:
	case !s.Shared() && s.idleLimit > 0 && now-s.AnsweredAt() >= s.idleLimit:
		p.work.Go(func() { p.markDead(s, errOverdue) })
	case now >= s.due && !s.proving:
		s.proving = true
		p.work.Go(func() { p.prove(s) })
	case !probe:
	case s.Shared():
		// Code under the lock may use the connection too, and Raw then waits for its
		// statement.
		if !s.probing && s.state == idle {
			s.probing = true
			p.work.Go(func() { p.probeShared(s) })
		}
	case s.state == idle: // a statement that runs is a probe by itself
		s.moveLocked(busy)
		p.mu.Unlock()
		p.probe(s)
		return
	}
	p.mu.Unlock()
}

var errOverdue = errors.New("no contact with the server for longer than the session's idle limit (was this process paused?)")

// probe looks at the socket of s, whose turn the watch has.
func (p *Pool) probe(s *Session) {
	if s.Probe() == server.Closed {
		_ = s.MarkBroken(server.ErrClosed)
		p.work.Go(func() { p.Put(s) }) // to close a connection can take time
		return
	}
	p.Put(s)
}

// probeShared looks at the socket of a session that others use too, without its turn.
func (p *Pool) probeShared(s *Session) {
	state := s.Probe()
	p.mu.Lock()
	s.probing = false
	if state == server.Occupied && s.hungUp {
		state = server.Closed // rows are open, so the driver cannot look, but the kernel has told
	}
	p.mu.Unlock()
	if cause := state.Cause(); cause != nil {
		p.markDead(s, cause)
	}
}

// prove has s prove that it holds every lock that it should. If it does not, the
// session is broken, and so are all its locks lost.
func (p *Pool) prove(s *Session) {
	defer func() {
		p.mu.Lock()
		s.proving = false
		p.mu.Unlock()
	}()
	if p.TakeUrgent(s) != nil {
		return
	}
	if p.proveAll(s) {
		p.Put(s)
	}
}

// proveAll is prove on a turn of its own. It returns false if it has lost the turn,
// with the session.
func (p *Pool) proveAll(s *Session) bool {
	begun := clock.Now()
	p.mu.Lock()
	holds := make([]Hold, 0, len(s.holds))
	for h := range s.holds {
		holds = append(holds, h)
	}
	p.mu.Unlock()

	next, proved := begun+s.Interval(), true
	most := proofsAtOnce
	for len(holds) > 0 {
		names, rest := p.stillHeld(s, holds, most)
		if len(names) == 0 {
			break
		}
		err := s.Prove(names)
		if server.IsTooLong(err) && len(names) > 1 {
			most = len(names) / 2 // nothing was sent: in pieces that fit
			continue
		}
		holds = rest
		if errors.Is(err, server.ErrOccupied) {
			next, proved = begun, false // a loss shows to whoever reads the rows, or when they are read
			break
		}
		if server.IsAnswer(err) && begun < p.lastChance(s) {
			// The session lives, and somebody has only kept it from answering: KILL QUERY, a
			// limit for statements. That may last, so it is asked again, but not for ever.
			next, proved = begun+s.Interval()/8, false
			break
		}
		if err != nil {
			_ = s.MarkBroken(err)
			return true
		}
		if p.Yield(s) != nil {
			return false
		}
	}
	p.mu.Lock()
	s.due = next
	if proved {
		s.proved = begun
	}
	s.setIdleLimitLocked()
	p.mu.Unlock()
	return true
}

// lastChance is when a proof has to begin at the latest that is to be over before the
// second interval since the last one is.
func (p *Pool) lastChance(s *Session) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.proved + s.Interval()*7/4
}

// stillHeld returns the names of the first holds that have not been released
// meanwhile, most at most, and the holds behind them.
func (p *Pool) stillHeld(s *Session, holds []Hold, most int) (names []string, rest []Hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, h := range holds {
		if len(names) == most {
			return names, holds[i:]
		}
		if _, ok := s.holds[h]; ok {
			names = append(names, h.Name())
		}
	}
	return names, nil
}
