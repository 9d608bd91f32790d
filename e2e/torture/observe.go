package main

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
)

// holders asks the server who has which of the names.
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

// observe writes down who has which name, and how long the server takes to say
// so.
func (d *director) observe(stop <-chan struct{}) {
	every(20*time.Millisecond, stop, func(ctx context.Context) {
		from := history.Now()
		if held, err := d.holders(ctx); err == nil {
			d.record.Note(history.Event{Kind: history.EventSample, From: from, Held: held})
		}
	})
}

// knock opens connections and asks what a greeting does, and notes how late the
// server answers: a call that needs a new session does not count that as a
// wait.
func (d *director) knock(stop <-chan struct{}) {
	const prompt = 10 * time.Millisecond
	every(50*time.Millisecond, stop, func(ctx context.Context) {
		due := history.Now() + int64(prompt)
		const question = "SELECT VERSION(), (SELECT COUNT(*) FROM information_schema.PLUGINS)"
		var version string
		var plugins int
		if err := d.door.QueryRowContext(ctx, question).Scan(&version, &plugins); err == nil { // the pool keeps no connection
			if now := history.Now(); now > due {
				d.record.Note(history.Event{Kind: history.EventLate, From: due, At: now})
			}
		}
	})
}

// every has f look, again and again until stop is closed.
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

// leftOver returns which names are still held when all have rested for as long
// as the server may take.
func (d *director) leftOver() map[string]int64 {
	// A session whose client has gone without a word is noticed within a second,
	// and may be granted what it waited for in that time.
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

// stranger takes locks without the library.
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
