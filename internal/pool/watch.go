package pool

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/server"
)

// The watch notices that a lock is lost. One goroutine a pool ticks while any
// lock is held. It sends nothing itself, so nothing can make it hang:
//
//   - It looks at the socket of every session with locks (probe). A session
//     that the server has closed, by KILL, shutdown or wait_timeout, shows at
//     once. If the kernel reports such an end (package hangup), that wakes the
//     watch. The watch may then tick slowly: waking up is most of the cost of a
//     tick.
//   - When a session's interval is over, the session proves its locks (prove),
//     in a goroutine of its own. The proof detects a silent network, a lock
//     that has gone from a living session, and a server that has turned
//     read-only.
//   - It detects without a statement that a server must have given the locks of
//     a silent session away (errOverdue): this process may have been stopped,
//     or its machine suspended.
//
// Why the holder is told before the server gives its locks away: let the last
// proof begin at 0, and the network fall silent after it. Call the interval K.
// The server receives nothing and frees the locks at its idle limit, at 3K or
// later. The next proof is due at K.
//
//   - If the turn is free, the proof begins within a tick and fails K*3/4
//     later.
//   - If a statement has the turn that began before K, that statement fails no
//     later than K*3/4 after K.
//
// Both are before 2K, since a tick is at most K/4. COMMIT and ROLLBACK may take
// longer, and also fail before the idle limit: see endTime in package server.
//
// A watch that rests is not woken if a session with a shorter K gets its first
// lock, or if the K of a session becomes shorter. K is at least a third of a
// second, or the keep-alive interval if that is less. A rest is shorter than
// both, so it ends before the proof is due.
//
// A statement of the code under the lock, on a session that it shares (lent, or
// with a transaction), delays a proof until the statement ends. So do its rows,
// until they are closed. On a silent network the holder is told at that end,
// which may be after the server gave the lock away. The server rolls back the
// work of the transaction all the same.

// proofsAtOnce is how many locks one statement asks about, if maxAllowedPacket
// allows that.
const proofsAtOnce = 64

// watchTick is how often the watch looks. If the kernel reports every end of a
// session with locks, it looks every restTick.
const (
	watchTick = 25 * time.Millisecond
	restTick  = 250 * time.Millisecond
)

// A pace says how often the watch looks.
type pace int

const (
	noWatch pace = iota // no lock is held
	ticking
	resting // for longer than a tick, since the kernel reports every end
)

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

// holding returns the sessions with locks, and how long the watch may rest. It
// rests for a tick while one of them needs a look. Otherwise it rests until the
// next proof is due, and for less than a quarter of an interval. If there is no
// session with locks the watch is over.
func (p *Pool) holding(hungUp []int32, tick time.Duration) (held []*Session, rest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock.Now()
	rest = restTick
	for _, s := range p.sessions {
		s.hungUp = s.hungUp || s.live() && slices.Contains(hungUp, s.HangupID())
		if len(s.holds) == 0 {
			continue
		}
		held = append(held, s)
		rest = min(rest, s.due-now)
		rest = min(rest, s.Interval()/4)
		if p.needsProbeLocked(s) {
			rest = tick
		}
	}
	switch rest = max(rest, tick); {
	case len(held) == 0:
		p.pace = noWatch
	case rest > tick:
		p.pace = resting
	default:
		p.pace = ticking
	}
	return held, rest
}

// needsProbeLocked reports whether only a probe shows the end of s. The kernel
// may have reported the end while s was busy, or without a lock. If a probe
// cannot show that the server has closed the connection either, it shows an end
// by the driver, which can wait for the end of a rest. The owner's Close of a
// lent connection shows, whatever its driver.
func (p *Pool) needsProbeLocked(s *Session) bool {
	return p.Probe > 0 && (s.HangupID() == 0 || s.hungUp) && (!s.Unwatched() || s.Lent())
}

// attend begins the proof or the probe that s needs now. It waits for nothing.
func (p *Pool) attend(s *Session, probe bool) {
	p.mu.Lock()
	now, hungUp := clock.Now(), s.hungUp
	switch {
	case s.status == closing || len(s.holds) == 0:
	case !s.UsedByCode() && s.isOverdue(now):
		p.work.Go(func() { p.discard(s, errOverdue, nil) })
	case s.checking:
	case now >= s.due:
		p.checkLocked(s, func() { p.prove(s) })
	case !probe || s.status != idle: // a statement that runs is a probe by itself
	case s.UsedByCode():
		// Code under the lock may use the connection too, and Raw waits for its
		// statement.
		p.checkLocked(s, func() {
			if cause := probeFor(s, hungUp); cause != nil {
				p.discard(s, cause, nil)
			}
		})
	default:
		s.status = busy
		p.mu.Unlock()
		if cause := probeFor(s, hungUp); cause != nil {
			_ = s.MarkBroken(cause)
			p.work.Go(func() { p.Put(s) }) // to close a connection can take time
			return
		}
		p.Put(s)
		return
	}
	p.mu.Unlock()
}

// checkLocked runs check, a proof or a probe of s, in a goroutine.
func (p *Pool) checkLocked(s *Session, check func()) {
	s.checking = true
	p.work.Go(func() {
		check()
		p.mu.Lock()
		defer p.mu.Unlock()
		s.checking = false
	})
}

func (s *Session) isOverdue(now time.Duration) bool {
	limit := s.IdleLimit()
	return limit > 0 && now-s.AnsweredAt() >= limit
}

var errOverdue = errors.New("no contact with the server for longer than the session's idle limit (was this process paused?)")

// probeFor probes the socket of s, and returns why s is lost, or nil if it is
// not. The watch has the turn, unless code of the user's also uses s. hungUp
// says that the kernel has reported the end.
func probeFor(s *Session, hungUp bool) error {
	state := s.Probe()
	if state == server.Occupied && hungUp {
		state = server.Closed // rows are open, so the driver cannot look
	}
	return state.Cause()
}

// prove asks s for a proof that it holds every lock that it should. If it does
// not the session is broken, and all its locks are lost.
func (p *Pool) prove(s *Session) {
	if p.TakeUrgent(s) != nil {
		return
	}
	begun := clock.Now()
	p.mu.Lock()
	holds, hungUp := slices.Collect(maps.Keys(s.holds)), s.hungUp
	lastChance := s.proofSent + s.Interval()*7/4 // to begin a proof that ends within two intervals of the last one
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
		if errors.Is(err, server.ErrOccupied) && hungUp {
			err = server.ErrClosed // as probeFor says, but no probe precedes a proof that is due
		}
		switch {
		case errors.Is(err, server.ErrOccupied): // at each tick: other rows may be opened right after these
			next, proved, holds = begun, false, nil
		case server.IsAnswer(err) && begun < lastChance:
			// The session is alive, and a KILL QUERY or a limit for statements has ended
			// the proof. That may last, so the proof is repeated, but not indefinitely.
			next, proved, holds = begun+s.Interval()/8, false, nil
		case err != nil:
			_ = s.MarkBroken(err)
			p.Put(s)
			return
		case p.Yield(s) != nil:
			return // the session has gone
		}
	}
	p.mu.Lock()
	s.due = next
	if proved {
		s.proofSent = begun
	}
	p.mu.Unlock()
	p.Put(s)
}

// stillHeld returns the names of the first holds that have not been released
// since, most at most, and the holds after them.
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
