package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// A line is a group of measurements with goals.
type line struct {
	name string
	run  func(target, effort) ([]row, error)
}

var lines = []line{
	{"cycle", cycleLine},
	{"tx", txLine},
	{"hot", hotLine},
	{"handoff", handOffLine},
	{"contended", contendedLine},
	{"held", heldLine},
	{"waiters", waitersLine},
	{"loss", lossLine},
	{"parallel", parallelLine},
	{"fresh", freshLine},
	{"command", commandLine},
	{"slots", slotsLine},
}

// A report has the results of one run.
type report struct {
	effort       string
	servers      []serverRows
	alternatives []alternative
	versions     []string
	missing      []string // servers that are not on the machine
}

type serverRows struct {
	server string
	rows   []row
}

// write writes the whole report.
func (r *report) write(w io.Writer) error {
	b := bufio.NewWriter(w)
	r.writeHead(b)
	r.writeGoals(b)
	r.writeAlternatives(b)
	r.writePlots(b)
	return b.Flush()
}

func (r *report) writeHead(b *bufio.Writer) {
	fmt.Fprintf(b, "# Results\n\nWritten by `go run -C bench .`%s on %s.\n\n", r.effort, time.Now().Format("2 January 2006"))
	fmt.Fprintf(b, "| | |\n| --- | --- |\n| processor | %s, %d cores, servers included |\n| system | %s/%s, %s |\n| servers | %s |\n",
		processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), strings.Join(r.versions, ", "))
	if len(r.missing) > 0 {
		fmt.Fprintf(b, "| left out | %s |\n", strings.Join(r.missing, "; "))
	}
}

func (r *report) writeGoals(b *bufio.Writer) {
	b.WriteString(`
## Goals

A ratio is the median of pairs that were measured in turns, A B A B. The spread is its least and greatest
pair. The ratio of the uncontended cycle compares the fastest turns of both sides.
`)
	for _, s := range r.servers {
		fmt.Fprintf(b, "\n### %s\n\n| what | ours | the other | result | spread | goal | met |\n| --- | ---: | ---: | ---: | ---: | ---: | --- |\n", s.server)
		for _, row := range s.rows {
			met := "yes"
			if !row.met {
				met = "**no**"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", row.what, row.ours, row.other, row.value, row.spread, row.goal, met)
		}
	}
}

func (r *report) writeAlternatives(b *bufio.Writer) {
	fmt.Fprintf(b, `
## Alternatives

Sections a second are measured with %d goroutines that all want one lock and do nothing under it.

| lock | server | uncontended cycle | spread | sections a second | spread |
| --- | --- | ---: | ---: | ---: | ---: |
`, crowd)
	for _, a := range r.alternatives {
		fmt.Fprintf(b, "| %s | %s | %s | %s – %s | %s | %s – %s |\n", a.what, a.server,
			duration(a.cycle.median()), duration(a.cycle.quantile(0)), duration(a.cycle.quantile(1)),
			perSecond(a.hot.median()), number(a.hot.quantile(0)), number(a.hot.quantile(1)))
	}
	b.WriteString(`
Locks by hand, atlas, and PostgreSQL use a connection for each goroutine that waits. redislock polls
every millisecond. namedlock and PostgreSQL serve waiters in their order; redislock does not.
`)
}

func (r *report) writePlots(b *bufio.Writer) {
	b.WriteString("\n## Plots\n\n")
	for _, s := range r.servers {
		fmt.Fprintf(b, "![sections a second against goroutines, %s](plots/%s)\n\n", s.server, hotPlot(s.server))
	}
	b.WriteString("![connections against waiters](plots/connections.svg)\n\n![time to notice a loss](plots/loss.svg)\n")
}

// processor returns the model's name if the system reports it.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
