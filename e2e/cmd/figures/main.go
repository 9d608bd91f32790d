// Command figures prints the size of the library's core, the bounds that its
// test enforces, and the goals.
//
//	go run -C e2e ./cmd/figures        # a table
//	go run -C e2e ./cmd/figures -v     # and the functions and files behind it
//	go test -C e2e ./cmd/figures       # fails if a figure is above its bound
//
// The core consists of the root package, internal/queue, internal/pool,
// internal/server and internal/peek, and of internal/slot, which is counted
// apart. Tests and generated files do not count.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// A figure is one number about the core.
type figure struct {
	what  string
	bound int      // the test fails above it; lower it when the figure is lower
	goal  int      // from the issue that asks for a smaller core
	now   int      // the measured value
	parts []string // the functions or files that were counted
}

func main() {
	verbose := flag.Bool("v", false, "print the functions and files that were counted")
	flag.Parse()
	figures, err := measure("../")
	if err == nil {
		err = write(os.Stdout, figures, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// measure measures the library in the folder root.
func measure(root string) ([]figure, error) {
	src, err := read(root)
	if err != nil {
		return nil, err
	}
	passed, err := functionsOfCycle(root, src.packages)
	if err != nil {
		return nil, err
	}
	lines, fields, long, files := src.lines(below...), src.fields(below...), src.longFunctions(), src.longFiles()
	slotLines, slotFields := src.lines(slots), src.fields(slots)
	arrows := src.arrowsBack()
	return []figure{
		{"functions passed by an uncontended WithLock", bounds.passed, 65, len(passed), passed},
		{"fields of the struct types of queue, pool, server and peek", bounds.fields, 120, sum(fields), texts(fields)},
		{"lines of queue, pool, server and peek", bounds.lines, 5700, sum(lines), texts(lines)},
		{"fields of the struct types of slot", bounds.slotFields, 28, sum(slotFields), texts(slotFields)},
		{"lines of slot", bounds.slotLines, 700, sum(slotLines), texts(slotLines)},
		{fmt.Sprintf("functions over %d lines", mostLinesOfFunction), bounds.functions, 0, len(long), texts(long)},
		{fmt.Sprintf("files over %d lines", mostLinesOfFile), bounds.files, 0, len(files), texts(files)},
		{"uses between files of the root package that go in a circle, except through " + center, bounds.arrows, 0, len(arrows), arrows},
	}, nil
}

// write prints a table of the figures and, if verbose, their parts.
func write(out io.Writer, figures []figure, verbose bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "now\tbound\tgoal\t  what\n")
	for _, f := range figures {
		fmt.Fprintf(w, "%d\t%d\t%d\t  %s\n", f.now, f.bound, f.goal, f.what)
	}
	if err := w.Flush(); err != nil || !verbose {
		return err
	}
	for _, f := range figures {
		fmt.Fprintf(out, "\n%s: %d\n", f.what, f.now)
		for _, part := range f.parts {
			fmt.Fprintf(out, "  %s\n", part)
		}
	}
	return nil
}
