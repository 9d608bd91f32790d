package main

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
)

// holders queries the server for the holders of the names.
func (d *director) holders(ctx context.Context) (held map[string]int64, err error) {
	var args []any
	ids := make([]sql.NullInt64, len(watchNames))
	var dest []any
	for i, name := range watchNames {
		args = append(args, name)
		dest = append(dest, &ids[i])
	}
	query := "SELECT " + strings.Repeat("IS_USED_LOCK(?), ", len(watchNames)-1) + "IS_USED_LOCK(?)"
	if err := d.admin.QueryRowContext(ctx, query, args...).Scan(dest...); err != nil {
		return nil, err
	}
	held = make(map[string]int64)
	for i, name := range watchNames {
		held[name] = ids[i].Int64
	}
	return held, nil
}

// observe records who holds which name, and how long the server takes to
// answer.
func (d *director) observe(stop <-chan struct{}) {
	every(20*time.Millisecond, stop, func(ctx context.Context) {
		from := history.Now()
		if held, err := d.holders(ctx); err == nil {
			d.record.Note(history.Event{Kind: history.EventSample, From: from, Held: held})
		}
	})
}

// knock opens connections and sends a query like the greeting, the first query
// on a new session. It records how late the server answers, since a call that
// needs a new session does not count that as a wait.
func (d *director) knock(stop <-chan struct{}) {
	const prompt = 10 * time.Millisecond
	every(50*time.Millisecond, stop, func(ctx context.Context) {
		due := history.Now() + int64(prompt)
		const question = "SELECT VERSION(), (SELECT COUNT(*) FROM information_schema.PLUGINS)"
		var version string
		var plugins int
		// The pool keeps no connection.
		if err := d.door.QueryRowContext(ctx, question).Scan(&version, &plugins); err == nil {
			if now := history.Now(); now > due {
				d.record.Note(history.Event{Kind: history.EventLate, From: due, At: now})
			}
		}
	})
}

// every calls f at each period, until stop is closed.
func every(period time.Duration, stop <-chan struct{}, f func(ctx context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), restWithin)
		f(ctx)
		cancel()
	}
}

// leftOver returns the names that are still held 1250 ms after all workers have
// rested.
func (d *director) leftOver() map[string]int64 {
	// A server detects within 1 s that a client has vanished, and may grant its
	// wait in that time.
	const within = 1250 * time.Millisecond
	ctx, cancel := context.WithTimeout(context.Background(), restWithin)
	defer cancel()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		held, err := d.holders(ctx)
		if err != nil {
			d.fail(err)
			return nil
		}
		for name, session := range held {
			if session == 0 {
				delete(held, name)
			}
		}
		if len(held) == 0 || time.Since(begun) > within {
			return held
		}
	}
}

// stranger acquires locks without the library.
func (d *director) stranger(stop <-chan struct{}) {
	var conn *sql.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close() // it may be broken
		}
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(i%7) * 5 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), restWithin)
		var err error
		if conn == nil {
			conn, err = d.admin.Conn(ctx)
		}
		if err == nil {
			err = d.strangerOnce(ctx, conn, watchNames[i%len(watchNames)])
		}
		cancel()
		if err != nil && conn != nil {
			_ = conn.Close()
			conn = nil
		}
	}
}

func (d *director) strangerOnce(ctx context.Context, conn *sql.Conn, name string) error {
	d.calls++
	note := func(e history.Event) {
		e.Worker, e.Call = history.Foreign, d.calls
		d.record.Note(e)
	}
	called := history.Now()
	var answer sql.NullInt64
	err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 1)", name).Scan(&answer)
	if err != nil || answer.Int64 != 1 {
		return err
	}
	note(history.Event{Kind: history.EventCall, At: called, Locker: history.Foreign, Name: name, Timeout: time.Second})
	note(history.Event{Kind: history.EventBegin, Called: called})
	<-time.After(time.Duration(d.calls%3) * time.Millisecond)
	note(history.Event{Kind: history.EventEnd})
	err = conn.QueryRowContext(ctx, "SELECT RELEASE_LOCK(?)", name).Scan(&answer)
	outcome := history.Lost
	if err == nil && answer.Int64 == 1 {
		outcome = history.Clean
	}
	note(history.Event{Kind: history.EventReturn, Called: called, Outcome: outcome})
	return err
}
