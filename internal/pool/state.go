package pool

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

// moveLocked changes the state of s. The pool's mu must be held.
func (s *Session) moveLocked(to state) { s.state = to }

// dieLocked makes s dead, for that cause. The pool's mu must be held.
func (s *Session) dieLocked(cause error) {
	s.moveLocked(dead)
	s.deathCause = cause
}
