package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// A statement belongs to one session.
type statement struct {
	text     string
	short    bool // it waits for nobody, and the server answers it by a row: it is prepared from its second use
	used     bool
	refused  bool // the server did not prepare it: its max_prepared_stmt_count, a proxy
	prepared driver.Stmt
}

var (
	errSilent   = errors.New("no answer")
	errOccupied = errors.New("the connection is busy: close the rows of your own query first")
	errGoodbye  = errors.New("unexpected packet from the server, as it sends before closing a connection")

	// ErrCutOff: no loss. The server goes on with the statement, then rolls back, and frees
	// the locks after that.
	ErrCutOff = errors.New("session closed: a context ended during a statement of the transaction")

	errGivenUp    = errors.New("statement abandoned: no caller was waiting for it any more")
	errConnClosed = errors.New("the *sql.Conn given to New was closed before the Locker: close the Locker first")
)

// ask runs st for one number. It is bounded by the time from the moment that the
// connection is free for it.
func (s *Session) ask(bound time.Duration, st *statement, args []driver.Value) (sql.NullInt64, error) {
	err := s.query(bound, st, args, &s.number)
	return s.number.value, err
}

// scan runs text for one row.
func (s *Session) scan(bound time.Duration, text string, dest ...sql.Scanner) error {
	return s.query(bound, &statement{text: text}, nil, one(dest))
}

// exec runs text for no row.
func (s *Session) exec(bound time.Duration, text string) error {
	return s.query(bound, &statement{text: text}, nil, none{})
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

// query runs st and hands its rows to answer. It works on the driver's
// connection itself: its clock must not run while a statement of somebody else's,
// on a connection that was given to New, is in the way.
func (s *Session) query(bound time.Duration, st *statement, args []driver.Value, answer receiver) error {
	s.call = call{bound: bound, statement: st, args: args, answer: answer, begun: now()}
	err := s.raw(s.runCall)
	if s.call.err != nil {
		err = s.call.err
	}
	if err == nil || isAnswer(err) {
		s.heard.Store(int64(s.call.begun))
	}
	if isContext(err) {
		return errGivenUp // callers look for their own context's end with errors.Is
	}
	return err
}

// runCallOn runs the call on the driver's connection. It returns nil: a broken
// session is discarded by its pool, not here.
func (s *Session) runCallOn(conn any) error {
	s.know(conn)
	s.listen(conn)
	s.noteTx(conn)
	c := &s.call
	switch s.stateOf(conn) {
	case occupied:
		c.err = errOccupied
		if !s.shared() {
			c.err = errGoodbye
		}
		return nil
	case cutOff:
		c.err = ErrCutOff
		return nil
	}
	c.begun = now()
	s.silence.Reset(c.bound)
	if c.err = s.run(c.statement, conn, c.args, c.answer); c.err != nil {
		c.err = s.classified(c.err, conn)
	}
	if !s.silence.Stop() {
		// The bound may have passed only after the answer, but s.ctx has ended, or
		// is about to, and the next statement would break.
		c.err = fmt.Errorf("%w within %v", errSilent, c.bound)
	}
	return nil
}

// contextOf is what st runs under. The driver watches a context that can end until the
// answer is read, and wakes a goroutine at the beginning and at the end of that, which shows
// beside a short statement (see the bench). Only silence breaks those, so they
// run without, where closing the socket does the same.
func (s *Session) contextOf(st *statement) (context.Context, error) {
	if !st.short || s.socket == nil {
		return s.ctx, nil
	}
	s.toClose.Store(&s.socket)
	return context.Background(), s.ctx.Err() // in this order: breakOff cancels first
}

// breakOff ends the statement that runs, if any, and lets every later one fail. Anybody
// may call it. The connection is of no use after that.
func (s *Session) breakOff() {
	s.noteEnd()
	s.cancel()
	if socket := s.toClose.Load(); socket != nil {
		_ = (*socket).Close()
	}
}

// isContext reports whether err stems from the session's own context, which ends when nobody
// wants the statement any more.
func isContext(err error) bool {
	return err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// run sends st and hands its rows to answer.
func (s *Session) run(st *statement, conn any, args []driver.Value, answer receiver) error {
	ctx, err := s.contextOf(st)
	if err != nil {
		return err
	}
	defer s.toClose.Store(nil)
	rows, once, err := s.send(st, wire{conn, ctx}, args)
	if once != nil {
		// Now, not later: even this must not come between the rows of others.
		defer once.Close()
	}
	if err != nil {
		return err
	}
	err = answer.receive(rows)
	// An answer that does not end properly is none.
	if ended := rows.Close(); err == nil {
		err = ended
	}
	return err
}

// send sends st in the cheapest of the ways that the session, the driver and the server
// allow. Only the first two of them need the server to prepare anything, and where it
// does not, or has forgotten what it had prepared, the text is sent: what proves or
// releases a lock must not depend on a resource that others can use up. If once is not
// nil, close it after the rows.
func (s *Session) send(st *statement, w wire, args []driver.Value) (rows driver.Rows, once driver.Stmt, err error) {
	first := !st.used
	st.used = true
	if s.hasCode {
		return w.text(s.afterCode(st.text, args))
	}
	if s.literals {
		return w.text(s.spellOut(st.text, args))
	}
	if !first {
		if err := s.prepare(st, w); err != nil {
			return nil, nil, err
		}
	}
	if rows, ran, err := st.execute(w, args); ran {
		return rows, nil, err
	}
	rows, err = w.query(st.text, args)
	if !errors.Is(err, driver.ErrSkip) {
		return rows, nil, err
	}
	// The driver puts arguments into prepared statements only. With Open a session may
	// be short-lived, so preparing would not pay at the first use.
	if !s.config.spell {
		if err := s.prepare(st, w); err != nil {
			return nil, nil, err
		}
		if rows, ran, err := st.execute(w, args); ran {
			return rows, nil, err
		}
	}
	return w.text(s.spellOut(st.text, args))
}

// prepare has the server prepare st, if it is worth that and the server does.
func (s *Session) prepare(st *statement, w wire) error {
	if !st.short || st.refused || st.prepared != nil {
		return nil
	}
	prepared, err := w.prepare(st.text)
	if err = s.classified(err, w.conn); err != nil && !isAnswer(err) {
		return err
	}
	st.prepared, st.refused = prepared, err != nil
	return nil
}

// execute runs what was prepared, if anything. ran is false if the server has not run
// it: there is nothing prepared, or no more.
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
		_ = st.prepared.Close() // nothing is answered, and nothing depends on it
		st.prepared = nil
	}
}
