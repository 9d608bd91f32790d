package namedlock

import "time"

// Stats describes a Locker: its activity now, and its counters since it was
// made.
type Stats struct {
	Held    int // locks held now
	Waiting int // calls under way that have no lock yet

	// Sessions is how many connections are taken from the db now, including
	// those of transactions and Leads. With New it is 1 until its connection is
	// gone.
	Sessions int

	// MaxSessions is the cap now: [WithMaxSessions], or less if the db has too
	// few connections. Transactions and Leads do not count towards it, so
	// Sessions may be higher. With New it is 1. It is 0 if the db allows a
	// single connection.
	MaxSessions int

	// WaitingForSession is how many of the calls in Waiting wait for a session,
	// and not for the lock of another holder. If it stays above 0, raise
	// sql.DB.SetMaxOpenConns or [WithMaxSessions].
	WaitingForSession int

	// Unwatched is how many of the sessions cannot be checked at the socket:
	// see [WithProbe]. Their end is noticed by a keep-alive at the earliest. It
	// is 0 under WithProbe(0).
	Unwatched int

	Acquired int64 // locks acquired, hand-offs included
	Timeouts int64 // calls that ended with ErrTimeout, ErrNoSession included
	Failed   int64 // calls that ended with any other error, a context's end included
	Lost     int64 // locks that may not have been held to the end
	HandOffs int64 // locks passed to another caller of this Locker (WithHandOff)

	WaitTime time.Duration // the sum for all calls, from the call to the lock or the error
	HoldTime time.Duration // the sum for all locks, from the lock to its release

	SessionsOpened    int64 // connections taken from the db and greeted
	SessionsDiscarded int64 // connections closed, instead of going back to the db

	// DroppedLines is how many lines were not logged, because the log's handler
	// is too slow.
	DroppedLines int64
}

// Stats returns the activity and the counters of l. It is cheap, and sends no
// SQL.
func (l *Locker) Stats() Stats {
	if l.isZero() {
		return Stats{}
	}
	o := &l.observer
	s := Stats{
		Held:     int(o.held.Load()),
		Waiting:  l.queue.Waiting() + l.slots.Waiting(),
		Acquired: o.acquired.Load(),
		Timeouts: o.timeouts.Load(),
		Failed:   o.failed.Load(),
		Lost:     o.lost.Load(),
		HandOffs: l.queue.HandOffs(),
		WaitTime: time.Duration(o.waitTime.Load()),
		HoldTime: time.Duration(o.holdTime.Load()),
	}
	s.Sessions, s.Unwatched = l.pool.Sessions()
	s.MaxSessions, s.WaitingForSession = l.pool.Cap(), l.queue.WaitingForSession()
	s.SessionsOpened, s.SessionsDiscarded = o.opened.Load(), o.discarded.Load()
	s.DroppedLines = o.lines.Dropped()
	return s
}
