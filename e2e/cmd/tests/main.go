// Command tests runs the tests of all modules of the workspace, with the given
// flags of go test. It reports at least every 15 seconds whether it downloads,
// compiles or runs tests. At the end it prints how long that took, and which
// servers were missing, with the command that installs them. go test does not
// print the skipped tests of a package that passes.
//
//	go run -C e2e ./cmd/tests [flag of go test ...]
//
// It imports only the standard library, so that it starts at once.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// skippedFile is servers.SkippedFile, an environment variable that contains the
// name of a file. A test that is skipped for lack of a server appends the
// reason to that file.
const skippedFile = "NAMEDLOCK_SKIPPED_FILE"

func main() {
	passed, err := false, inWorkspace()
	if err == nil {
		passed, err = run(os.Stdout, os.Args[1:], "work")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		os.Exit(1)
	}
	fmt.Println("NOT RUN: the alerts of docs/OPERATIONS.md, which need Prometheus (123 MB): GOWORK=off go test -C e2e/alerts .")
	fmt.Println("NOT RUN: wrappers around the driver, which are as large a download: GOWORK=off go test -C e2e/wrappers .")
	fmt.Println("NOT RUN: the code of docs/CRON.md and docs/MIGRATING.md, which needs schedulers: GOWORK=off go test -C e2e/cron .")
	fmt.Println("NOT RUN: the code of docs/ORM.md, which needs five ORMs: GOWORK=off go test -C e2e/orm .")
	if !passed {
		os.Exit(1)
	}
}

// inWorkspace returns an error if GOWORK is off. Then work means the packages
// of one module.
func inWorkspace() error {
	file, err := exec.Command("go", "env", "GOWORK").Output()
	if err == nil && strings.TrimSpace(string(file)) == "off" {
		err = errors.New("GOWORK=off leaves out most modules: unset it (go env GOWORK)")
	}
	return err
}

// run downloads, compiles and tests the packages.
func run(out io.Writer, flags []string, packages ...string) (passed bool, err error) {
	folder, err := os.MkdirTemp("", "namedlock-tests-")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	file := filepath.Join(folder, "skipped")

	// An interrupt also reaches the go command, which ends its tests. Then this
	// command ends.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	p := newProgress(out)
	defer p.end()
	build := buildFlags(flags)
	found, err := list(p, build, packages)
	if err != nil {
		return false, err
	}
	if err := compile(p, build, found); err != nil {
		return false, err
	}
	passed, err = test(p, append(os.Environ(), skippedFile+"="+file), flags, packages, found.tested)
	if err != nil {
		return false, err
	}
	reasons, err := skipped(file)
	for _, reason := range reasons {
		p.print("SKIPPED: " + reason + "\n")
	}
	return passed, err
}

// buildFlags returns the flags that change the compilation. (The flags in
// GOFLAGS always apply.)
func buildFlags(flags []string) (build []string) {
	for _, f := range flags {
		if name, _, _ := strings.Cut(strings.TrimLeft(f, "-"), "="); name == "race" || name == "tags" {
			build = append(build, f)
		}
	}
	return build
}

// A found is the result of list.
type found struct {
	modules  []string // our packages, and the packages of modules that they import
	standard int      // number of packages of the standard library that they import
	tested   int      // number of our packages with tests
}

// list finds the packages to compile. It downloads the modules that they need.
func list(p *progress, build, packages []string) (f found, err error) {
	downloads, hint := 0, "see above. Modules are downloaded once, which needs a network"
	p.begin(func() string {
		if downloads == 0 {
			return "looking for packages"
		}
		return fmt.Sprintf("downloading: %d modules so far", downloads)
	})
	const format = `{{.ImportPath}} {{if .Standard}}standard{{else if .ForTest}}variant{{else if .DepOnly}}needed{{else if or .TestGoFiles .XTestGoFiles}}tested{{end}}`
	cmd := exec.Command("go", slices.Concat([]string{"list", "-deps", "-test", "-f", format}, build, packages)...)
	err = p.run(cmd, func(line string) {
		path, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case kind == "standard":
			f.standard++
			return
		case strings.HasPrefix(kind, "[") || strings.HasSuffix(path, ".test"):
			return // a package's form for a test, and the test's main package
		case kind == "tested":
			f.tested++
		}
		f.modules = append(f.modules, path)
	}, func(line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			downloads++
			return
		}
		if strings.Contains(line, "-race requires cgo") {
			hint = "the race detector needs a C compiler and CGO_ENABLED=1"
		}
		p.printLocked(line)
	})
	if err != nil {
		err = fmt.Errorf("go list has failed (%w): %s", err, hint)
	}
	return f, err
}

// compile compiles the packages. If a package does not compile, go test reports
// that afterwards.
func compile(p *progress, build []string, f found) error {
	compiled := 0
	p.begin(func() string {
		return fmt.Sprintf("compiling: %d packages so far, of at most %d", compiled, len(f.modules)+f.standard)
	})
	cmd := exec.Command("go", slices.Concat([]string{"build", "-v"}, build, f.modules)...)
	var exit *exec.ExitError
	err := p.run(cmd, func(string) {}, func(string) { compiled++ })
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// atOnce is how many packages are tested at the same time: most of them wait
// for servers most of the time. On two processors, three take a fifth less time
// than go test's two.
var atOnce = max(3, runtime.NumCPU())

// test runs the tests of the packages. tested is the number of packages with
// tests.
func test(p *progress, env, flags, packages []string, tested int) (passed bool, err error) {
	began := time.Now()
	r := newReport(tested, slices.ContainsFunc(flags, func(f string) bool {
		return strings.HasPrefix(strings.TrimLeft(f, "-"), "v")
	}))
	p.begin(r.status)
	// The given flags come last, and so override. On a busy machine ten minutes
	// may be too short.
	cmd := exec.Command("go", slices.Concat([]string{"test", "-json", "-timeout=30m", fmt.Sprint("-p=", atOnce)}, flags, packages)...)
	cmd.Env = env
	failed := p.run(cmd, func(line string) {
		if text := r.line(line); text != "" {
			p.printLocked(text)
		}
	}, p.printLocked)
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return false, failed
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	p.print(r.summary(time.Since(began), cpu))
	return failed == nil, nil
}

// skipped returns the reasons in the file, each once. If the file does not
// exist, no test was skipped.
func skipped(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	slices.Sort(lines)
	return slices.Compact(lines), err
}
