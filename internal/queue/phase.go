package queue

// A phase says what a run does for the first in its line.
//
//	taking ---> queued <---> exhausted
//	  |  ^         |            |
//	  |  |         v            v
//	  |  +------- trying <------+     (taking -> trying, too)
//	  |
//	  +--> waiting --> taking
//	  +--> pausing --> taking
//
// Where no session could be had, queued and exhausted end in pausing, too.
type phase int

const (
	taking    phase = iota // a turn on a session, which may have to be opened
	queued                 // it waits for a session that others use
	exhausted              // it waits for a connection that others have
	trying                 // it asks without waiting
	waiting                // it waits on the server
	pausing                // it is between two polls
)
