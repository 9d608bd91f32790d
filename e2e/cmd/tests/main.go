// Command tests runs the tests of all modules, with the flags of go test that it is given. At the end it says
// which servers they went without, and how to get them: go test itself hides that of a package that passes.
//
//	go run -C e2e ./cmd/tests [flag of go test ...]
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

func main() {
	passed, err := run(os.Stdout, os.Args[1:], "work")
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
	}
	if !passed || err != nil {
		os.Exit(1)
	}
}

// run tests the packages, and writes to out which servers it went without.
func run(out io.Writer, flags []string, packages ...string) (passed bool, err error) {
	folder, err := os.MkdirTemp("", "namedlock-tests-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	file := filepath.Join(folder, "skipped")

	// An interrupt reaches go test as well, which ends its tests, and then this.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	// The flags that are given come last, and count. On a busy machine ten minutes may be too few.
	cmd := exec.Command("go", slices.Concat([]string{"test", "-timeout=30m"}, flags, packages)...)
	cmd.Env = append(os.Environ(), servers.SkippedFile+"="+file)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	failed := cmd.Run()
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return false, failed
	}
	reasons, err := skipped(file)
	for _, reason := range reasons {
		_, _ = fmt.Fprintln(out, "SKIPPED:", reason)
	}
	return failed == nil, err
}

// skipped returns the reasons in the file, each once. Where there is no file, nothing was skipped.
func skipped(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(lines)
	return slices.Compact(lines), err
}
