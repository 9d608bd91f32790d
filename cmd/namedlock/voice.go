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

// A voice writes lines without blocking its callers. The end of the command
// must not wait for a reader of standard error. If more than mostLines lines
// are unread, further lines are dropped.
type voice struct {
	lines  chan []byte
	silent chan struct{} // closed when all is written
	turn   chan struct{} // has an element while a line is being written, or writing is suspended
	file   *os.File
	spoken atomic.Bool // a line was written since this was set to false
}

const (
	mostLines = 256
	lastWords = 5 * time.Second // how long finish waits for unread lines
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

// sayf writes a message of this command.
func (v *voice) sayf(format string, args ...any) {
	sayTo(v, fmt.Sprintf(format, args...))
}

// hush suspends writing until speak is called. It waits at most 100 ms for a
// line that is not being read.
func (v *voice) hush() (speak func()) {
	select {
	case v.turn <- struct{}{}:
		return func() { <-v.turn }
	case <-time.After(100 * time.Millisecond):
		return func() {}
	}
}

// finish returns when all lines are written, or after lastWords. Later lines
// are lost.
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

// logLines is a log handler that writes lines in the form of this command. It
// leaves out errors: they are about losses, which the command reports itself.
type logLines struct {
	w     io.Writer
	level slog.Level
	with  string // the end of every line
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
