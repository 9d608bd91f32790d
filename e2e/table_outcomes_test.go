package e2e

import (
	"context"

	"github.com/go-namedlock/namedlock"
)

// An outcome is the result of a fault for a call and for its connection.
type outcome struct {
	is        string // its name in the table
	returns   error  // the error that the call's error matches; nil: no error
	runs      bool   // the code under the lock runs
	ends      bool   // its context ends before it returns, with cause ErrLost
	discarded int    // connections that are closed and not returned to the pool
	slow      bool   // takes 5 s, the bound for a silent session without a lock
}

var (
	unharmed  = &outcome{is: "unharmed", runs: true}
	again     = &outcome{is: "tried again", runs: true, discarded: 1}
	discarded = &outcome{is: "unharmed, discarded", runs: true, discarded: 1}

	lost  = &outcome{is: "lost", returns: namedlock.ErrLost, runs: true, ends: true, discarded: 1}
	doubt = &outcome{is: "in doubt", returns: namedlock.ErrLost, runs: true, discarded: 1}

	unavailable = &outcome{is: "unavailable", returns: namedlock.ErrUnavailable}
	gone        = &outcome{is: "unavailable, discarded", returns: namedlock.ErrUnavailable, discarded: 1}
	goneTwice   = &outcome{is: "unavailable, two discarded", returns: namedlock.ErrUnavailable, discarded: 2}

	interrupted      = &outcome{is: "interrupted", returns: namedlock.ErrInterrupted}
	cutOff           = &outcome{is: "interrupted, discarded", returns: namedlock.ErrInterrupted, discarded: 1}
	deadlocked       = &outcome{is: "deadlock", returns: namedlock.ErrDeadlock}
	invalid          = &outcome{is: "invalid name", returns: namedlock.ErrInvalidName}
	unsupported      = &outcome{is: "unsupported", returns: namedlock.ErrUnsupported}
	refused          = &outcome{is: "unsupported, discarded", returns: namedlock.ErrUnsupported, discarded: 1}
	timedOut         = &outcome{is: "timeout", returns: namedlock.ErrTimeout}
	expired          = &outcome{is: "deadline", returns: context.DeadlineExceeded}
	expiredDiscarded = &outcome{is: "deadline, discarded", returns: context.DeadlineExceeded, discarded: 1}
	expiredSlowly    = &outcome{is: "deadline, discarded after 5 s", returns: context.DeadlineExceeded, discarded: 1, slow: true}
	discardedSlowly  = &outcome{is: "unharmed, discarded after 5 s", runs: true, discarded: 1, slow: true}

	notHere *outcome // the fault cannot happen there
)

// outcomes has all outcomes, in the order of the page.
var outcomes = []*outcome{
	unharmed, again, discarded, discardedSlowly, lost, doubt, unavailable, gone, goneTwice, interrupted, cutOff, deadlocked,
	invalid, unsupported, refused, timedOut, expired, expiredDiscarded, expiredSlowly,
}
