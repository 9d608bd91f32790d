package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// A history is the events of the workers, numbered from 0, in the order in
// which the parent recorded them. No clocks are compared. The order neither
// hides an overlap nor invents one: a worker enters and leaves inside the
// function under the lock, and continues only after the parent has recorded the
// event.
type history struct {
	now      [workers]activity
	since    [workers]time.Duration
	sections [workers]int // those that went from enter to leave
	overlaps []overlap
	waited   time.Duration // at the longest
	kill     *kill
}

type activity int

const (
	pausing activity = iota
	waiting
	inside
	gone
)

type overlap struct {
	inside, entering int
	at               time.Duration
}

type kill struct {
	victim int
	at     time.Duration
	next   int // the worker that entered next, -1 for none
	after  time.Duration
}

func (h *history) become(worker int, a activity, at time.Duration) (lasted time.Duration) {
	lasted = at - h.since[worker]
	if h.now[worker] == waiting {
		h.waited = max(h.waited, lasted)
	}
	h.now[worker], h.since[worker] = a, at
	return lasted
}

func (h *history) wait(worker int, at time.Duration) {
	h.become(worker, waiting, at)
}

func (h *history) enter(worker int, at time.Duration) {
	for other, a := range h.now {
		if a == inside {
			h.overlaps = append(h.overlaps, overlap{inside: other, entering: worker, at: at})
		}
	}
	if k := h.kill; k != nil && k.next < 0 {
		k.next, k.after = worker, at-k.at
	}
	h.become(worker, inside, at)
}

func (h *history) leave(worker int, at time.Duration) (held time.Duration) {
	h.sections[worker]++
	return h.become(worker, pausing, at)
}

// kills ends the victim's section. Call it just before the kill, since the
// server may pass the lock on before the parent notices that the victim is
// dead.
func (h *history) kills(victim int, at time.Duration) {
	h.become(victim, gone, at)
	h.kill = &kill{victim: victim, at: at, next: -1}
}

func (h *history) exit(worker int, at time.Duration) {
	h.become(worker, gone, at)
}

// holder returns the worker inside, -1 for none.
func (h *history) holder() int {
	for worker, a := range h.now {
		if a == inside {
			return worker
		}
	}
	return -1
}

// verdict returns an error if the lock did not work. A run that ended early may
// have been too short for all events.
func (h *history) verdict(early bool) error {
	total := 0
	for _, n := range h.sections {
		total += n
	}
	switch {
	case len(h.overlaps) > 0:
		o := h.overlaps[0]
		return fmt.Errorf("overlaps: %d; in the first, %s entered at %s while %s was inside",
			len(h.overlaps), name(o.entering), seconds(o.at), name(o.inside))
	case early:
		return nil
	case total == 0:
		return errors.New("no section ran to its end")
	case h.kill == nil:
		return errors.New("no worker held the lock when one should be killed")
	case h.kill.next < 0:
		return errors.New("the lock did not move on after the kill")
	}
	return nil
}

func (h *history) summarize(out io.Writer, srv server) {
	total, each := 0, ""
	for worker, n := range h.sections {
		total += n
		each += fmt.Sprintf(", %s: %d", name(worker), n)
	}
	killed := "no worker was killed"
	if k := h.kill; k != nil {
		killed = name(k.victim) + " while it held the lock"
		if k.next >= 0 {
			killed += fmt.Sprintf("; %s had it %s later", name(k.next), milliseconds(k.after))
		}
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(table, "runs\t%d (%s)\n", total, each[2:])
	fmt.Fprintf(table, "overlaps\t%d\n", len(h.overlaps))
	fmt.Fprintf(table, "longest wait\t%s\n", seconds(h.waited))
	fmt.Fprintf(table, "killed\t%s\n", killed)
	fmt.Fprintf(table, "server\t%s\n", srv)
	table.Flush()
	if srv.inMemory {
		fmt.Fprint(out, inMemoryNote)
	}
}

const inMemoryNote = `
The server in memory has named locks, served in turn, and nothing else. To see the same on yours:

	go run -C examples ./quickstart -dsn 'user:password@tcp(host:3306)/'
`

func name(worker int) string { return fmt.Sprintf("worker %d", worker+1) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
