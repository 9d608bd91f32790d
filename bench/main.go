// Command bench measures what the library has to reach, compared with raw
// statements and with other locks, on private servers that it starts and stops.
// It writes RESULTS.md and plots into its working directory.
//
//	go run -C bench .                    # five minutes, on a machine that does nothing else
//	go run -C bench . -quick -out elsewhere # less than one, into another folder
//	go run -C bench . -lines hot,handoff # those alone, printed and not written
//
// The same measurements are benchmarks, for profiles and comparisons: go test
// -C bench -bench .
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	short := flag.Bool("quick", false, "measure less, in less than one minute")
	out := flag.String("out", ".", "the `folder` for RESULTS.md and plots")
	only := flag.String("lines", "", "measure only these `lines`, separated by commas, and print them; write no files")
	flag.Parse()

	e, how := full, ""
	if *short {
		e, how = quick, " (with `-quick`)"
	}
	if err := run(e, how, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(e effort, how, out, only string) (err error) {
	f, err := newField()
	if err != nil {
		return err
	}
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- measure(f, e, how, out, only) }()
	select {
	case err = <-done:
	case <-interrupt:
		err = errors.New("interrupted")
	}
	return errors.Join(err, f.stop())
}

func measure(f *field, e effort, how, out, only string) error {
	start := time.Now()
	progress := func(what string) {
		fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(start).Seconds(), what)
	}
	r := &report{effort: how, versions: f.versions(), missing: f.missing}
	for _, t := range f.targets {
		s := serverRows{server: t.Version()}
		for _, l := range lines {
			if only != "" && !slices.Contains(strings.Split(only, ","), l.name) {
				continue
			}
			progress(t.Version() + ": " + l.name)
			rows, err := l.run(t, e)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", l.name, t.Version(), err)
			}
			s.rows = append(s.rows, rows...)
		}
		r.servers = append(r.servers, s)
	}
	if only != "" {
		b := bufio.NewWriter(os.Stdout)
		r.writeGoals(b)
		return b.Flush()
	}
	progress("alternatives")
	var err error
	if r.alternatives, err = f.alternatives(e); err != nil {
		return fmt.Errorf("alternatives: %w", err)
	}
	progress("plots")
	if err := f.draw(filepath.Join(out, "plots"), e); err != nil {
		return fmt.Errorf("plots: %w", err)
	}
	progress("done")
	file, err := os.Create(filepath.Join(out, "RESULTS.md"))
	if err != nil {
		return err
	}
	return errors.Join(r.write(file), file.Close())
}
