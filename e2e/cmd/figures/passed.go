package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	module = "github.com/go-namedlock/namedlock"
	cycle  = module + "/e2e/cmd/figures/cycle"

	// cycles is how many cycles are measured. A function counts if each of them
	// passes it. Other functions depend on the time: on a busy machine the watch
	// may look, or an idle session go back, in the middle of most cycles.
	cycles = 25
)

// functionsOfCycle returns the functions of packages that one uncontended
// WithLock passes, in all goroutines, on a session that is open. Function
// literals count as a part of the function around them.
func functionsOfCycle(root string, packages []string) (names []string, err error) {
	work, err := os.MkdirTemp("", "namedlock-figures-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	covered := []string{cycle} // without the cycle package the program has no counters
	for _, folder := range packages {
		covered = append(covered, path.Join(module, folder))
	}
	program := filepath.Join(work, "cycle")
	e2e := filepath.Join(root, "e2e")
	if _, err := output(e2e, nil, "go", "build", "-cover", "-covermode=atomic", "-coverpkg="+strings.Join(covered, ","), "-o", program, cycle); err != nil {
		return nil, err
	}
	exit := filepath.Join(work, "exit")
	if err := os.Mkdir(exit, 0o700); err != nil {
		return nil, err
	}
	if _, err := output(e2e, []string{"GOCOVERDIR=" + exit}, program, work, strconv.Itoa(cycles)); err != nil {
		return nil, err
	}
	passes := make(map[string]int)
	for i := range cycles {
		report, err := output(e2e, nil, "go", "tool", "covdata", "func", "-i="+filepath.Join(work, strconv.Itoa(i+1)))
		if err != nil {
			return nil, err
		}
		for _, name := range passed(report) {
			passes[name]++
		}
	}
	for name, n := range passes {
		if n == cycles {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no function was counted: the output of go tool covdata func may have changed")
	}
	slices.Sort(names)
	return names, nil
}

// reported matches a line of go tool covdata func: file:line, function,
// percentage.
var reported = regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(module) + `/(\S+\.go):\d+:\s+(\S+)\s+([0-9.]+)%$`)

// passed returns the functions in a report of which at least one statement ran.
func passed(report string) (names []string) {
	for _, m := range reported.FindAllStringSubmatch(report, -1) {
		file, function, percentage := m[1], m[2], m[3]
		if percentage == "0.0" || strings.HasPrefix(file, "e2e/") {
			continue
		}
		names = append(names, file+": "+function)
	}
	return names
}

// output runs a command and returns its standard output.
func output(folder string, env []string, name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir, command.Env = folder, append(os.Environ(), env...)
	var failure strings.Builder
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, failure.String())
	}
	return string(out), nil
}
