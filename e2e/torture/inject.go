package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// inject makes the faults happen, each at its time, and returns when the round
// is over. Faults that last are undone by goroutines of their own: see healing.
func (d *director) inject(ctx context.Context, faults []fault) {
	begun := time.Now()
	wait := func(until time.Duration) {
		select {
		case <-time.After(until - time.Since(begun)):
		case <-ctx.Done():
		}
	}
	busy := make(map[string]chan struct{}) // closed when the fault at the target has been undone
	for _, f := range faults {
		wait(f.At)
		target, act := d.act(f)
		if f.For == 0 && target == "" {
			act()
			continue
		}
		before, done := busy[target], make(chan struct{})
		busy[target] = done
		d.healing.Go(func() {
			defer close(done)
			if before != nil {
				<-before // only one fault at a time happens to a target
			}
			act()
		})
	}
	wait(roundTime)
}

// act returns the function that makes the fault happen. If that takes time, or
// must not happen twice at a time, act also returns the target.
func (d *director) act(f fault) (target string, act func()) {
	m := d.crew[f.Worker]
	switch f.Kind {
	case history.Kill, history.KillQuery:
		return "", func() { d.killSession(f) }
	case history.Cut:
		return m.network.name, func() { d.lasts(f, m.network.name, m.network.cut) }
	case history.Stall:
		return m.network.name, func() { d.lasts(f, m.network.name, m.network.stall) }
	case history.Silence:
		return m.network.name, func() { d.lasts(f, m.network.name, m.network.silence) }
	case history.Slow:
		return m.network.name, func() {
			d.lasts(f, m.network.name, func() (func() error, error) { return m.network.slow(f.Value) })
		}
	case history.Crash:
		return "server", func() {
			d.lasts(f, "", func() (func() error, error) { return d.server.Restart, d.server.Kill() })
		}
	case history.Freeze:
		return "server", func() {
			d.lasts(f, "", func() (func() error, error) { return d.server.Resume, d.server.Pause() })
		}
	case history.Idle:
		return "", func() { d.set(f, "wait_timeout", int64(f.Value/time.Second)) }
	case history.Limits:
		if d.server.Kind() == servers.MySQL {
			return "", func() { d.set(f, "max_execution_time", f.Value.Milliseconds()) }
		}
		return "", func() { d.set(f, "max_statement_time", f.Value.Seconds()) }
	case history.KillWorker:
		return fmt.Sprint("worker ", f.Worker), func() {
			from := history.Now()
			name := m.name
			m.kill()
			d.happened(f.Kind, name, 0, from)
			if err := m.hire(); err != nil {
				d.fail(err)
				return
			}
			m.tell(order{Do: doWork, Nth: d.current})
		}
	case history.StopWorker:
		return fmt.Sprint("worker ", f.Worker), func() {
			d.lasts(f, m.name, func() (func() error, error) {
				return func() error { return m.tellProcess(resume) }, m.tellProcess(suspend)
			})
		}
	}
	return "", func() {
		m.tell(order{Do: f.Kind, Pick: f.Pick, Nth: f.Nth, Text: f.Text, How: f.How, For: f.Value})
		if f.Kind == history.Pool || f.Kind == history.CloseAll { // the other faults are counted when they happen
			d.report.faults[f.Kind]++
		}
	}
}

func (d *director) happened(kind, target string, session, from int64) {
	d.record.Note(history.Event{Kind: history.EventFault, Fault: kind, Target: target, Session: session, From: from})
}

// lasts makes a fault happen to target, and undoes it after f.For.
func (d *director) lasts(f fault, target string, do func() (undo func() error, err error)) {
	from := history.Now()
	undo, err := do()
	if err != nil {
		d.fail(fmt.Errorf("%s: %w", f.Kind, err))
		return
	}
	<-time.After(f.For)
	if err := undo(); err != nil {
		d.fail(fmt.Errorf("undo %s: %w", f.Kind, err))
	}
	d.happened(f.Kind, target, 0, from)
}

// briefly is the time limit for the director's own statements during faults.
const briefly = 2 * time.Second

func (d *director) killSession(f fault) {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	sessions, err := d.victims(ctx)
	if err != nil || len(sessions) == 0 {
		return // the server is away
	}
	if f.Pick%3 > 0 { // prefer a session that holds a lock
		if held, err := d.holders(ctx); err == nil {
			holding := slices.DeleteFunc(slices.Clone(sessions), func(session int64) bool {
				return !slices.Contains(slices.Collect(maps.Values(held)), session)
			})
			if len(holding) > 0 {
				sessions = holding
			}
			// In one of three cases the session is the one whose lock is passed on by
			// hand-off.
			if hot := held[busyNames[0]]; f.Pick%3 == 2 && slices.Contains(sessions, hot) {
				sessions = []int64{hot}
			}
		}
	}
	session := sessions[f.Pick%len(sessions)]
	from := history.Now()
	what := strings.ToUpper(f.Kind)
	if f.Kind == history.Kill {
		what += " CONNECTION"
	}
	// The session may have ended in the meantime.
	_, _ = d.admin.ExecContext(ctx, fmt.Sprintf("%s %d", what, session))
	d.happened(f.Kind, "", session, from)
}

// victims returns the sessions of the library.
func (d *director) victims(ctx context.Context) (sessions []int64, err error) {
	rows, err := d.admin.QueryContext(ctx, "SELECT id FROM information_schema.processlist WHERE user = ?", victim)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		sessions = append(sessions, id)
	}
	slices.Sort(sessions)
	return sessions, rows.Err()
}

// set changes a variable of the server for the rest of the round.
func (d *director) set(f fault, variable string, value any) {
	ctx, cancel := context.WithTimeout(context.Background(), briefly)
	defer cancel()
	from := history.Now()
	if _, err := d.admin.ExecContext(ctx, fmt.Sprintf("SET GLOBAL %s = %v", variable, value)); err != nil {
		return // the server is away
	}
	d.happened(f.Kind, "", 0, from)
}

// restore resets the variables that faults have changed.
func (d *director) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), restWithin)
	defer cancel()
	_, err := d.admin.ExecContext(ctx, fmt.Sprintf("SET GLOBAL wait_timeout = DEFAULT, GLOBAL %s = DEFAULT", statementLimit(d.server.Kind())))
	return err
}

// statementLimit returns the variable with the time limit for statements.
func statementLimit(kind servers.Kind) string {
	if kind == servers.MariaDB {
		return "max_statement_time"
	}
	return "max_execution_time"
}
