package pool

import (
	"slices"
	"time"
)

// missesBeforeOpening is how many calls of TakeSpare find no session before one
// is opened for the calls after them.
const missesBeforeOpening = 8

// TakeSpare is for the next caller in line for the lock on s, which is about to
// be released. It gives that caller the turn on an idle session without locks
// that may wait. If there is none, it returns nil, and may open one for a later
// call. It waits for nothing.
func (p *Pool) TakeSpare(s *Session) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.sessions, func(other *Session) bool {
		return other.status == idle && len(other.holds) == 0
	})
	if i >= 0 && p.mayWaitLocked(p.sessions[i], 0) > 0 {
		p.sessions[i].status = busy
		return p.sessions[i]
	}
	p.misses++
	if p.misses >= missesBeforeOpening && p.openSpareLocked(s) {
		p.misses = 0
	}
	return nil
}

// openSpareLocked begins to open a session, and reports whether it does. It
// does not if there is no room, or if another session than s is idle. A session
// that is busy is as good as idle, since no wait is on it.
func (p *Pool) openSpareLocked(s *Session) bool {
	if p.lent != nil || time.Since(p.spareFailed) < fullTime || p.exhausted() {
		return false
	}
	limits, err := p.limitsLocked()
	if err != nil || p.towardsCapLocked(nil) >= limits.shared {
		return false
	}
	if slices.ContainsFunc(p.sessions, func(other *Session) bool {
		return other.status == opening || other != s && (other.status == busy || other.status == idle && len(other.holds) == 0)
	}) {
		return false
	}
	spare := p.takeRoomLocked(limits.all, nil)
	if spare == nil {
		return false
	}
	p.work.Go(func() {
		if p.open(spare, p.closing, func() {}) == nil {
			p.Put(spare)
			return
		}
		p.mu.Lock()
		p.spareFailed = time.Now() // whatever the reason: it is not asked for each lock
		p.mu.Unlock()
	})
	return true
}
