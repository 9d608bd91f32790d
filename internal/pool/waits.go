package pool

import (
	"errors"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// Waits on a session that has locks, or that its owner uses, are shorter than
// server.Slice.
const (
	sliceHolding = time.Second
	sliceLent    = 50 * time.Millisecond
)

// BeginWait returns for how long the caller may block s, on which it has the
// turn, in a wait. Its chain holds mine locks on s, and so many other callers
// poll. 0: it may not, since another caller's release would have to wait; it
// has to poll. EndWait must follow a wait.
//
//   - A session without locks waits for a slice.
//   - A session that has locks of the chain alone waits for so short a time
//     that its silence is noticed in time.
//   - A session that the chain has alone does not wait while another call of
//     the chain, which may use no other session, waits for a turn there.
//   - The cap's last session never waits, so that there is always one to try
//     on.
//   - A lent session waits so briefly that its other callers hardly notice, and
//     not at all while one of them is there.
func (p *Pool) BeginWait(s *Session, mine, polling int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.status == closing || p.wantedLocked(s, urgent) || s.claim == untilEmpty && p.wantedLocked(s, poll) || len(s.holds) != mine {
		return 0
	}
	longest := p.mayWaitLocked(s, polling)
	if longest == 0 {
		return 0
	}
	if len(s.holds) > 0 {
		longest = min(longest, sliceHolding, s.Interval()/2)
	}
	s.status = waiting
	// The callers that wait for a turn on s had better choose again.
	p.wakeWaitersLocked(func(k *waiter) bool { return k.want == s })
	p.wakeIfNoneIsFreeSoonLocked()
	return longest
}

// mayWaitLocked returns for how long a wait may block s at most, while so many
// callers poll; 0: it may not.
func (p *Pool) mayWaitLocked(s *Session, polling int) time.Duration {
	switch {
	case p.lent != nil && (len(p.waiters) > 0 || polling > 0):
		return 0
	case p.lent != nil:
		return sliceLent
	case s.waitsFreely():
		return server.Slice
	}
	limits, err := p.limitsLocked()
	if err != nil || p.blockedLocked()+1 >= limits.shared {
		return 0
	}
	return server.Slice
}

// waitsFreely reports whether a wait on s does not count towards the cap: that
// of a leader, and one on the session of a transaction.
func (s *Session) waitsFreely() bool { return s.leads || s.claim == untilEmpty }

// blockedLocked is how many waits count towards the cap.
func (p *Pool) blockedLocked() int {
	return p.countLocked(func(s *Session) bool { return s.status == waiting && !s.waitsFreely() })
}

// endWaitsLocked ends waits that have a session without locks for themselves,
// and reports whether there were any. It is for a pool whose sessions all wait,
// and whose cap has been lowered since. A caller that asks for a free name
// would have to wait for the end of a slice. The callers whose waits end poll.
func (p *Pool) endWaitsLocked(limits limits) (any bool) {
	n := p.blockedLocked() + 1 - limits.shared
	for _, s := range p.sessions {
		if n > 0 && !s.leads && p.killWaitLocked(s) {
			n, any = n-1, true
		}
	}
	return any
}

// wakeIfNoneIsFreeSoonLocked is for callers that wait for a session that was to
// be free soon. If no session will be free soon any more, they choose again: a
// caller that tries once must not wait for the end of a wait or of a
// transaction.
func (p *Pool) wakeIfNoneIsFreeSoonLocked() {
	if len(p.waiters) == 0 {
		return
	}
	limits, err := p.limitsLocked()
	p.wakeWaitersLocked(func(k *waiter) bool {
		return k.want == nil && !k.exhausted && (err != nil || !slices.ContainsFunc(p.sessions, func(s *Session) bool {
			return p.chanceLocked(s, k.req, limits, nil) > later // a session does not drain for a caller that came before
		}))
	})
}

// EndWait reports that the wait on s is over. The caller still has the turn. If
// s was killed to end the wait, s is broken, even if the lock was granted at
// the same moment: no later statement reaches the server.
func (p *Pool) EndWait(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.status == waiting {
		s.status = busy
	}
	if s.killed {
		_ = s.MarkBroken(errWaitEnded)
	}
}

var errWaitEnded = errors.New("connection closed to end its wait")

// KillWait ends the wait on s by breaking its connection, if it has no lock and
// there can be another session. It does not wait for the end. The pool must not
// be closed.
func (p *Pool) KillWait(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killWaitLocked(s)
}

// killWaitLocked is KillWait, and reports whether the wait ends.
func (p *Pool) killWaitLocked(s *Session) bool {
	if s.status != waiting || len(s.holds) > 0 || s.Lent() {
		return false
	}
	s.killed = true
	if s.Conn.Kill() {
		p.work.Go(s.BreakOff)
	}
	return true
}
