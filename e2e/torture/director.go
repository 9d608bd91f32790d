package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-sql-driver/mysql"
)

// errBroken is returned if the history breaks a promise.
var errBroken = errors.New("broken promises")

// victim is the user of all sessions that may be killed.
const victim = "victim"

// A director runs the server, the workers and the faults, and judges the
// history.
type director struct {
	server  *servers.Server
	admin   *sql.DB
	door    *sql.DB // for new connections only
	seed    uint64
	folder  string   // of the histories
	keep    bool     // the histories in folder
	history *os.File // all events that were judged; it is kept if they break a promise
	record  *history.Recorder
	crew    [workers]*member
	report  *report
	current int // number of the round

	calls   int64 // of the stranger
	mu      sync.Mutex
	healing sync.WaitGroup // of the faults of a round
	failed  error          // the first error of torture itself
}

// theDirector is the name of the director's files. Its events have no worker's
// name.
const theDirector = "director"

// historyFile returns the name of the file for the events of a worker, or of
// the director, in a round.
func historyFile(folder, who string, round int) string {
	return filepath.Join(folder, fmt.Sprintf("%06d-%s.jsonl", round, who))
}

// torture runs for d, or until a promise is broken.
func torture(ctx context.Context, kind servers.Kind, d time.Duration, seed uint64, out string) (err error) {
	folder := out
	if folder != "" {
		folder = filepath.Join(folder, string(kind))
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		old, _ := filepath.Glob(filepath.Join(folder, "*.jsonl"))
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	} else if folder, err = os.MkdirTemp("", "namedlock-torture-"); err != nil {
		return err
	} else {
		defer os.RemoveAll(folder)
	}
	dir := &director{seed: seed, folder: folder, keep: out != "", report: newReport()}
	// A commit must survive every crash, since the ledger is compared with the
	// results of calls. A global variable would be gone after the first restart.
	if dir.server, err = servers.Start(kind, servers.WithArgs("--max-connections=1000", "--innodb-flush-log-at-trx-commit=1")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.server.Stop()) }()
	if dir.admin, err = open(dir.server.DSN("timeout=5s", statementLimit(dir.server.Kind())+"=0")); err != nil {
		return err
	}
	defer dir.admin.Close()
	if dir.door, err = open(dir.server.DSN("timeout=5s")); err != nil {
		return err
	}
	defer dir.door.Close()
	dir.door.SetMaxIdleConns(-1)
	if dir.record, err = history.Record(historyFile(folder, theDirector, 0), ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.record.Close()) }()
	if dir.history, err = os.CreateTemp(out, fmt.Sprintf("namedlock-torture-%s-%d-*.jsonl", kind, seed)); err != nil {
		return err
	}
	defer func() {
		_ = dir.history.Close()
		if !errors.Is(err, errBroken) {
			_ = os.Remove(dir.history.Name())
		}
	}()
	fmt.Printf("%s, seed %d, %v\n", dir.server.Version(), seed, d)
	if err := dir.prepare(ctx); err != nil {
		return err
	}
	defer dir.dismiss()
	stop := make(chan struct{})
	var beside sync.WaitGroup
	defer beside.Wait()
	defer close(stop)
	beside.Go(func() { dir.record.Watch(stop) })
	beside.Go(func() { dir.observe(stop) })
	beside.Go(func() { dir.knock(stop) })

	begun := time.Now()
	for round := 0; time.Since(begun) < d && ctx.Err() == nil; round++ {
		if err := dir.round(ctx, round); err != nil {
			dir.report.print(os.Stdout, time.Since(begun))
			return err
		}
	}
	err = dir.finish(ctx)
	dir.report.print(os.Stdout, time.Since(begun))
	return errors.Join(err, dir.report.decided())
}

func open(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{} // the default logger would log every connection that is killed
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// prepare makes the user, and hires the workers.
func (d *director) prepare(ctx context.Context) error {
	for _, host := range []string{"%", "localhost", "127.0.0.1"} {
		if _, err := d.admin.ExecContext(ctx, fmt.Sprintf("CREATE USER '%s'@'%s'", victim, host)); err != nil {
			return err
		}
		if _, err := d.admin.ExecContext(ctx, fmt.Sprintf("GRANT ALL ON test.* TO '%s'@'%s'", victim, host)); err != nil {
			return err
		}
	}
	if _, err := d.admin.ExecContext(ctx, makeLedger); err != nil {
		return err
	}
	for i := range d.crew {
		n, err := newNetwork(fmt.Sprintf("network %d", i), d.server.Addr())
		if err != nil {
			return err
		}
		d.crew[i] = &member{director: d, number: i, network: n}
		if err := d.crew[i].hire(); err != nil {
			return err
		}
	}
	return nil
}

// dismiss ends all workers that are still running.
func (d *director) dismiss() {
	for _, m := range d.crew {
		if m != nil {
			m.kill()
			_ = m.network.close() // no worker uses it any more
		}
	}
}

// restWithin is the longest time in which the calls of a round may end: the
// longest timeout is 2 s, and the bound for a silent server is some seconds.
const restWithin = 20 * time.Second

// round makes all workers work while its faults happen, and then rest. Then it
// judges the events.
func (d *director) round(ctx context.Context, number int) error {
	d.current = number
	if err := d.record.GoOn(historyFile(d.folder, theDirector, number)); err != nil {
		return err
	}
	for _, m := range d.crew {
		m.tell(order{Do: doWork, Nth: number})
	}
	stop := make(chan struct{})
	var stranger sync.WaitGroup
	stranger.Go(func() { d.stranger(stop) })
	d.inject(ctx, plan(d.seed, number))
	d.healing.Wait()
	close(stop)
	stranger.Wait()
	if err := d.rest(); err != nil {
		return err
	}
	return d.judge()
}

func (d *director) rest() error {
	if err := d.restore(); err != nil {
		d.fail(err)
	}
	for _, m := range d.crew {
		m.tell(order{Do: doRest})
	}
	for _, m := range d.crew {
		if !m.hear(isResting, restWithin) {
			d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "every caller is served or gets an error",
				Error: fmt.Sprintf("the calls of %s have not ended within %v:\n%s", m.name, restWithin, m.stacks())})
			return d.judge()
		}
	}
	d.record.Note(history.Event{Kind: history.EventRest, Held: d.leftOver()})
	d.auditLedger()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

func (d *director) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = err
	}
}

// finish makes the workers close everything, and checks that their sessions
// have ended.
func (d *director) finish(ctx context.Context) error {
	for _, m := range d.crew {
		m.tell(order{Do: doEnd})
	}
	for _, m := range d.crew {
		if !m.hear(hasEnded, restWithin) {
			d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "nothing leaks",
				Error: fmt.Sprintf("%s has not closed everything within %v:\n%s", m.name, restWithin, m.stacks())})
			return d.judge()
		}
	}
	var left []int64
	var err error
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left, err = d.victims(ctx); err == nil && len(left) == 0 {
			break
		}
	}
	if err != nil {
		return err
	}
	for _, m := range d.crew {
		if err := m.leave(); err != nil {
			d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "a process ends without an error", Error: err.Error()})
		}
	}
	if len(left) > 0 {
		d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "nothing leaks", Error: fmt.Sprintf("%d sessions are still on the server: %v", len(left), left)})
	}
	return d.judge()
}
