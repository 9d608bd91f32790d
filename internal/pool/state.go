package pool

// A status is what a session does. It is in the pool's list from opening to the
// moment when its connection is gone.
//
//	          opened           turn ends           turn taken
//	opening ---------> busy -----------> idle ----------------> busy
//
//	     BeginWait             EndWait
//	busy ----------> waiting ----------> busy
//
// The lent session begins as idle. A session that cannot be opened leaves the
// list. Every other one ends in closing, which is final.
type status int

const (
	opening status = iota // it has no connection yet
	idle
	busy    // a caller has the turn
	waiting // a caller has the turn, and waits for a lock with it
	closing // its connection is being given back, or closed
)

// live reports whether s has a connection that can be used.
func (s *Session) live() bool { return s.status != opening && s.status != closing }

// A claim is what the call chain of a turn or of a lock demands of a session.
// No other chain has a turn on a session that is claimed.
type claim int

const (
	unclaimed  claim = iota
	forTurn          // the caller that has the turn wants it for its chain alone
	untilEmpty       // there is, or was, a lock of the chain's on it that demands it
)

// exclusive reports whether one call chain has s alone.
func (s *Session) exclusive() bool { return s.claim != unclaimed }

// claimLocked makes s the own session of the chain of req.
func (s *Session) claimLocked(req Request) {
	s.leads = req.Lead
	if s.claim == unclaimed {
		s.claim = forTurn
	}
}
