package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	workers = 3

	// patience is how long workers may take to end once they are told. A release
	// may take 5 s if the server has gone.
	patience = 10 * time.Second
)

// A contest runs the workers and takes note of what they do: all in one
// goroutine, one thing after the other.
type contest struct {
	length  time.Duration
	board   *board
	history history

	start     time.Time
	workers   [workers]*worker
	running   int
	over      bool // no section begins any more
	impatient <-chan time.Time
	failures  []error
}

func (c *contest) run(ctx context.Context, dsn string) {
	reports := make(chan report)
	for i := range c.workers {
		w, err := startWorker(dsn)
		if err != nil {
			c.fail(i, err)
			break
		}
		c.workers[i] = w
		c.running++
		go w.listen(i, reports)
	}
	// The time begins when all are there. Each says that it waits, and goes on
	// only when answered.
	var first []report
	for range c.running {
		first = append(first, <-reports)
	}
	c.start = time.Now()
	for _, r := range first {
		c.hear(r)
	}

	tick := time.NewTicker(column)
	defer tick.Stop()
	end := time.After(c.length)
	interrupt := ctx.Done()
	for c.running > 0 {
		select {
		case r := <-reports:
			c.hear(r)
		case <-tick.C:
			c.board.advance(&c.history)
			if holder := c.history.holder(); holder >= 0 && c.history.kill == nil && !c.over && c.now() > c.length/2 {
				c.kill(holder)
			}
		case <-end:
			c.end()
		case <-interrupt:
			interrupt = nil
			c.end()
		case <-c.impatient:
			for _, w := range c.workers {
				if w != nil {
					w.cmd.Process.Kill() // fails for those that have ended
				}
			}
		}
	}
}

func (c *contest) now() time.Duration { return time.Since(c.start) }

func (c *contest) hear(r report) {
	if r.end {
		c.exited(r)
	} else {
		c.said(r)
	}
}

func (c *contest) said(r report) {
	h, now := &c.history, c.now()
	// What the killed worker had said last is too late, and a section that would
	// begin after the end does not: its worker gets no answer.
	if h.now[r.worker] == gone {
		return
	}
	switch r.said {
	case waits:
		h.wait(r.worker, now)
	case enters:
		orphan := h.kill != nil && h.kill.next < 0
		h.enter(r.worker, now)
		if orphan {
			c.board.say(now, "%s has the lock, %s after the kill", name(r.worker), milliseconds(h.kill.after))
		}
	case leaves:
		held := h.leave(r.worker, now)
		c.board.note(now, "%s had the lock for %s", name(r.worker), seconds(held))
		if c.over {
			c.dismiss(r.worker)
			return
		}
	}
	io.WriteString(c.workers[r.worker].stdin, "\n") // if it fails, the worker's end will be reported
}

func (c *contest) exited(r report) {
	c.running--
	c.history.exit(r.worker, c.now())
	complaint := bytes.TrimSpace(c.workers[r.worker].stderr.Bytes())
	switch k := c.history.kill; {
	case len(complaint) > 0:
		c.fail(r.worker, errors.New(string(complaint)))
	case k != nil && k.victim == r.worker:
	case r.err != nil:
		c.fail(r.worker, r.err)
	case !c.over:
		c.fail(r.worker, errors.New("ended too early"))
	}
}

func (c *contest) fail(worker int, err error) {
	c.failures = append(c.failures, fmt.Errorf("%s: %w", name(worker), err))
	c.end()
}

func (c *contest) kill(worker int) {
	now, p := c.now(), c.workers[worker].cmd.Process
	c.history.kills(worker, now)
	if err := p.Kill(); err != nil {
		c.fail(worker, err)
	}
	c.board.say(now, "%s is killed while it has the lock (process %d)", name(worker), p.Pid)
}

// end dismisses the workers, the one in a section after that.
func (c *contest) end() {
	if c.over {
		return
	}
	c.over = true
	c.impatient = time.After(patience)
	for i, w := range c.workers {
		if w != nil && c.history.now[i] != inside {
			c.dismiss(i)
		}
	}
}

func (c *contest) dismiss(worker int) {
	c.history.exit(worker, c.now())
	c.workers[worker].stdin.Close()
}

// verdict returns an error if the lock did not do what it is for, or a worker
// not what it should.
func (c *contest) verdict(interrupted bool) error {
	early := interrupted || len(c.failures) > 0
	return errors.Join(append(c.failures, c.history.verdict(early))...)
}
