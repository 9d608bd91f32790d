package history

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Kinds of events. The fields that an event has are listed after its kind. All
// events have At.
const (
	EventLocker  = "locker"  // Locker, Path, KeepAlive, Lease, Blind, Single, HandOff
	EventClosing = "closing" // Locker
	EventClosed  = "closed"  // Locker
	EventCall    = "call"    // Call, Parent, Locker, Name, N, Timeout, Deadline
	// Call. The end of the context follows, and then the same event again.
	EventCancel = "cancel"
	EventBegin  = "begin"  // Call, Called, Name: the lock of the slot
	EventSeen   = "seen"   // Call, From, Session
	EventEnding = "ending" // Call, From: the library was ending a transaction of a term
	EventOver   = "over"   // Call
	EventEnd    = "end"    // Call
	EventReturn = "return" // Call, Called, Outcome, Error, Flaws
	EventFault  = "fault"  // Fault, Target, Session, From
	EventLate   = "late"   // From
	EventSample = "sample" // From, Held: every watched name
	EventRest   = "rest"   // Held: names that are still held 1 s later
	EventFlaw   = "flaw"   // Promise, Error: a violation that a worker detected itself
	EventOpened = "opened" // Locker, From: the Locker opened a session, or tried to
	// Target: the kind of server. The events since the last such event are judged.
	EventJudge = "judge"
)

// An Event is one line of a history.
type Event struct {
	Kind   string `json:"kind"`
	Worker string `json:"worker,omitempty"`
	At     int64  `json:"at"`
	From   int64  `json:"from,omitempty"`

	Call     int64         `json:"call,omitempty"` // number of the call within the worker, from 1
	Parent   int64         `json:"parent,omitempty"`
	Locker   string        `json:"locker,omitempty"`
	Name     string        `json:"name,omitempty"`
	N        int           `json:"n,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
	Deadline int64         `json:"deadline,omitempty"`
	Called   int64         `json:"called,omitempty"`
	Session  int64         `json:"session,omitempty"`
	Outcome  Outcome       `json:"outcome,omitempty"`
	Error    string        `json:"error,omitempty"`
	Flaws    []string      `json:"flaws,omitempty"`

	Path      string        `json:"path,omitempty"`
	KeepAlive time.Duration `json:"keepalive,omitempty"`
	Lease     time.Duration `json:"lease,omitempty"`
	Blind     bool          `json:"blind,omitempty"`
	Single    bool          `json:"single,omitempty"`
	HandOff   bool          `json:"handoff,omitempty"`

	Fault   string           `json:"fault,omitempty"`
	Target  string           `json:"target,omitempty"`
	Held    map[string]int64 `json:"held,omitempty"`
	Promise string           `json:"promise,omitempty"`
}

// A Recorder writes events to a file, each at once, so that none is lost when
// its process is killed.
type Recorder struct {
	worker string
	mu     sync.Mutex
	file   *os.File
	err    error
}

// Record returns a recorder of a worker's events. It appends them to the file.
func Record(file, worker string) (*Recorder, error) {
	r := &Recorder{worker: worker}
	return r, r.GoOn(file)
}

// GoOn makes the recorder append further events to another file.
func (r *Recorder) GoOn(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file != nil {
		err = r.file.Close()
	}
	r.file = f
	return err
}

// promptly is the largest lateness of this process that is not recorded.
const promptly = 2 * time.Millisecond

// Note adds an event. If At is 0, Note sets it to the current time. If writing
// the file takes long, Note also records that as lateness: callers note events
// while times are measured, and wait for each other's writes.
func (r *Recorder) Note(e Event) {
	if e.At == 0 {
		e.At = Now()
	}
	if e.Worker == "" {
		e.Worker = r.worker
	}
	line, err := json.Marshal(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := Now()
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if now := Now(); err == nil && now-begun > int64(promptly) {
		line, _ = json.Marshal(Event{Kind: EventLate, Worker: r.worker, From: begun, At: now})
		_, err = r.file.Write(append(line, '\n'))
	}
	if r.err == nil {
		r.err = err
	}
}

// Close ends the recording, and returns the first error of it.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.file.Close(); r.err == nil {
		r.err = err
	}
	return r.err
}

// Watch records how late this process is woken, until stop is closed.
func (r *Recorder) Watch(stop <-chan struct{}) {
	const period = 5 * time.Millisecond
	timer := time.NewTimer(period)
	defer timer.Stop()
	last := Now()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		// The interval is between two readings of the clock. So it includes
		// the time in which this goroutine itself did not run.
		now := Now()
		if due := last + int64(period); now-due > int64(promptly) {
			r.Note(Event{Kind: EventLate, From: due, At: now})
		}
		last = now
		timer.Reset(period)
	}
}

// Read returns the events in from. It leaves out a last line that is cut off,
// whose writer was killed.
func Read(from io.Reader) ([]Event, error) {
	var events []Event
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		var e Event
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, fmt.Errorf("event %q: %w", line, err)
		}
		events = append(events, e)
	}
}

// New makes a history of events, which may be in any order. Lockers of an
// earlier history may still be in use, and limits may still be in force. The
// director takes no part in sections, and is not a worker. Its lateness applies
// to all workers.
func New(events []Event, folds bool, earlier *History) *History {
	h := &History{Folds: folds, Lockers: make(map[string]*Locker), Samples: make(map[string][]Sighting), LeftOver: make(map[string]int64)}
	if earlier != nil {
		h.Lockers = earlier.Lockers
		for _, f := range earlier.Faults {
			if f.Kind == Limits {
				h.Faults = append(h.Faults, f)
			}
		}
	}
	h.Lockers[Foreign] = &Locker{ID: Foreign, Worker: Foreign}
	slices.SortStableFunc(events, func(a, b Event) int { return int(min(1, max(-1, a.At-b.At))) })
	for _, e := range events {
		switch e.Kind {
		case EventLocker:
			h.Lockers[e.Locker] = &Locker{ID: e.Locker, Worker: e.Worker, Path: e.Path, KeepAlive: e.KeepAlive, Lease: e.Lease, Blind: e.Blind, Single: e.Single, HandOff: e.HandOff}
		case EventClosing:
			if l := h.Lockers[e.Locker]; l != nil && l.Closing == 0 {
				l.Closing = e.At
			}
		case EventClosed:
			if l := h.Lockers[e.Locker]; l != nil {
				l.Closed = e.At
			}
		}
	}
	type key struct {
		worker string
		call   int64
	}
	calls := make(map[key]*Call)
	call := func(e Event, id int64) *Call {
		k := key{e.Worker, id}
		if calls[k] == nil {
			calls[k] = &Call{Worker: e.Worker, ID: id}
		}
		return calls[k]
	}
	for _, e := range events {
		if e.Call != 0 {
			h.note(call(e, e.Call), e, call)
			continue
		}
		switch e.Kind {
		case EventFault:
			h.Faults = append(h.Faults, Fault{Kind: e.Fault, Target: e.Target, Session: e.Session, From: e.From, At: e.At})
			if e.Fault == StopWorker { // the worker may be killed before it records that
				h.Late = append(h.Late, Late{Worker: e.Target, From: e.From, At: e.At})
			}
		case EventLate:
			h.Late = append(h.Late, Late{Worker: e.Worker, From: e.From, At: e.At})
		case EventOpened:
			h.Openings = append(h.Openings, Opening{Locker: e.Locker, From: e.From, At: e.At})
		case EventSample:
			for name, session := range e.Held {
				h.Samples[name] = append(h.Samples[name], Sighting{e.From, e.At, session})
			}
			if took := e.At - e.From; took > int64(promptAnswer) {
				h.Late = append(h.Late, Late{From: e.From + int64(promptAnswer), At: e.At})
			}
		case EventRest:
			h.Rested = e.At
			for name, session := range e.Held {
				h.LeftOver[name] = session
			}
		}
	}
	for _, c := range calls {
		if c.Locker != nil { // the event of its start is known
			h.Calls = append(h.Calls, c)
		}
	}
	slices.SortFunc(h.Calls, func(a, b *Call) int { return int(min(1, max(-1, a.Called-b.Called))) })
	return h
}

func (h *History) note(c *Call, e Event, call func(Event, int64) *Call) {
	switch e.Kind {
	case EventCall:
		c.Locker, c.Timeout, c.Deadline = h.Lockers[e.Locker], e.Timeout, e.Deadline
		if c.N = e.N; c.N > 0 {
			c.Slots = e.Name
		}
		c.Name = cmp.Or(c.Name, e.Name)
		if c.Locker == nil {
			c.Locker = &Locker{ID: e.Locker, Worker: e.Worker}
		}
		c.Called = max(c.Called, e.At)
		if e.Parent != 0 {
			c.Parent = call(e, e.Parent)
		}
	case EventCancel:
		c.Cancel = e.At
	case EventBegin:
		c.Begun, c.Called, c.Name = e.At, max(c.Called, e.Called), cmp.Or(e.Name, c.Name)
	case EventSeen:
		c.Seen = append(c.Seen, Sighting{e.From, e.At, e.Session})
	case EventEnding:
		c.Endings = append(c.Endings, Span{e.From, e.At})
	case EventOver:
		c.Over = e.At
	case EventEnd:
		c.Ended = e.At
	case EventReturn:
		c.Returned, c.Outcome, c.Error, c.Flaws = e.At, e.Outcome, e.Error, e.Flaws
		c.Called = max(c.Called, e.Called)
	}
}
