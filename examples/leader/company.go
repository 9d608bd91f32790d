package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// A company is three worker processes that call Lead, and the parent that
// watches their writes.
type company struct {
	db    *sql.DB
	began time.Time
	of    map[string]*exec.Cmd // by name
	heard sync.WaitGroup       // until all output of the workers is printed

	mu  sync.Mutex // guards out
	out io.Writer
}

// A tick is a row of the table.
type tick struct {
	leader  string
	session int64
}

func (k tick) String() string { return k.leader }

func startCompany(db *sql.DB, dsn string, out io.Writer) (*company, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &company{db: db, began: time.Now(), of: map[string]*exec.Cmd{}, out: out}
	for _, name := range []string{"Ada", "Ben", "Cleo"} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), workerDSN+"="+dsn, workerName+"="+name)
		said, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			c.stop()
			return nil, err
		}
		c.of[name] = cmd
		c.heard.Go(func() {
			for lines := bufio.NewScanner(said); lines.Scan(); {
				c.say("  %s", lines.Text())
			}
		})
	}
	return c, nil
}

// stop ends the processes that still run.
func (c *company) stop() {
	for _, cmd := range c.of {
		_ = cmd.Process.Kill()
	}
	c.heard.Wait()
	for _, cmd := range c.of {
		_ = cmd.Wait()
	}
}

func (c *company) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "%5.1fs  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

func (c *company) newest(ctx context.Context) (k tick, err error) {
	err = c.db.QueryRowContext(ctx, "SELECT leader, session FROM "+table+" ORDER BY n DESC LIMIT 1").Scan(&k.leader, &k.session)
	if errors.Is(err, sql.ErrNoRows) {
		return k, nil
	}
	return k, err
}

// next returns when another worker than before has written.
func (c *company) next(ctx context.Context, before string) (tick, error) {
	const patience = time.Minute
	for end := time.Now().Add(patience); time.Now().Before(end); {
		k, err := c.newest(ctx)
		if err != nil || k.leader != "" && k.leader != before {
			return k, err
		}
		if err := c.pause(ctx, 5*time.Millisecond); err != nil {
			return tick{}, err
		}
	}
	return tick{}, fmt.Errorf("no process has led for %v", patience)
}

func (c *company) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
