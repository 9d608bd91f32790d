package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

const (
	column  = 100 * time.Millisecond // of the timeline
	columns = 60
)

// A board shows who has the lock: on a terminal as a timeline for each worker,
// drawn again and again in place, elsewhere as plain lines.
type board struct {
	out      io.Writer
	terminal bool
	rows     [workers][]rune
	crossed  bool // the killed worker's row
	sayings  []string
	drawn    int // lines on the terminal that are to be drawn over
}

func newBoard(out io.Writer, terminal bool) *board {
	return &board{out: out, terminal: terminal}
}

// isTerminal is cautious: a Windows console may not know the escape codes.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 &&
		os.Getenv("TERM") != "dumb" && (runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "")
}

// advance adds a column for what the workers are doing now.
func (b *board) advance(h *history) {
	for worker, a := range h.now {
		mark := ' '
		switch {
		case a == inside:
			mark = '█'
		case a == waiting:
			mark = '░'
		case h.kill != nil && h.kill.victim == worker && !b.crossed:
			mark, b.crossed = '✕', true
		}
		row := append(b.rows[worker], mark)
		b.rows[worker] = row[max(0, len(row)-columns):]
	}
	if b.terminal {
		b.draw()
	}
}

// say shows what matters most.
func (b *board) say(now time.Duration, format string, args ...any) {
	saying := fmt.Sprintf("%5.2f s  %s", now.Seconds(), fmt.Sprintf(format, args...))
	b.sayings = append(b.sayings, saying)
	if b.terminal {
		b.draw()
	} else {
		fmt.Fprintln(b.out, saying)
	}
}

// note shows what a terminal's timeline shows anyway.
func (b *board) note(now time.Duration, format string, args ...any) {
	if !b.terminal {
		fmt.Fprintf(b.out, "%5.2f s  %s\n", now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// draw writes it all at once, lest it flicker.
func (b *board) draw() {
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	lines := b.lines()
	for _, line := range append(lines, b.sayings...) {
		s.WriteString(line + "\x1b[K\n")
	}
	b.drawn = len(lines) + len(b.sayings)
	io.WriteString(b.out, s.String())
}

func (b *board) lines() []string {
	var lines []string
	for worker, row := range b.rows {
		lines = append(lines, strings.TrimRight(name(worker)+"  "+string(row), " "))
	}
	return append(lines, "", "█ has the lock   ░ waits for it   ✕ killed", "")
}

// finish shows where there is no terminal how the timeline ended.
func (b *board) finish() {
	if b.terminal {
		return
	}
	fmt.Fprintln(b.out)
	for _, line := range b.lines()[:workers+2] {
		fmt.Fprintln(b.out, line)
	}
}
