package main

import (
	"bytes"
	"cmp"
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

// A report is what a run came to.
type report struct {
	read     map[string]int64 // how much of each file has been judged
	last     *history.History
	rounds   int
	calls    int
	sections int
	outcomes map[history.Outcome]int
	faults   map[string]int
	overlaps int
	broken   int
}

func newReport() *report {
	return &report{read: make(map[string]int64), outcomes: make(map[history.Outcome]int), faults: make(map[string]int)}
}

// judge reads what has been written since the last time, and returns errBroken if it breaks a promise.
func (d *director) judge() error {
	files, err := filepath.Glob(filepath.Join(d.folder, "*.jsonl"))
	if err != nil {
		return err
	}
	var events []history.Event
	for _, file := range files {
		more, err := d.report.readOn(file)
		if err != nil {
			return err
		}
		events = append(events, more...)
		if old := historyFile(d.folder, "", d.current-1); !d.keep && file < old {
			if err := os.Remove(file); err != nil {
				return err
			}
			delete(d.report.read, file)
		}
	}
	h := history.New(events, d.server.Kind() == servers.MySQL, d.report.last)
	d.report.add(h)
	violations := history.Check(h)
	for _, e := range events {
		if e.Kind == history.EventFlaw {
			violations = append(violations, history.Violation{Promise: e.Promise, Text: e.Worker + ": " + e.Error, At: e.At})
		}
	}
	if len(violations) == 0 {
		return nil
	}
	d.report.broken += len(violations)
	const most = 5
	for _, v := range violations[:min(len(violations), most)] {
		printViolation(os.Stdout, h, v)
	}
	if more := len(violations) - most; more > 0 {
		fmt.Printf("and %d more\n", more)
	}
	return fmt.Errorf("%w in round %d: %d", errBroken, d.current, len(violations))
}

// readOn returns the events of file from where it was last left, whole lines only.
func (r *report) readOn(file string) ([]history.Event, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, r.read[file], 1<<40))
	if err != nil {
		return nil, err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	r.read[file] += int64(len(b))
	return history.Read(bytes.NewReader(b))
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
	fmt.Fprintf(w, "%v, %d rounds, %d calls, %d sections, %d overlaps with a victim that was told, %d violations\n",
		took.Round(time.Second), r.rounds, r.calls, r.sections, r.overlaps, r.broken)
	fmt.Fprint(w, "outcomes:")
	for _, o := range slices.Sorted(maps.Keys(r.outcomes)) {
		fmt.Fprintf(w, " %s %d", o, r.outcomes[o])
	}
	fmt.Fprint(w, "\nfaults:")
	for _, k := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(w, " %s %d", k, r.faults[k])
	}
	fmt.Fprintln(w)
}

// printViolation prints v and what happened around it, in milliseconds from it.
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
		fmt.Fprintf(w, "\t%s %s #%d %q %v: called %s, begun %s, over %s, ended %s, returned %s, cancel %s, deadline %s, seen %v: %s %s\n", mark, c.Locker.ID, c.ID, c.Name,
			c.Timeout, at(c.Called), at(c.Begun), at(c.Over), at(c.Ended), at(c.Returned), at(c.Cancel), at(c.Deadline), c.Seen, c.Outcome, c.Error)
	}
	for _, f := range faults {
		fmt.Fprintf(w, "\t! %s %s session %d: %s to %s\n", f.Kind, f.Target, f.Session, at(f.From), at(f.At))
	}
}
