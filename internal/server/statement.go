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

	errGivenUp = errors.New("statement abandoned: no caller was waiting for it any more")

	// ErrReturned: the caller of New has closed the connection, which may be
	// back in its pool with locks on it.
	ErrReturned = errors.New("the *sql.Conn given to New was closed before the Locker: close the Locker first")
)

// ask runs st for one number. bound begins when the connection is free for st.
func (c *Conn) ask(bound time.Duration, st *statement, args []driver.Value) (sql.NullInt64, error) {
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

// A call is one statement on its way.
type call struct {
	bound     time.Duration
	statement *statement
	args      []driver.Value
	answer    receiver
	begun     time.Duration // since epoch
	err       error
}

// query runs st and passes its rows to answer. It never runs under a caller's
// context. It uses the driver's connection inside Raw, so that the bound begins
// only after a statement that code of the user's runs on the connection has
// ended.
func (c *Conn) query(bound time.Duration, st *statement, args []driver.Value, answer receiver) error {
	c.call = call{bound: bound, statement: st, args: args, answer: answer, begun: clock.Now()}
	err := c.raw(c.runCall)
	if c.call.err != nil {
		err = c.call.err
	}
	if err == nil || IsAnswer(err) {
		c.answered.Store(int64(c.call.begun))
	}
	if IsContext(err) {
		return errGivenUp // a caller would take it for the end of its own context
	}
	return err
}

// runCallOn runs the call on the driver's connection. It always returns nil:
// the pool discards a broken session, not Raw.
func (c *Conn) runCallOn(conn any) error {
	c.know(conn)
	c.listen(conn)
	c.noteTx(conn)
	call := &c.call
	switch c.stateOf(conn) {
	case Occupied:
		call.err = ErrOccupied
		if !c.UsedByCode() {
			call.err = errGoodbye
		}
		return nil
	case CutOff:
		call.err = ErrCutOff
		return nil
	}
	call.begun = clock.Now()
	c.silence.Reset(call.bound)
	if call.err = c.run(call.statement, conn, call.args, call.answer); call.err != nil {
		call.err = c.classified(call.err, conn)
	}
	if !c.silence.Stop() {
		// The bound may have passed after the answer. But c.ctx has ended, or
		// is about to, and the next statement would fail.
		call.err = fmt.Errorf("%w within %v", ErrSilent, call.bound)
	}
	return nil
}

// contextOf returns the context for st: the session's, or one that cannot end,
// and never a caller's. Until the answer is read, the driver watches a context
// that can end, and wakes a goroutine twice. That adds measurably to a short
// statement (see the bench). Only silence breaks a short statement, and closing
// the socket does the same. So it runs under a context that cannot end.
func (c *Conn) contextOf(st *statement) (context.Context, error) {
	if !st.short || c.socket == nil {
		return c.ctx, nil
	}
	c.toClose.Store(&c.socket)
	return context.Background(), c.ctx.Err() // in this order: BreakOff cancels first
}

// BreakOff ends the statement that runs, if any, by closing the socket, and
// makes every later one fail. Any goroutine may call it. The connection cannot
// be used after that.
func (c *Conn) BreakOff() {
	c.noteEnd()
	c.cancel()
	if socket := c.toClose.Load(); socket != nil {
		_ = (*socket).Close()
	}
}

// IsContext reports whether err comes from the session's own context. That ends
// when no caller needs the statement any more.
func IsContext(err error) bool {
	return err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// run sends st and passes its rows to answer.
func (c *Conn) run(st *statement, conn any, args []driver.Value, answer receiver) error {
	ctx, err := c.contextOf(st)
	if err != nil {
		return err
	}
	defer c.toClose.Store(nil)
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
func (c *Conn) send(st *statement, w wire, args []driver.Value) (rows driver.Rows, once driver.Stmt, err error) {
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

// sendPrepared prepares st unless it is prepared, and runs the prepared
// statement. If ran is false, the server has not run it.
func (c *Conn) sendPrepared(st *statement, w wire, args []driver.Value) (rows driver.Rows, ran bool, err error) {
	if err := c.prepare(st, w); err != nil {
		return nil, false, err
	}
	return st.execute(w, args)
}

// prepare makes the server prepare st, if it is worth that and the server does.
func (c *Conn) prepare(st *statement, w wire) error {
	if !st.short || st.refused || st.prepared != nil {
		return nil
	}
	text := st.text
	if st.inHex != "" {
		text = st.inHex
	}
	prepared, err := w.prepare(text)
	if err = c.classified(err, w.conn); err != nil && !IsAnswer(err) {
		return err
	}
	st.prepared, st.refused = prepared, err != nil
	return nil
}

// execute runs the prepared statement. ran is false if there is none, or if the
// server no longer has it and ran nothing.
func (st *statement) execute(w wire, args []driver.Value) (rows driver.Rows, ran bool, err error) {
	if st.prepared == nil {
		return nil, false, nil
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
