package pool

import (
	"slices"
	"time"
)

// Wait asks for leave to block s, on which the caller has the turn, in a wait of a
// chain that holds so many locks on it, while so many others poll. It is refused where somebody else's release
// would have to wait for it. The answer is for how long at most; 0 is a refusal, and
// the caller has to poll. Waited must follow a wait.
//
//   - A session without locks waits for a slice.
//   - One whose locks are all the chain's own waits for so short that its
//     silence is noticed in time.
//   - One that the chain has alone does not wait while another call of the chain, which may go nowhere
//     else, waits for a turn there.
//   - The cap's last session never waits, so that there is always one to try on.
//   - A lent session waits so briefly that its other callers hardly notice, and
//     not at all while one of them is there.
func (p *Pool) Wait(s *Session, mine, polling int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.state == dead || p.isUrgentLocked(s) || s.owned && p.isWantedLocked(s) || len(s.holds) != mine {
		return 0
	}
	limit := p.source.waitLocked(s, polling)
	if limit == 0 {
		return 0
	}
	if len(s.holds) > 0 {
		limit = min(limit, sliceHolding, s.Interval()/2)
	}
	s.moveLocked(waiting)
	// Those who wait for a turn on s had better look again.
	p.wakeWaitersLocked(func(k *waiter) bool { return k.want == s })
	p.wakeIfNoneIsFreeSoonLocked()
	return limit
}

// wakeIfNoneIsFreeSoonLocked has those look again who wait for a turn on a session that was to be free soon, where
// none is any more: each waits, is one call chain's own or, for who wants it alone, has locks of others.
// Who tries once would wait for the end of all that otherwise. p.mu must be held.
func (p *Pool) wakeIfNoneIsFreeSoonLocked() {
	p.wakeWaitersLocked(func(k *waiter) bool {
		return k.want == nil && !k.exhausted && !slices.ContainsFunc(p.sessions, func(s *Session) bool {
			return s.state != waiting && (k.own == nil && !s.ownLocked() || k.own != nil && s.ownableLocked(*k.own))
		})
	})
}

// A wait on a session that has locks, or that others use, is shorter than
// server.Slice.
const (
	sliceHolding = time.Second
	sliceLent    = 50 * time.Millisecond
)

// Waited says that the wait on s is over. The caller still has the turn.
func (p *Pool) Waited(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.state == waiting {
		s.moveLocked(busy)
	}
}

// Expendable reports whether s may be killed to end a wait on it: it holds
// nothing, and there can be another.
func (p *Pool) Expendable(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !s.Lent() && len(s.holds) == 0
}
