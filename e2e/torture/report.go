package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// A report has the results of a run.
type report struct {
	read     map[string]int64 // how much of each file has been judged
	last     *history.History
	rounds   int
	calls    int
	sections int
	ledger   int // rows that transactions wrote
	outcomes map[history.Outcome]int
	faults   map[string]int
	overlaps int
	broken   []string // the promises, in the order of their first violations
	found    int      // violations

	judged    int // names in rounds that the second judge has judged
	undecided int // names for which its time limit ended
}

func newReport() *report {
	return &report{read: make(map[string]int64), outcomes: make(map[history.Outcome]int), faults: make(map[string]int)}
}

// judge reads the events since the last call, and returns errBroken if they
// break a promise.
func (d *director) judge() error {
	files, err := filepath.Glob(filepath.Join(d.folder, "*.jsonl"))
	if err != nil {
		return err
	}
	var events []history.Event
	var raw []byte
	for _, file := range files {
		b, more, err := d.report.readOn(file)
		if err != nil {
			return err
		}
		events, raw = append(events, more...), append(raw, b...)
		if old := historyFile(d.folder, "", d.current-1); !d.keep && file < old {
			if err := os.Remove(file); err != nil {
				return err
			}
			delete(d.report.read, file)
		}
	}
	if err := d.keepHistory(raw); err != nil {
		return err
	}
	violations := d.report.judge(events, d.server.Kind())
	if len(violations) == 0 {
		return nil
	}
	fmt.Printf("history: %s\njudge it again: go run -C e2e ./torture -judge %s\n", d.history.Name(), d.history.Name())
	d.report.printViolations(os.Stdout, violations)
	return fmt.Errorf("%w in round %d: %d", errBroken, d.current, len(violations))
}

// keepHistory appends the judged events to the file of the whole history.
func (d *director) keepHistory(raw []byte) error {
	mark, err := json.Marshal(history.Event{Kind: history.EventJudge, Target: string(d.server.Kind()), At: history.Now()})
	if err != nil {
		return err
	}
	_, err = d.history.Write(append(append(raw, mark...), '\n'))
	return err
}

// judge adds events to the report, and returns their violations.
func (r *report) judge(events []history.Event, kind servers.Kind) []history.Violation {
	h := history.New(events, kind == servers.MySQL, r.last)
	r.add(h)
	verdict := history.Check(h)
	r.judged += verdict.Judged
	r.undecided += len(verdict.Undecided)
	violations := verdict.Violations
	for _, e := range events {
		if e.Kind == history.EventFlaw {
			violations = append(violations, history.Violation{Promise: e.Promise, Text: e.Worker + ": " + e.Error, At: e.At})
		}
	}
	r.found += len(violations)
	for _, v := range violations {
		if !slices.Contains(r.broken, v.Promise) {
			r.broken = append(r.broken, v.Promise)
		}
	}
	return violations
}

// errUndecided means that the second judge could not decide often enough to be
// reliable.
var errUndecided = errors.New("too many names are undecided")

// decided returns errUndecided if more than one name in ten is undecided. The
// first judge has also judged these names, but it only checks the rules that
// were written for it. The second judge is there for violations that these
// rules miss. Its share of missed violations is its share of undecided names.
// When it caught torture's mutants, it had decided all names.
func (r *report) decided() error {
	const outOf = 10
	if r.undecided*outOf > r.judged {
		return fmt.Errorf("%w: %d of %d; more than one in %d", errUndecided, r.undecided, r.judged, outOf)
	}
	return nil
}

func (r *report) printViolations(w io.Writer, violations []history.Violation) {
	const most = 5
	for _, v := range violations[:min(len(violations), most)] {
		printViolation(w, r.last, v)
	}
	if more := len(violations) - most; more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

// judgeFile judges the history that a run has kept, up to its first violation,
// as the run did.
func judgeFile(w io.Writer, file string) (*report, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := history.Read(f)
	if err != nil {
		return nil, err
	}
	r := newReport()
	var events []history.Event
	for _, e := range all {
		if e.Kind != history.EventJudge {
			events = append(events, e)
			continue
		}
		if violations := r.judge(events, servers.Kind(e.Target)); len(violations) > 0 {
			r.printViolations(w, violations)
			return r, nil
		}
		events = nil
	}
	return r, nil
}

// readOn returns the new events of file since the last call. It only reads
// whole lines.
func (r *report) readOn(file string) (raw []byte, events []history.Event, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, r.read[file], 1<<40))
	if err != nil {
		return nil, nil, err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	r.read[file] += int64(len(b))
	events, err = history.Read(bytes.NewReader(b))
	return b, events, err
}

func (r *report) add(h *history.History) {
	r.rounds++
	r.calls += len(h.Calls)
	for _, c := range h.Calls {
		if c.Begun != 0 {
			r.sections++
		}
		r.outcomes[cmp.Or(c.Outcome, "killed")]++
	}
	for _, f := range h.Faults {
		if r.last == nil || !slices.Contains(r.last.Faults, f) {
			r.faults[f.Kind]++
		}
	}
	r.last = h
	r.overlaps += history.Overlaps(h)
}

func (r *report) print(w io.Writer, took time.Duration) {
	fmt.Fprintf(w, "%v, %d rounds, %d calls, %d sections, %d rows of transactions, %d overlaps with a victim that was told, %d violations\n",
		took.Round(time.Second), r.rounds, r.calls, r.sections, r.ledger, r.overlaps, r.found)
	fmt.Fprint(w, "outcomes:")
	for _, o := range slices.Sorted(maps.Keys(r.outcomes)) {
		fmt.Fprintf(w, " %s %d", o, r.outcomes[o])
	}
	fmt.Fprint(w, "\nfaults:")
	for _, k := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(w, " %s %d", k, r.faults[k])
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "order of acquires and releases: %d names judged, %d undecided\n", r.judged, r.undecided)
	for _, promise := range r.broken {
		fmt.Fprintf(w, "BROKEN: %s\n", promise)
	}
}

// printViolation prints v and the events around it, with times relative to v in
// milliseconds.
func printViolation(w io.Writer, h *history.History, v history.Violation) {
	fmt.Fprintf(w, "BROKEN: %s\n\t%s\n", v.Promise, v.Text)
	at := func(t int64) string {
		if t == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(t-v.At)/1e6)
	}
	calls, faults := history.Window(h, v, 100*time.Millisecond)
	const most = 40
	if n := len(calls); n > most {
		fmt.Fprintf(w, "\t(%d calls around it, of which these)\n", n)
		calls = calls[:most]
	}
	for _, c := range append(slices.Clone(v.Calls), calls...) {
		mark := " "
		if slices.Contains(v.Calls, c) {
			mark = "*"
		}
		name := fmt.Sprintf("%q", c.Name)
		if c.N > 0 {
			name += fmt.Sprintf(" of %d", c.N)
		}
		fmt.Fprintf(w, "\t%s %s #%d %s %v: called %s, begun %s, over %s, ended %s, returned %s, cancel %s, deadline %s, seen %v: %s %s\n", mark, c.Locker.ID, c.ID, name,
			c.Timeout, at(c.Called), at(c.Begun), at(c.Over), at(c.Ended), at(c.Returned), at(c.Cancel), at(c.Deadline), c.Seen, c.Outcome, c.Error)
	}
	for _, f := range faults {
		fmt.Fprintf(w, "\t! %s %s session %d: %s to %s\n", f.Kind, f.Target, f.Session, at(f.From), at(f.At))
	}
}
