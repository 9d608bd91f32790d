package session

import (
	"flag"
	"fmt"
	"slices"
)

// A state says what a session does for its pool.
//
//	       turn taken            Wait
//	idle ------------> busy ------------> waiting
//	     <------------      <------------
//	        turn ends           Waited
//
// Every state ends in dead, which is final.
type state int

const (
	idle    state = iota
	busy          // somebody has the turn
	waiting       // somebody has the turn, and waits for a lock with it
	dead          // its connection is given back, or closed
)

func (s state) String() string {
	return []string{"idle", "busy", "waiting", "dead"}[s]
}

// moves are the states that may follow each.
var moves = [][]state{idle: {busy, dead}, busy: {idle, waiting, dead}, waiting: {busy, dead}, dead: nil}

// moveLocked changes the state of s. In a test an illegal move panics; elsewhere it is better to
// go on, since the server excludes, whatever becomes of the turns. The pool's mu must be
// held.
func (s *Session) moveLocked(to state) {
	if !slices.Contains(moves[s.state], to) && flag.Lookup("test.v") != nil {
		panic(fmt.Sprintf("a session that is %v cannot become %v", s.state, to))
	}
	s.state = to
}

// dieLocked makes s dead, for that cause. The pool's mu must be held.
func (s *Session) dieLocked(cause error) {
	s.moveLocked(dead)
	s.deathCause = cause
}
