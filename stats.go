package namedlock

import "time"

// Stats is what a Locker is doing, and what it has done since it was made.
type Stats struct {
	Held     int // locks held now
	Waiting  int // calls under way that have no lock yet
	Sessions int // connections taken from the db now, those of transactions and Leads included; with New, 1 until its connection has gone

	// MaxSessions is the cap that holds now: [WithMaxSessions], or less if the db has
	// too few connections. Transactions and Leads do not count towards it, so Sessions
	// may be higher. With New it is 1. 0: the db allows a single connection.
	MaxSessions int

	// WaitingForSession is how many calls of those in Waiting wait for a session, and
	// not for the lock of another holder. If it is above 0 for long, raise
	// sql.DB.SetMaxOpenConns or [WithMaxSessions].
	WaitingForSession int

	// Unwatched counts those of the sessions whose end is noticed by a keep-alive at the
	// earliest, not at once: the driver is not go-sql-driver, is hidden by a wrapper ([WithUnwrap]), or
	// does not look, as under checkConnLiveness=false. (Under [WithProbe](0) it is 0.)
	Unwatched int

	Acquired int64 // locks acquired, hand-offs included
	Timeouts int64 // calls that ended with ErrTimeout, ErrNoSession included
	Failed   int64 // calls that ended with any other error, a context's end included
	Lost     int64 // locks that may not have been held to the end
	HandOffs int64 // locks passed on within the process (WithHandOff)

	WaitTime time.Duration // all that calls took, from their begin to the lock or the error
	HoldTime time.Duration // all that locks were held for, from the lock to its release

	SessionsOpened    int64 // connections taken from the db and greeted
	SessionsDiscarded int64 // connections closed, instead of going back to the db

	// DroppedLines counts the lines that were not logged, since the log's handler is too slow.
	DroppedLines int64
}

// Stats returns what l is doing and has done. It is cheap, and sends nothing.
func (l *Locker) Stats() Stats {
	if l.isZero() {
		return Stats{}
	}
	o := &l.observer
	s := Stats{
		Held:     int(o.held.Load()),
		Waiting:  l.queue.Waiting(),
		Acquired: o.acquired.Load(),
		Timeouts: o.timeouts.Load(),
		Failed:   o.failed.Load(),
		Lost:     o.lost.Load(),
		HandOffs: l.queue.HandOffs(),
		WaitTime: time.Duration(o.waitTime.Load()),
		HoldTime: time.Duration(o.holdTime.Load()),
	}
	s.Sessions, s.Unwatched = l.queue.Sessions()
	s.MaxSessions, s.WaitingForSession = l.queue.MaxSessions(), l.queue.WaitingForSession()
	s.SessionsOpened, s.SessionsDiscarded = o.opened.Load(), o.discarded.Load()
	s.DroppedLines = o.lines.Dropped()
	return s
}
