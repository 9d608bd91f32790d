// Command mutants checks the checker. It breaks the library in many ways, one
// at a time. It runs torture against each mutant, or the test for a mutant that
// torture cannot detect. It fails if a mutant survives.
//
//	go run -C e2e ./torture/mutants -for 60s
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	var (
		duration = flag.Duration("for", time.Minute, "how long torture runs against each mutant, on each server")
		seed     = flag.Uint64("seed", 0, "seed of the faults; 0: a random seed for each mutant")
		server   = flag.String("server", "both", "mysql, mariadb, or both until a run has caught the mutant")
		run      = flag.String("run", "", "only mutants whose name matches this regular expression")
		list     = flag.Bool("list", false, "print the names and do nothing")
	)
	flag.Parse()
	which, err := regexp.Compile(*run)
	if err != nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	survivors := 0
	for _, m := range mutants {
		if !which.MatchString(m.name) {
			continue
		}
		if *list {
			fmt.Println(m.name)
			continue
		}
		caught, err := m.hunt(ctx, *duration, *seed, *server)
		if ctx.Err() != nil {
			os.Exit(1)
		}
		if err != nil {
			fmt.Printf("BROKEN   %s: %v\n", m.name, err)
		}
		if !caught {
			survivors++
		}
	}
	if survivors > 0 {
		fmt.Printf("%d mutants survived, or could not be run\n", survivors)
		os.Exit(1)
	}
}

// hunt builds torture with the mutant and runs it. It reports whether the
// mutant was caught.
func (m mutant) hunt(ctx context.Context, d time.Duration, seed uint64, server string) (caught bool, err error) {
	folder, err := os.MkdirTemp("", "namedlock-mutant-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(folder)
	overlay, err := m.overlay(ctx, folder)
	if err != nil {
		return false, err
	}
	if m.test != nil {
		return m.runTest(ctx, overlay)
	}
	program, err := build(ctx, overlay, folder)
	if err != nil {
		return false, err
	}
	if seed == 0 {
		seed = 1 + rand.Uint64N(1_000_000)
	}
	begun := time.Now()
	cmd := exec.CommandContext(ctx, program, "-for", d.String(), "-seed", fmt.Sprint(seed), "-server", server, "-out", folder)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	took := time.Since(begun).Round(100 * time.Millisecond)
	if err == nil {
		fmt.Printf("SURVIVED %-46s %v, seed %d\n", m.name, took, seed)
		return false, nil
	}
	how, found := brokenPromise(out.String())
	if ctx.Err() != nil || !found {
		return false, fmt.Errorf("%w:\n%s", errors.Join(err, ctx.Err()), out.String())
	}
	fmt.Printf("caught   %-46s %v, seed %d: %s\n", m.name, took, seed, how)
	return true, nil
}

// brokenPromise returns the first promise that torture found broken.
func brokenPromise(out string) (promise string, found bool) {
	_, after, found := strings.Cut(out, "BROKEN: ")
	promise, _, _ = strings.Cut(after, "\n")
	return promise, found
}

// runTest runs the mutant's test, and reports whether the test failed.
func (m mutant) runTest(ctx context.Context, overlay string) (caught bool, err error) {
	root, err := libraryRoot(ctx)
	if err != nil {
		return false, err
	}
	begun := time.Now()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-timeout=2m", "-run", "^"+m.test.name+"$", ".")
	cmd.Dir = filepath.Join(root, m.test.dir)
	out, err := cmd.CombinedOutput()
	took := time.Since(begun).Round(100 * time.Millisecond)
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return false, fmt.Errorf("there is no %s in %s", m.test.name, m.test.dir)
	case err == nil:
		fmt.Printf("SURVIVED %-46s %v, %s\n", m.name, took, m.test.name)
		return false, nil
	case ctx.Err() != nil || !bytes.Contains(out, []byte("--- FAIL: "+m.test.name)):
		return false, fmt.Errorf("%w:\n%s", errors.Join(err, ctx.Err()), out)
	}
	fmt.Printf("caught   %-46s %v: %s\n", m.name, took, m.test.name)
	return true, nil
}

// overlay writes the mutant's files into folder. It returns the file that makes
// the go command use them in place of the library's files.
func (m mutant) overlay(ctx context.Context, folder string) (described string, err error) {
	root, err := libraryRoot(ctx)
	if err != nil {
		return "", err
	}
	files, err := m.apply(root)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for file, text := range files {
		mutated := filepath.Join(folder, fmt.Sprintf("%d.go", len(overlay.Replace)))
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, file)] = mutated
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	described = filepath.Join(folder, "overlay.json")
	return described, os.WriteFile(described, b, 0o600)
}

// build compiles torture with the overlay.
func build(ctx context.Context, overlay, folder string) (program string, err error) {
	root, err := libraryRoot(ctx)
	if err != nil {
		return "", err
	}
	program = filepath.Join(folder, "torture")
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", program, "./torture")
	cmd.Dir = filepath.Join(root, "e2e")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return program, nil
}

func libraryRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-namedlock/namedlock").Output()
	if err != nil {
		return "", fmt.Errorf("find the library: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// apply returns the files that the mutant changes, by their names below root.
// Every old snippet must occur once.
func (m mutant) apply(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, e := range m.edits {
		text, ok := files[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s: the snippet occurs %d times instead of once: %q", e.file, n, e.old)
		}
		files[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return files, nil
}
