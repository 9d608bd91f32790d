// Package history judges the results of callers of named locks. It reads the
// events that several processes of one machine recorded, and reports the
// promises that they break.
//
// All times are nanoseconds of the machine's monotonic clock, which all its
// processes share. A section is the code under a lock. Its Begun and Ended are
// taken inside the section. Therefore a lock that was held to the end was held
// for longer than that.
package history

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// An Outcome is how a call ended: the namedlock.ErrorType of its error, or one
// of the outcomes without an error.
type Outcome string

const (
	Clean Outcome = "clean" // held to the end
	Lost  Outcome = "lost"  // acquired, and not provably held to the end
	// Acquired. After a panic or Goexit, no caller got an error.
	Panicked    Outcome = "panicked"
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

// Foreign is the worker, and the locker, of callers that do not use the
// library.
const Foreign = "foreign"

// A Locker is one Locker of one worker, from its creation to its Close.
type Locker struct {
	ID        string
	Worker    string
	Path      string        // the proxy of its connections, "" for none
	KeepAlive time.Duration // the value of the option
	Lease     time.Duration // the value of the option; 0: the default, which exceeds any silence
	Blind     bool          // the library cannot see its sockets
	Single    bool          // made by New: the Locker ends with its connection
	HandOff   bool          // the Locker passes locks on without the server
	Closing   int64         // when Close was called, 0: not yet
	Closed    int64         // when Close returned
}

// A Sighting is one answer of the server to a query for the holder of a name.
// The query was sent at From, and answered at At.
type Sighting struct {
	From, At int64
	Session  int64 // 0: no session
}

// A Call is one WithLock, WithLockTx, WithTerm or WithSlot, or one Acquire with
// its Release. A time of zero means that the event has not happened.
type Call struct {
	Worker string
	ID     int64
	Parent *Call // the call whose section made this call, nil for a call with a context of its own
	Locker *Locker
	// Of the lock. For a WithSlot with a slot, the name of the slot's lock.
	Name     string
	Slots    string // the name that WithSlot was called with; "" for other calls
	N        int    // the number of slots that WithSlot was called with
	Timeout  time.Duration
	Deadline int64 // of the call's own context

	Called   int64
	Cancel   int64 // the call's own context was canceled
	Begun    int64
	Over     int64 // the context of the section ended before the section
	Ended    int64
	Returned int64
	Outcome  Outcome
	Error    string
	Flaws    []string // defects of the error
	Seen     []Sighting
	// Of transactions within the section, while COMMIT or ROLLBACK was on its way.
	Endings []Span
}

// A Span is the time from From to At.
type Span struct{ From, At int64 }

// timedOut reports whether the call's timeout ended it.
func (c *Call) timedOut() bool { return c.Outcome == TimedOut || c.Outcome == NoSession }

// subject returns the name that the call was made with.
func (c *Call) subject() string { return cmp.Or(c.Slots, c.Name) }

func (c *Call) chain(yield func(*Call) bool) {
	for p := c.Parent; p != nil; p = p.Parent {
		if !yield(p) {
			return
		}
	}
}

// A Fault was injected into the system. It started after From and was complete
// before At.
type Fault struct {
	Kind     string
	Target   string // a worker, a locker or a proxy
	Session  int64
	From, At int64
}

// Kinds of faults with rules of their own in the checker.
const (
	Kill       = "kill"       // Session
	KillQuery  = "kill query" // Session
	Cut        = "cut"        // a proxy's connections
	Stall      = "stall"      // a proxy, whose connections end when the stall ends
	Silence    = "silence"    // a proxy, which delivers all bytes afterwards
	Slow       = "slow"       // a proxy
	Crash      = "crash"      // the server, and its restart
	Freeze     = "freeze"     // the server
	Limits     = "limits"     // on statements
	Idle       = "idle"       // wait_timeout
	KillWorker = "kill worker"
	StopWorker = "stop worker"
	Statement  = "statement" // of a locker
	Vanish     = "vanish"    // the locks of a session of a locker
	Pool       = "pool"      // a locker's db has fewer connections, or connections that live shorter
	CloseAll   = "close"     // a locker, which is replaced
)

// Late means that a worker had planned to run at From and ran at At.
type Late struct {
	Worker   string
	From, At int64
}

// An Opening means that a locker was opening a session from From to At.
type Opening struct {
	Locker   string
	From, At int64
}

// A History is the time between two moments of rest: no call spans two
// histories. Its faults include earlier ones that may still have an effect:
// Limits.
type History struct {
	Folds    bool // the server treats names that differ in letter case as one lock
	Calls    []*Call
	Lockers  map[string]*Locker
	Faults   []Fault
	Late     []Late
	Openings []Opening
	Samples  map[string][]Sighting // the sightings of each name by an observer, in order

	Rested int64 // when all workers rested
	// Names that were still held 1 s later, and the session that held each.
	LeftOver map[string]int64
}

// A Violation is a promise that was broken.
type Violation struct {
	Promise string
	Text    string
	Calls   []*Call
	At      int64
}

// A Verdict is the result of Check.
type Verdict struct {
	Violations []Violation // in the order of time

	// The second judge looks for an order of all acquires and releases of a name.
	// It has a time limit for each name.
	Judged    int      // number of names that it judged
	Undecided []string // the names for which the time limit ended
}

// Check returns the violations of h.
func Check(h *History) Verdict { return check(h, judging) }

// check is Check with another time limit for the second judge.
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

// Overlaps returns how many pairs of sections of one name overlap. If Check
// finds no violation, each pair has a victim that was told in time.
func Overlaps(h *History) (n int) {
	c := &checker{History: h}
	for _, line := range c.byKey() {
		c.pairs(line, func(a, b *Call) { n++ })
	}
	return n
}

type checker struct {
	*History
	judging time.Duration // the second judge's time limit for a name
	verdict Verdict
}

func (c *checker) report(promise, text string, at int64, calls ...*Call) {
	c.verdict.Violations = append(c.verdict.Violations, Violation{promise, text, calls, at})
}

func fold(name string) string { return strings.ToLower(name) }

// key returns equal keys for names that are one lock on the server.
func (c *checker) key(name string) string {
	if c.Folds {
		return fold(name)
	}
	return name
}

// end returns when the section of s was over. The section of a killed worker
// ends with the worker.
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

// byKey groups the sections that exclude each other on the server, each group
// in the order of their start.
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

// pairs calls f with every two sections of line that overlap. a is the one that
// started first.
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
