// Package history judges what callers of named locks saw: it reads the events
// that several processes of one machine wrote down, and says which promises
// they break.
//
// All times are nanoseconds of the machine's monotonic clock, which is the same
// for all its processes. A section is the code under a lock. Its Begun and
// Ended are taken inside it, so a lock that was held to the end was held for
// longer than that.
package history

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// An Outcome is how a call ended: the namedlock.ErrorType of its error, or one
// of those that have no error.
type Outcome string

const (
	Clean       Outcome = "clean"    // held to the end
	Lost        Outcome = "lost"     // acquired, and not provably held to the end
	Panicked    Outcome = "panicked" // acquired; by a panic or Goexit nobody was told how it ended
	TimedOut    Outcome = "timeout"
	NoSession   Outcome = "no_session"
	Held        Outcome = "reentrant"
	Deadlock    Outcome = "deadlock"
	Interrupted Outcome = "interrupted"
	Unavailable Outcome = "unavailable"
	Closed      Outcome = "closed"
	Cancelled   Outcome = "canceled"
	Expired     Outcome = "deadline_exceeded"
)

// Foreign is the worker, and the locker, of callers who do without the library.
const Foreign = "foreign"

// A Locker is one Locker of one worker, from its making to its Close.
type Locker struct {
	ID        string
	Worker    string
	Path      string        // the proxy that its connections go through, "" for none
	KeepAlive time.Duration // as it was set
	Lease     time.Duration // as it was set; 0: the default, which no silence lasts for
	Blind     bool          // the library cannot see its sockets
	Single    bool          // made by New: it ends with its connection
	HandOff   bool          // it passes locks on without the server
	Closing   int64         // when Close was called, 0: not yet
	Closed    int64         // when it returned
}

// A Sighting is one answer of the server to who holds a name; it was asked at
// From and known at At.
type Sighting struct {
	From, At int64
	Session  int64 // 0: nobody
}

// A Call is one WithLock, WithLockTx, WithTerm or WithSlot, or one Acquire with
// its Release. Zero times are of events that have not happened.
type Call struct {
	Worker   string
	ID       int64
	Parent   *Call // whose section it was made in, nil for one with a context of its own
	Locker   *Locker
	Name     string // of the lock; of a WithSlot that has a slot, the name of the slot's lock
	Slots    string // the name that a WithSlot was called with; "" for the others
	N        int    // the number of slots that it was called with
	Timeout  time.Duration
	Deadline int64 // of its own context

	Called   int64
	Cancel   int64 // its own context was cancelled
	Begun    int64
	Over     int64 // the context of the section ended, before the section did
	Ended    int64
	Returned int64
	Outcome  Outcome
	Error    string
	Flaws    []string // what was wrong with its error
	Seen     []Sighting
	Endings  []Span // of transactions within the section: COMMIT or ROLLBACK was on its way
}

// A Span is a time from From to At.
type Span struct{ From, At int64 }

// timedOut reports whether the call's timeout ended it.
func (c *Call) timedOut() bool { return c.Outcome == TimedOut || c.Outcome == NoSession }

// subject is the name that the call was made with.
func (c *Call) subject() string { return cmp.Or(c.Slots, c.Name) }

func (c *Call) chain(yield func(*Call) bool) {
	for p := c.Parent; p != nil; p = p.Parent {
		if !yield(p) {
			return
		}
	}
}

// A Fault is something that was done to the system, from before From to after
// At.
type Fault struct {
	Kind     string
	Target   string // a worker, a locker or a proxy
	Session  int64
	From, At int64
}

// The kinds of faults that the checker knows more of than their names.
const (
	Kill       = "kill"       // Session
	KillQuery  = "kill query" // Session
	Cut        = "cut"        // a proxy's connections
	Stall      = "stall"      // a proxy, whose connections end with it
	Silence    = "silence"    // a proxy, which delivers everything afterwards
	Slow       = "slow"       // a proxy
	Crash      = "crash"      // the server, and its restart
	Freeze     = "freeze"     // the server
	Limits     = "limits"     // on statements
	Idle       = "idle"       // wait_timeout
	KillWorker = "kill worker"
	StopWorker = "stop worker"
	Statement  = "statement" // of a locker
	Vanish     = "vanish"    // the locks of a session of a locker
	Pool       = "pool"      // a locker's db has fewer connections, or they live shorter
	CloseAll   = "close"     // a locker, which another follows
)

// Late says that a worker had planned to run at From and did at At.
type Late struct {
	Worker   string
	From, At int64
}

// An Opening says that a locker was opening a session from From to At.
type Opening struct {
	Locker   string
	From, At int64
}

// A History is what happened from one moment of rest to the next: no call spans
// two. Its faults include earlier ones that may still have an effect: Limits.
type History struct {
	Folds    bool // the server takes names that differ in letter case for one
	Calls    []*Call
	Lockers  map[string]*Locker
	Faults   []Fault
	Late     []Late
	Openings []Opening
	Samples  map[string][]Sighting // what an observer saw of each name, in order

	Rested   int64            // when all workers rested
	LeftOver map[string]int64 // names that were still held a second after, and by which session
}

// A Violation is a promise that was broken.
type Violation struct {
	Promise string
	Text    string
	Calls   []*Call
	At      int64
}

// A Verdict is what Check finds.
type Verdict struct {
	Violations []Violation // in the order of time

	// The second judge, which looks for an order of all acquires and releases of a
	// name, gives up after a while.
	Judged    int      // names that it has been asked about
	Undecided []string // of these, the names about which it has said nothing
}

// Check says what is wrong with h.
func Check(h *History) Verdict { return check(h, judging) }

// check is Check with another bound for the second judge.
func check(h *History, judging time.Duration) Verdict {
	c := &checker{History: h, judging: judging}
	c.exclusion()
	c.slots()
	c.detection()
	c.proof()
	c.losses()
	c.waits()
	c.order()
	c.errors()
	c.leftovers()
	c.orphans()
	c.linearizable()
	slices.SortStableFunc(c.verdict.Violations, func(a, b Violation) int { return cmp.Compare(a.At, b.At) })
	return c.verdict
}

// Overlaps is how many pairs of sections of one name there are that overlap,
// all of them with a victim that was told in time if Check finds nothing.
func Overlaps(h *History) (n int) {
	c := &checker{History: h}
	for _, line := range c.byKey() {
		c.pairs(line, func(a, b *Call) { n++ })
	}
	return n
}

type checker struct {
	*History
	judging time.Duration // bounds the second judge's time for a name
	verdict Verdict
}

func (c *checker) report(promise, text string, at int64, calls ...*Call) {
	c.verdict.Violations = append(c.verdict.Violations, Violation{promise, text, calls, at})
}

func fold(name string) string { return strings.ToLower(name) }

// key is equal for names that are one lock on the server.
func (c *checker) key(name string) string {
	if c.Folds {
		return fold(name)
	}
	return name
}

// end is when the section of s was over: a killed worker's ends with the
// worker.
func (c *checker) end(s *Call) int64 {
	if s.Ended != 0 {
		return s.Ended
	}
	for _, f := range c.Faults {
		if f.Kind == KillWorker && f.Target == s.Worker {
			return f.From
		}
	}
	return c.Rested
}

// byKey groups the sections that exclude each other on the server, each in the
// order of their beginning.
func (c *checker) byKey() map[string][]*Call {
	return c.group(func(s *Call) string { return c.key(s.Name) })
}

func (c *checker) group(by func(*Call) string) map[string][]*Call {
	groups := make(map[string][]*Call)
	for _, s := range c.Calls {
		if s.Begun != 0 {
			groups[by(s)] = append(groups[by(s)], s)
		}
	}
	for _, line := range groups {
		sortByBegun(line)
	}
	return groups
}

func sortByBegun(line []*Call) {
	slices.SortStableFunc(line, func(a, b *Call) int { return cmp.Compare(a.Begun, b.Begun) })
}

// pairs calls f with every two sections of line that overlap, the one that
// began first in front.
func (c *checker) pairs(line []*Call, f func(a, b *Call)) {
	var open []*Call
	for _, b := range line {
		open = slices.DeleteFunc(open, func(a *Call) bool { return c.end(a) <= b.Begun })
		for _, a := range open {
			f(a, b)
		}
		open = append(open, b)
	}
}
