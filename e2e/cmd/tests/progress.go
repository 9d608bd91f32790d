package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// interval is the longest time without a line of output.
const interval = 15 * time.Second

// A progress runs commands. If nothing was printed for an interval, it prints
// the status.
type progress struct {
	mu     sync.Mutex // guards out, status and quiet
	out    io.Writer
	status func() string
	quiet  *time.Timer

	began time.Time
	over  chan struct{}
	work  sync.WaitGroup
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, quiet: time.NewTimer(interval), began: time.Now(), over: make(chan struct{})}
	p.work.Go(p.tick)
	return p
}

func (p *progress) tick() {
	for {
		select {
		case <-p.over:
			return
		case <-p.quiet.C:
			p.mu.Lock()
			p.statusLocked()
			p.mu.Unlock()
		}
	}
}

func (p *progress) end() {
	close(p.over)
	p.work.Wait()
}

// begin starts a phase. status returns its status line, and is called under mu.
func (p *progress) begin(status func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
	p.statusLocked()
}

func (p *progress) statusLocked() {
	p.printLocked(fmt.Sprintf("-- %v: %s\n", time.Since(p.began).Round(time.Second), p.status()))
}

func (p *progress) print(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printLocked(text)
}

func (p *progress) printLocked(text string) {
	_, _ = io.WriteString(p.out, text)
	p.quiet.Reset(interval)
}

// run runs cmd. It calls stdout and stderr, under mu, with each line that cmd
// writes, and returns when cmd has ended and all lines have been read.
func (p *progress) run(cmd *exec.Cmd, stdout, stderr func(line string)) error {
	var readers sync.WaitGroup
	for _, end := range []struct {
		pipe func() (io.ReadCloser, error)
		line func(string)
	}{{cmd.StdoutPipe, stdout}, {cmd.StderrPipe, stderr}} {
		pipe, err := end.pipe()
		if err != nil {
			return err
		}
		readers.Go(func() {
			r := bufio.NewReader(pipe)
			for {
				line, err := r.ReadString('\n')
				if line != "" {
					p.mu.Lock()
					end.line(line)
					p.mu.Unlock()
				}
				if err != nil {
					return
				}
			}
		})
	}
	if err := cmd.Start(); err != nil {
		return err // the pipes are closed, so the readers end
	}
	readers.Wait()
	return cmd.Wait()
}
