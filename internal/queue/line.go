package queue

import "time"

// A line is the queue of the callers that want one folded name. It exists while
// it has a waiter, a holder or an asker. The queue's mu guards it.
type line struct {
	queue *Queue
	key   string

	// The line's place at the server. It has both only while the holder's
	// release is on its way: then the asker waits for the next grant.
	holder *Grant
	asker  *asker // asks the server on behalf of the waiters

	lookup *lookup // the question for the holder on the server, or its answer

	front, back  *waiter   // front is served first
	length, left int       // waiters in line, and those that left since furthest was found
	furthest     time.Time // not before the last until in line; see lastsLocked
}

// joinLocked puts w at the end of the line.
func (l *line) joinLocked(w *waiter) {
	w.prev = l.back
	if l.back != nil {
		l.back.next = w
	} else {
		l.front = w
	}
	l.back = w
	l.length++
	if w.until.After(l.furthest) {
		l.furthest = w.until
	}
	if !w.terms.Part {
		l.queue.waiting++
	}
}

// partLocked takes w out of the line.
func (l *line) partLocked(w *waiter) {
	l.length--
	l.left++
	if !w.terms.Part {
		l.queue.waiting--
	}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.front = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.back = w.prev
	}
	w.prev, w.next = nil, nil
}

// lastsLocked returns a time at which no caller in line waits any more. To look
// through the line at each wait would cost, over the life of a line, the square
// of its length. So the line is only looked through when as many callers have
// left it as are in it. Until then the time may be that of a caller that has
// left. A wait may then be longer than any caller wants, and the last caller to
// leave breaks its connection.
func (l *line) lastsLocked() time.Time {
	if l.left >= l.length {
		l.furthest, l.left = time.Time{}, 0
		for w := l.front; w != nil; w = w.next {
			if w.until.After(l.furthest) {
				l.furthest = w.until
			}
		}
	}
	return l.furthest
}
