package queue

// A wait is asked for as long as somebody in line wants it when it begins. Who comes later and
// stays longer would have another begin when that has ended, behind all who have come to the
// server meanwhile. So a second wait begins at once for such a caller, on another session, where
// there is room. It takes the place of the first when that ends. There is no third.

// secondLocked begins a second wait for w, if there is a use for it. The queue's mu must be held.
func (l *line) secondLocked(w *waiter) {
	q := l.queue
	if l.second != nil || !l.outlastsLocked(w) || !q.pool.RoomToStandBy() {
		return
	}
	l.second = &run{queue: q, line: l, standsBy: true, waited: true, latecomer: w}
	q.active++
	go l.second.standBy()
}

// outlastsLocked reports whether w is in line for noticeably longer than the wait under way goes on, and could
// take that over. (Where the wait is cut short for its own reasons, so would be a second.) The queue's
// mu must be held.
func (l *line) outlastsLocked(w *waiter) bool {
	if l.run == nil || l.run.wait == nil || l.holder != nil || w.served {
		return false
	}
	wt := l.run.wait
	return !wt.cut && wt.suits(w) && (w.until.IsZero() || w.until.Sub(wt.ends) > max(grace, wt.asked/10))
}

// standBy is the second run's goroutine.
func (r *run) standBy() {
	defer r.end()
	s, err := r.queue.pool.TakeToStandBy(r.Context())
	if s == nil || err != nil {
		return
	}
	r.waitOn(s)
	r.askAll()
}

// yieldLocked has the second wait take the place of r, whose own has ended, if there is one. It may have ended
// as well, and be about to take the lock. The queue's mu must be held.
func (r *run) yieldLocked() bool {
	l := r.line
	if l.second == nil || l.second.stood == nil || !l.second.stood.suits(l.front) {
		return false
	}
	r.detachLocked()
	for w := l.front; w != nil && l.second == nil; w = w.next {
		l.secondLocked(w)
	}
	return true
}

// heldLocked reports whether a caller of this process has the lock, and has not begun to release
// it. The queue's mu must be held.
func (l *line) heldLocked() bool { return l.holder != nil && !l.holder.releasing }
