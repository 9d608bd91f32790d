package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
)

// A statement belongs to one session.
type statement struct {
	text string
	// The text that is prepared, if it differs from text. It takes names in
	// hexadecimal digits, so it is also right after code of the user's has run.
	inHex string
	// It does not wait, and its answer is always a row: it is prepared from its
	// second use. A statement that may fail is not: MySQL Router drops the
	// client of a prepared statement that fails.
	short    bool
	used     bool
	refused  bool // the server did not prepare it: max_prepared_stmt_count, a proxy
	prepared driver.Stmt
}

var (
	ErrClosed   = errors.New("the server closed the connection")
	ErrSilent   = errors.New("no answer")
	ErrOccupied = errors.New("the connection is busy: close the rows of your own query first")
	errGoodbye  = errors.New("unexpected packet from the server, as it sends before closing a connection")

	// ErrCutOff is not a loss. The server goes on with the statement, then
	// rolls back, and frees the locks after that. No KILL is sent to end it
	// earlier: through a proxy the connection id may be another client's.
	ErrCutOff = errors.New("session closed: a context ended during a statement of the transaction")

	errClosedMeanwhile = errors.New("session closed during the statement: no caller was waiting for it any more, or the session was lost")

	// ErrReturned: the caller of New has closed the connection, which may be
	// back in its pool with locks on it.
	ErrReturned = errors.New("the *sql.Conn given to New was closed before the Locker: close the Locker first")
)

// ask runs st, which selects one number. bound begins when the connection is
// free for st.
func (c *Conn) ask(bound time.Duration, st *statement, args []driver.NamedValue) (sql.NullInt64, error) {
	err := c.query(bound, st, args, &c.number)
	return c.number.value, err
}

// A column is an expression of a SELECT, and where its value goes.
type column struct {
	text string
	dest sql.Scanner
}

// read selects columns, of one row.
func (c *Conn) read(bound time.Duration, args []driver.NamedValue, columns ...column) error {
	texts, dest := split(columns)
	return c.query(bound, &statement{text: c.selecting(texts...)}, args, dest)
}

// split returns the columns' texts, and the destinations of their values.
func split(columns []column) (texts []string, dest one) {
	texts, dest = make([]string, 0, len(columns)), make(one, 0, len(columns))
	for _, c := range columns {
		texts, dest = append(texts, c.text), append(dest, c.dest)
	}
	return texts, dest
}

// scan runs text for one row.
func (c *Conn) scan(bound time.Duration, text string, dest ...sql.Scanner) error {
	return c.query(bound, &statement{text: text}, nil, one(dest))
}

// exec runs text for no row.
func (c *Conn) exec(bound time.Duration, text string) error {
	return c.query(bound, &statement{text: text}, nil, none{})
}

// query runs st and passes its rows to answer. It uses the driver's connection
// inside Raw, so that the bound begins only after a statement that code of the
// user's runs on the connection has ended.
func (c *Conn) query(bound time.Duration, st *statement, args []driver.NamedValue, answer receiver) error {
	var failed error
	if err := c.raw(func(conn driver.Conn) error {
		failed = c.queryOn(conn, bound, st, args, answer)
		return nil // the pool discards a broken session, not Raw
	}); err != nil {
		return err
	}
	return failed
}

// queryOn is query on the driver's connection. The statement runs under the
// session's context, and never under a caller's.
//
// Until the answer is read, the driver watches a context that can end, and
// wakes a goroutine twice. That adds measurably to a short statement (see the
// bench). Only silence breaks a short statement, and closing the socket does
// the same. So it runs under a context that cannot end.
func (c *Conn) queryOn(conn driver.Conn, bound time.Duration, st *statement, args []driver.NamedValue, answer receiver) error {
	switch state := c.stateOf(conn); {
	case state == Occupied && c.UsedByCode():
		return ErrOccupied
	case state == Occupied:
		return errGoodbye
	case state == CutOff:
		return ErrCutOff
	}
	c.begun = clock.Now()
	c.silence.Reset(bound)
	ctx := c.ctx
	if st.short && c.driver.Socket != nil {
		c.toClose.Store(true)
		defer c.toClose.Store(false)
		ctx = context.Background()
	}
	var rows driver.Rows
	err := c.ctx.Err() // now, since BreakOff cancels before it reads toClose
	if err == nil {
		rows, err = c.send(st, wire{conn, ctx}, args)
	}
	if err == nil {
		err = answer.receive(rows)
		// An answer that does not end properly is not an answer.
		if ended := rows.Close(); err == nil {
			err = ended
		}
	}
	if err != nil {
		err = c.classified(err)
	}
	return c.ended(err, c.begun, bound)
}

// ended stops the timer for the bound of a statement that began at begun, and
// returns the statement's error.
func (c *Conn) ended(err error, begun, bound time.Duration) error {
	if !c.silence.Stop() {
		// The bound may have passed after the answer. But c.ctx has ended, or
		// is about to, and the next statement would fail.
		return fmt.Errorf("%w within %v", ErrSilent, bound)
	}
	switch {
	case err == nil, IsAnswer(err):
		c.answered.Store(int64(begun)) // rows may have been open until now, for longer than the idle limit
	case IsContext(err):
		return errClosedMeanwhile // a caller would take it for the end of its own context
	}
	return err
}

// BreakOff ends the statement that runs, if any, by closing the socket, and
// makes every later one fail. Any goroutine may call it. The connection cannot
// be used after that.
func (c *Conn) BreakOff() {
	c.noteEnd()
	c.cancel()
	if c.toClose.Load() {
		c.CloseSocket()
	}
}

// IsContext reports whether err comes from the session's own context. That ends
// when no caller needs the statement any more.
func IsContext(err error) bool {
	return err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// send sends st in the cheapest way that the session, the driver and the server
// allow. If the server does not prepare the statement, or has dropped it, its
// text is sent. So no statement that proves or releases a lock depends on
// prepared statements, of which other clients can use up the last.
func (c *Conn) send(st *statement, w wire, args []driver.NamedValue) (driver.Rows, error) {
	first, asArgs := !st.used, !c.literals && !c.hasCode // asArgs: names can be arguments
	st.used = true
	text := st.text
	if (c.asBytes || c.hasCode) && (st == &c.get || st == &c.release) { // written before that was known
		text = c.selecting(strings.TrimPrefix(text, "SELECT "))
	}
	if !first && (asArgs || !c.literals && st.inHex != "") {
		if rows, ran, err := c.sendPrepared(st, w, args); ran || err != nil {
			return rows, err
		}
	}
	if asArgs {
		rows, err := w.query(text, args)
		if !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
		// The driver takes arguments for prepared statements only. With Open a
		// session may be short-lived, so preparing at the first use would not pay.
		if first && !c.server.brief {
			if rows, ran, err := c.sendPrepared(st, w, args); ran || err != nil {
				return rows, err
			}
		}
	}
	if c.hasCode {
		text = unlimited(text)
	}
	return w.text(c.spellOut(text, args))
}

// sendPrepared runs the prepared statement, and prepares it before that if need
// be. If ran is false, the server has not run it: st is not worth it, or the
// server does not prepare it, or no longer has it.
func (c *Conn) sendPrepared(st *statement, w wire, args []driver.NamedValue) (rows driver.Rows, ran bool, err error) {
	if !st.short || st.refused {
		return nil, false, nil
	}
	text := st.text
	if st.inHex != "" {
		text, args = st.inHex, digits(args)
	}
	if st.prepared == nil {
		prepared, err := w.prepare(text)
		if err != nil {
			st.refused = IsAnswer(c.classified(err))
			if st.refused {
				err = nil
			}
			return nil, false, err
		}
		st.prepared = prepared
	}
	rows, err = w.run(st.prepared, args)
	if err != nil && isForgotten(err) {
		st.close()
		return nil, false, nil
	}
	return rows, true, err
}

func (st *statement) close() {
	if st.prepared != nil {
		_ = st.prepared.Close() // the server does not answer it, and nothing depends on it
		st.prepared = nil
	}
}
