package queue

import (
	"flag"
	"fmt"
	"slices"
)

// A phase says what a run does for the first in its line.
//
//	taking ---> queued <---> exhausted
//	  |  ^         |            |
//	  |  |         v            v
//	  |  +------- trying <------+     (taking -> trying, too)
//	  |
//	  +--> waiting --> taking
//	  +--> pausing --> taking
type phase int

const (
	taking    phase = iota // a turn on a session, which may have to be opened
	queued                 // it waits for a session that others use
	exhausted              // it waits for a connection that others have
	trying                 // it asks without waiting
	waiting                // it waits on the server
	pausing                // it is between two polls
)

func (p phase) String() string {
	return []string{"taking", "queued", "exhausted", "trying", "waiting", "pausing"}[p]
}

// moves are the phases that may follow each.
var moves = [][]phase{
	taking:    {queued, exhausted, trying, waiting, pausing},
	queued:    {queued, exhausted, trying},
	exhausted: {queued, exhausted, trying},
	trying:    {taking},
	waiting:   {taking},
	pausing:   {taking},
}

// moveLocked changes the phase of r. An illegal move panics in tests. The queue's mu must be held.
func (r *run) moveLocked(to phase) {
	if r.line.run == r && r.line.holder != nil && !r.standsBy && flag.Lookup("test.v") != nil {
		panic(fmt.Sprintf("a run that does not stand by is %v while the lock is held", to))
	}
	if !slices.Contains(moves[r.phase], to) && flag.Lookup("test.v") != nil {
		panic(fmt.Sprintf("a run that is %v cannot be %v next", r.phase, to))
	}
	r.phase = to
}
