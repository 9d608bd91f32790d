//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// A voice writes lines without ever being in the way of who has something to
// say: the end of the command must not wait for somebody who does not read
// standard error. When too many lines wait to be read, more are dropped.
type voice struct {
	lines  chan []byte
	silent chan struct{} // closed when all is written
	turn   chan struct{} // has one while a line is being written, or nothing may be
	file   *os.File
	spoken atomic.Bool // a line was said since this was set to false
}

const (
	mostLines = 256
	lastWords = 5 * time.Second // for what is left to be read at the end
)

func newVoice(w *os.File) *voice {
	v := &voice{lines: make(chan []byte, mostLines), silent: make(chan struct{}), turn: make(chan struct{}, 1), file: w}
	go func() {
		defer close(v.silent)
		for line := range v.lines {
			if line == nil {
				return
			}
			v.turn <- struct{}{}
			_, _ = w.Write(line)
			<-v.turn
		}
	}()
	return v
}

func (v *voice) Write(line []byte) (int, error) {
	v.spoken.Store(true)
	select {
	case v.lines <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// sayf says a line of this command's.
func (v *voice) sayf(format string, args ...any) {
	sayTo(v, fmt.Sprintf(format, args...))
}

// hush has nothing written until speak is called. It does not wait long for a
// line that nobody reads.
func (v *voice) hush() (speak func()) {
	select {
	case v.turn <- struct{}{}:
		return func() { <-v.turn }
	case <-time.After(100 * time.Millisecond):
		return func() {}
	}
}

// finish returns when all is written, or nobody has read it in time. What is
// said later is lost.
func (v *voice) finish() {
	inTime := time.After(lastWords)
	select {
	case v.lines <- nil:
	case <-inTime:
		return
	}
	select {
	case <-v.silent:
	case <-inTime:
	}
}

// logLines is a handler of a log that writes lines like all others of this
// command. It leaves out errors: they tell of losses, of which the command
// tells itself.
type logLines struct {
	w     io.Writer
	level slog.Level
	with  string // what every line ends with
}

func (l logLines) Enabled(_ context.Context, level slog.Level) bool {
	return level >= l.level && level < slog.LevelError
}

func (l logLines) Handle(_ context.Context, r slog.Record) error {
	text := strings.TrimPrefix(r.Message, prefix)
	r.Attrs(func(a slog.Attr) bool {
		text += attribute(a)
		return true
	})
	sayTo(l.w, text+l.with)
	return nil
}

func (l logLines) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		l.with += attribute(a)
	}
	return l
}

func (l logLines) WithGroup(string) slog.Handler { return l }

func attribute(a slog.Attr) string {
	value := a.Value.String()
	if err, ok := a.Value.Any().(error); ok {
		value = oneLine(err)
	}
	return ", " + a.Key + ": " + value
}
