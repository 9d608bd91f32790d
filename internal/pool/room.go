package pool

import "time"

// fullTime is for how long a server that had no connection for us is not asked
// for one.
const fullTime = time.Second

// fullLocked reports whether the server had no connection for one more session
// a moment ago, and there are sessions to share. p.mu must be held.
func (p *Pool) fullLocked() bool {
	return p.countLocked((*Session).live) > 0 && !p.full.IsZero() && time.Since(p.full) < fullTime
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

// giveRoom gives up the place of a session that has gone, or was not opened.
func (p *Pool) giveRoom() {
	for _, woken := range p.share.give() {
		woken.lookAgain()
	}
}

// awaitRoom is called before a caller waits for any session. If it waits for a
// connection that another pool of the db does not use, that is given back.
func (p *Pool) awaitRoom() {
	if p.lent != nil {
		return
	}
	p.mu.Lock()
	p.lookAgainSoonLocked()
	p.mu.Unlock()
	for _, other := range p.share.inTheWay(p) {
		other.sweep(0)
	}
}

// lookAgainSoonLocked makes callers that wait for a session choose again after
// fullTime. It does so if the db was changed in that time, or if the server had
// no connection for one more session. Nothing else wakes the callers in these
// cases. p.mu must be held.
func (p *Pool) lookAgainSoonLocked() {
	if p.closing.Err() != nil {
		return
	}
	p.maxOpen = p.db.Stats().MaxOpenConnections
	if p.again == nil {
		p.again = time.AfterFunc(fullTime, p.tick)
	} else {
		p.again.Reset(fullTime)
	}
}

func (p *Pool) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waitsLocked(forAny) {
		return
	}
	if p.maxOpen != p.db.Stats().MaxOpenConnections || !p.full.IsZero() {
		p.full = time.Time{}
		p.wakeWaitersLocked(forAny)
	}
	p.lookAgainSoonLocked()
}

func (p *Pool) lookAgain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeWaitersLocked(forAny)
}
