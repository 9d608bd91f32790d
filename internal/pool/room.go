package pool

import (
	"slices"
	"time"
)

// fullTime is for how long a server that had no connection for us is not asked
// for one.
const fullTime = time.Second

// fullLocked reports whether the server had no connection for one more session
// a moment ago, and there are sessions to share.
func (p *Pool) fullLocked() bool {
	return p.countLocked((*Session).live) > 0 && time.Since(p.full) < fullTime
}

// sharesNow is called when the server had no connection for one more session.
// It notes that, if there are sessions to share, and reports whether there are.
func (p *Pool) sharesNow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	shares := p.countLocked((*Session).live) > 0
	if shares {
		p.full = time.Now()
	}
	return shares
}

// awaitRoom is called before a caller waits for any session. If it waits for a
// connection that another pool of the db does not use, that is given back.
func (p *Pool) awaitRoom() {
	if p.lent != nil {
		return
	}
	p.mu.Lock()
	p.startTimerLocked(fullTime)
	p.mu.Unlock()
	for _, other := range p.share.inTheWay(p) {
		other.sweep(0)
	}
}

// startTimerLocked makes the timer call lookAgain after d, if it is not running
// yet. It runs while a session is idle or a caller waits for any session.
func (p *Pool) startTimerLocked(d time.Duration) {
	if p.timer == nil {
		p.work.Add(1)
		p.timer = time.AfterFunc(d, p.lookAgain)
	}
}

// lookAgain is for changes that no event reports. It gives sessions back that
// have been idle for long enough. Callers that wait for any session choose
// again if the db was changed, or if the server may have a connection again.
func (p *Pool) lookAgain() {
	defer p.work.Done()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	p.sweepLocked(idleTime)
	if !slices.ContainsFunc(p.waiters, forAny) {
		return
	}
	again := !p.full.IsZero() && !p.fullLocked()
	if again {
		p.full = time.Time{}
	}
	limits, err := p.limitsLocked()
	p.wakeWaitersLocked(func(k *waiter) bool { return forAny(k) && (again || err != nil || k.limits != limits) })
	p.startTimerLocked(fullTime)
}
