package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
)

// A statement belongs to one session.
type statement struct {
	text    string
	inBytes string // the text that reads its number as bytes, if text does not: see columns
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

	errGivenUp         = errors.New("statement abandoned: no caller was waiting for it any more")
	errClosedMeanwhile = errors.New("the session was closed during the statement")

	// ErrReturned: the caller of New has closed the connection, which may be
	// back in its pool with locks on it.
	ErrReturned = errors.New("the *sql.Conn given to New was closed before the Locker: close the Locker first")
)

// ask runs st for one number. bound begins when the connection is free for st.
func (c *Conn) ask(bound time.Duration, st *statement, args []driver.NamedValue) (sql.NullInt64, error) {
	err := c.query(bound, st, args, &c.number)
	return c.number.value, err
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
	c.begun = clock.Now()
	var failed error
	err := c.raw(func(conn driver.Conn) error {
		failed = c.queryOn(conn, bound, st, args, answer)
		return nil // the pool discards a broken session, not Raw
	})
	if failed != nil {
		err = failed
	}
	switch {
	case err == nil, IsAnswer(err):
		c.answered.Store(int64(c.begun))
	case IsContext(err):
		return errGivenUp // a caller would take it for the end of its own context
	}
	return err
}

// queryOn is query on the driver's connection.
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
	err := c.run(conn, st, args, answer)
	if err != nil {
		err = c.classified(err)
	}
	if !c.silence.Stop() {
		// The bound may have passed after the answer. But c.ctx has ended, or
		// is about to, and the next statement would fail.
		return fmt.Errorf("%w within %v", ErrSilent, bound)
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

// run sends st and passes its rows to answer, under the session's context, and
// never under a caller's.
//
// Until the answer is read, the driver watches a context that can end, and
// wakes a goroutine twice. That adds measurably to a short statement (see the
// bench). Only silence breaks a short statement, and closing the socket does
// the same. So it runs under a context that cannot end.
func (c *Conn) run(conn driver.Conn, st *statement, args []driver.NamedValue, answer receiver) error {
	ctx := c.ctx
	if st.short && c.driver.Socket != nil {
		c.toClose.Store(true)
		defer c.toClose.Store(false)
		if err := ctx.Err(); err != nil { // in this order: BreakOff cancels first
			return err
		}
		ctx = context.Background()
	}
	rows, once, err := c.send(st, wire{conn, ctx}, args)
	if once != nil {
		// Inside Raw: closing it later could come between rows of the user's.
		defer once.Close()
	}
	if err != nil {
		return err
	}
	err = answer.receive(rows)
	// An answer that does not end properly is not an answer.
	if ended := rows.Close(); err == nil {
		err = ended
	}
	return err
}

// send sends st in the cheapest way that the session, the driver and the server
// allow. If the server does not prepare the statement, or has dropped it, its
// text is sent. So no statement that proves or releases a lock depends on
// prepared statements, of which other clients can use up the last. If once is
// not nil, close it after the rows.
func (c *Conn) send(st *statement, w wire, args []driver.NamedValue) (rows driver.Rows, once driver.Stmt, err error) {
	first, text := !st.used, st.text
	st.used = true
	if st.inBytes != "" && (c.asBytes || c.hasCode) {
		text = st.inBytes
	}
	if c.hasCode {
		if !first && !c.literals && st.inHex != "" {
			if rows, ran, err := c.sendPrepared(st, w, digits(args)); ran || err != nil {
				return rows, nil, err
			}
		}
		return w.text(c.afterCode(text, args))
	}
	if c.literals {
		return w.text(c.spellOut(text, args))
	}
	if !first {
		if rows, ran, err := c.sendPrepared(st, w, args); ran || err != nil {
			return rows, nil, err
		}
	}
	rows, err = w.query(text, args)
	if !errors.Is(err, driver.ErrSkip) {
		return rows, nil, err
	}
	// The driver takes arguments for prepared statements only. With Open a
	// session may be short-lived, so preparing at the first use would not pay.
	if !c.server.brief {
		if rows, ran, err := c.sendPrepared(st, w, args); ran || err != nil {
			return rows, nil, err
		}
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
	if st.prepared == nil {
		text := st.text
		if st.inHex != "" {
			text = st.inHex
		}
		prepared, err := w.prepare(text)
		switch err = c.classified(err); {
		case IsAnswer(err):
			st.refused = true
			return nil, false, nil
		case err != nil:
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
