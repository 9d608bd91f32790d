package pool

import (
	"slices"
	"sort"
	"time"
)

// A waiter waits for a turn on a session.
type waiter struct {
	want      *Session // nil: on any that suits req
	req       Request
	since     time.Time // when its caller began to wait
	priority  priority
	turn      chan struct{} // closed when got is set, or when it is time to choose again
	got       *Session
	exhausted bool   // no session will be free before a connection of the db is
	limits    limits // that held when it chose; want is nil
}

// A priority says which waiter has the next turn on a session: see nextLocked.
type priority int

const (
	urgent priority = iota // a release, a proof: it must have this very session
	first                  // a first question: most locks are free
	poll                   // one question of many
)

// mostPassed is after how many first questions it is a poll's turn. Until then
// first questions go ahead of polls, however many poll, and no poll starves.
const mostPassed = 8

func forAny(k *waiter) bool { return k.want == nil }

// wantedLocked reports whether a caller of at least that priority waits for a
// turn on this very session.
func (p *Pool) wantedLocked(s *Session, least priority) bool {
	return slices.ContainsFunc(p.waiters, func(k *waiter) bool { return k.want == s && k.priority <= least })
}

// TakeUrgent waits for a turn on s, ahead of all callers that do not need this
// very session. It returns an error if the session has gone. It waits no longer
// than the statement that runs there may be silent.
func (p *Pool) TakeUrgent(s *Session) error {
	p.mu.Lock()
	switch s.status {
	case closing:
		defer p.mu.Unlock()
		return s.closedBy
	case idle:
		s.status = busy
		p.mu.Unlock()
		return nil
	}
	k := p.queueUrgentLocked(s)
	p.mu.Unlock()
	return awaitUrgent(k)
}

func (p *Pool) queueUrgentLocked(s *Session) *waiter {
	k := &waiter{want: s, since: time.Now(), priority: urgent, turn: make(chan struct{})}
	p.joinLocked(k)
	return k
}

// joinLocked adds k to the waiters, in the order in which their callers came.
func (p *Pool) joinLocked(k *waiter) {
	i := sort.Search(len(p.waiters), func(i int) bool { return p.waiters[i].since.After(k.since) })
	p.waiters = slices.Insert(p.waiters, i, k)
}

func awaitUrgent(k *waiter) error {
	<-k.turn
	if k.got == nil {
		return k.want.closedBy
	}
	return nil
}

// Yield lets all callers go first that must have this very session. The caller
// has the turn before and, if Yield returns nil, after.
func (p *Pool) Yield(s *Session) error {
	p.mu.Lock()
	if !p.wantedLocked(s, urgent) || s.Broken() {
		p.mu.Unlock()
		return nil
	}
	k := p.queueUrgentLocked(s)
	if s.claim == forTurn { // as it is to be when the turn comes back
		k.req = Request{Own: true, Lead: s.leads}
	}
	p.passLocked(s)
	p.mu.Unlock()
	return awaitUrgent(k)
}

// Put ends the caller's turn on s. If the session is broken it is discarded
// before Put returns, and every lock on it is lost.
func (p *Pool) Put(s *Session) {
	if s.Broken() {
		p.discard(s, s.BrokenBy(), nil)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passLocked(s)
}

// makeRoomEvery is how often, at most, a pool gives a session back that its own
// callers could use.
const makeRoomEvery = 100 * time.Millisecond

// passLocked hands the turn on s to the waiter that comes next, or leaves s
// idle. If another pool of the db waits for a connection, s may go back to the
// db instead. A pool whose own callers keep all its sessions busy would never
// leave it one otherwise. When the pool is closing, s goes back as soon as no
// waiter comes next.
func (p *Pool) passLocked(s *Session) {
	if s.status == closing {
		return
	}
	if s.claim == forTurn {
		s.claim = unclaimed
	}
	s.leads = s.leads && s.exclusive()
	next := p.nextLocked(s)
	empty := len(s.holds) == 0 && !s.Lent()
	switch {
	case empty && p.share.wanted(p) && !p.wantedLocked(s, poll) && (next < 0 || time.Since(p.madeRoom) >= makeRoomEvery):
		p.madeRoom = time.Now()
		p.giveBackLocked(s)
	case next >= 0:
		k := p.waiters[next]
		p.waiters = slices.Delete(p.waiters, next, next+1)
		switch k.priority {
		case first:
			p.passed++
		case poll:
			p.passed = 0
		}
		s.status = busy
		if k.req.Own {
			s.claimLocked(k.req)
		}
		k.wake(s)
	case p.closing.Err() != nil:
		p.giveBackLocked(s)
	default:
		s.status = idle
		if empty {
			s.idleSince = time.Now()
			p.startTimerLocked(idleTime)
		}
	}
}

// nextLocked returns the index of the waiter that has the next turn on s. -1:
// none.
func (p *Pool) nextLocked(s *Session) int {
	if len(p.waiters) == 0 {
		return -1
	}
	order := [...]int{urgent: 0, first: 1, poll: 2}
	if p.passed >= mostPassed {
		order[poll], order[first] = order[first], order[poll]
	}
	limits, err := p.limitsLocked()
	shares := !s.exclusive() && err == nil && p.mayShareLocked(s, limits)
	drains := len(s.holds) > 0 && p.drainsLocked(limits) == s
	next, drained := -1, false // drained: a caller that came earlier waits until s is empty
	for i, k := range p.waiters {
		may := shares && (!drained || k.req.Home != nil)
		switch {
		case k.want != nil:
			may = k.want == s
		case k.req.Own:
			may = s.ownable(k.req)
			drained = drains
		}
		if may && (next < 0 || order[k.priority] < order[p.waiters[next].priority]) {
			next = i
		}
	}
	return next
}

// withdraw is for a waiter whose caller does not wait any more.
func (p *Pool) withdraw(k *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.got != nil {
		p.passLocked(k.got) // the turn came at the same moment
		return
	}
	p.waiters = slices.DeleteFunc(p.waiters, func(other *waiter) bool { return other == k })
}

func (k *waiter) wake(s *Session) {
	k.got = s
	close(k.turn)
}

// wakeWaitersLocked makes such waiters choose again.
func (p *Pool) wakeWaitersLocked(such func(*waiter) bool) {
	p.waiters = slices.DeleteFunc(p.waiters, func(k *waiter) bool {
		if !such(k) {
			return false
		}
		k.wake(nil)
		return true
	})
}
