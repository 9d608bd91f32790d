package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// A report turns events into go test's usual output, and counts them.
type report struct {
	packages int  // number of packages with tests
	verbose  bool // whether the output of passing tests is also printed

	running map[string]*running // by package
	passed  map[string]float64  // seconds
	failed  map[string]float64
	tests   int // ended tests, including subtests
	reasons []reason
}

// A reason is why a test has failed, or a package outside its tests.
type reason struct {
	of   string // the package, and the test
	text string // the first lines of its output
}

// A running is a package whose tests are running.
type running struct {
	tests  map[string]time.Time // running tests, and when they started
	output map[string][]string  // by test; "" is the package itself
}

func newReport(packages int, verbose bool) *report {
	return &report{packages: packages, verbose: verbose,
		running: map[string]*running{}, passed: map[string]float64{}, failed: map[string]float64{}}
}

// line processes a line of go test -json, and returns the text to print.
func (r *report) line(line string) string {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		return line // a line that is not JSON comes from go test itself
	}
	if e.Package == "" {
		return e.Output // from the compiler
	}
	p := r.running[e.Package]
	if p == nil {
		p = &running{map[string]time.Time{}, map[string][]string{}}
		r.running[e.Package] = p
	}
	switch {
	case e.Action == "output":
		if !strings.HasPrefix(e.Output, "=== ") { // RUN, PAUSE, CONT
			p.output[e.Test] = append(p.output[e.Test], e.Output)
		}
		if r.verbose {
			return e.Output
		}
	case e.Action == "run" || e.Action == "cont":
		p.tests[e.Test] = time.Now()
	case e.Action == "pause":
		delete(p.tests, e.Test)
	case e.Action != "pass" && e.Action != "fail" && e.Action != "skip":
	case e.Test == "":
		return r.packageEnded(e, p)
	default:
		return r.testEnded(e, p)
	}
	return ""
}

func (r *report) testEnded(e event, p *running) string {
	r.tests++
	text := strings.Join(p.output[e.Test], "")
	delete(p.tests, e.Test)
	delete(p.output, e.Test)
	if e.Action != "fail" {
		return ""
	}
	name := short(e.Package) + ": " + e.Test
	r.failedBy(name, name+"/", text)
	if r.verbose {
		return ""
	}
	return fmt.Sprintf("%s:\n%s", short(e.Package), text)
}

func (r *report) packageEnded(e event, p *running) string {
	delete(r.running, e.Package)
	switch e.Action {
	case "skip": // there are no tests
		return ""
	case "pass":
		r.passed[e.Package] = e.Elapsed
		if r.verbose {
			return ""
		}
		own := p.output[""]
		return own[len(own)-1] // ok, and the time
	}
	r.failed[e.Package] = e.Elapsed
	// If a panic or the time limit ended the package before its tests had ended,
	// the message is in the output of a test that was running.
	var text []string
	for _, name := range slices.Sorted(maps.Keys(p.output)) {
		if name != "" && p.tests[name] != (time.Time{}) {
			text = append(text, p.output[name]...)
		}
	}
	all := strings.Join(append(text, p.output[""]...), "")
	r.failedBy(short(e.Package), short(e.Package)+": ", all)
	if r.verbose {
		return ""
	}
	return all
}

// failedBy keeps the reason for a failure, unless a part has one: a subtest, or
// a test of the package. The names of parts begin with parts.
func (r *report) failedBy(of, parts, output string) {
	if slices.ContainsFunc(r.reasons, func(known reason) bool { return strings.HasPrefix(known.of, parts) }) {
		return
	}
	const most = 6 // the rest is above
	var text []string
	trace := false // whether the lines are a stack trace, which ends at "Error:"
	for line := range strings.Lines(output) {
		switch label, _, _ := strings.Cut(strings.TrimSpace(line), ":"); label {
		case "Error Trace":
			trace = true
		case "Error":
			trace = false
		case "", "--- FAIL":
			continue
		}
		if trace {
			continue
		}
		if text = append(text, "\t"+strings.TrimSpace(line)+"\n"); len(text) == most {
			break
		}
	}
	r.reasons = append(r.reasons, reason{of, strings.Join(text, "")})
}

// status returns which tests are running.
func (r *report) status() string {
	text := fmt.Sprintf("testing: %d of %d packages, %d tests and subtests", len(r.passed)+len(r.failed), r.packages, r.tests)
	if len(r.failed) > 0 {
		text += fmt.Sprintf("; %d packages FAILED", len(r.failed))
	}
	for i, name := range slices.Sorted(maps.Keys(r.running)) {
		text += [2]string{"; running: ", ", "}[min(i, 1)] + short(name)
		longest, since := "", time.Now()
		for test, began := range r.running[name].tests {
			if began.Before(since) && !strings.Contains(test, "/") {
				longest, since = test, began
			}
		}
		if d := time.Since(since); d > interval {
			text += fmt.Sprintf(" (%s for %v)", longest, d.Round(time.Second))
		}
	}
	return text
}

// summary returns the last lines.
func (r *report) summary(wall, cpu time.Duration) string {
	all := maps.Clone(r.passed)
	maps.Copy(all, r.failed)
	slowest := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return int(1000 * (all[b] - all[a])) })
	for i, name := range slowest {
		slowest[i] = fmt.Sprintf("%s %.0f s", short(name), all[name])
	}
	text := fmt.Sprintf("%d packages passed, %d failed, %d tests and subtests, in %v; %v of CPU, servers included\n",
		len(r.passed), len(r.failed), r.tests, wall.Round(time.Second), cpu.Round(time.Second))
	if n := min(5, len(slowest)); n > 1 {
		text += "the slowest: " + strings.Join(slowest[:n], ", ") + "\n"
	}
	for _, failure := range r.reasons {
		text += "FAILED: " + failure.of + "\n" + failure.text
	}
	return text
}

// short returns the package's path within the repository.
func short(path string) string {
	const module = "github.com/go-namedlock/namedlock"
	if path == module {
		return "namedlock"
	}
	return strings.TrimPrefix(path, module+"/")
}
