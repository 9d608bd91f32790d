package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A statement is sent as text the first time and prepared from the second: a
// session that lives for one lock spares the preparing, one that stays spares the
// parsing. It belongs to one session.
type statement struct {
	text     string
	keep     bool // it comes again on this session
	spell    bool // the text may have the arguments spelt out
	used     bool
	refused  bool // the server does not prepare (its max_prepared_stmt_count, a proxy)
	prepared driver.Stmt
}

var (
	errSilent   = errors.New("no answer in time")
	errOccupied = errors.New("the connection given to New is occupied: rows of a query of your own are still to be read")
	errGoodbye  = errors.New("the server has said something unasked, as it does before it closes a connection")
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
	s.call = call{bound: bound, statement: st, args: args, answer: answer, begun: time.Since(epoch)}
	err := s.conn.Raw(s.runCall)
	if s.call.err != nil {
		err = s.call.err
	}
	if err == nil || isAnswer(err) {
		s.heard.Store(int64(s.call.begun))
	}
	return hideContext(err)
}

// runCallOn runs the call on the driver's connection. It returns nil: a session in
// doubt is discarded by its pool, not here.
func (s *Session) runCallOn(conn any) error {
	s.listen(conn)
	c := &s.call
	if s.lookAt(conn) == occupied {
		c.err = errOccupied
		if !s.lent {
			c.err = errGoodbye
		}
		return nil
	}
	c.begun = time.Since(epoch)
	s.silence.Reset(c.bound)
	c.err = s.run(c.statement, conn, c.args, c.answer)
	if !s.silence.Stop() {
		// The bound may have passed only after the answer, but s.ctx has ended, or
		// is about to, and the next statement would break.
		c.err = fmt.Errorf("%w (%v)", errSilent, c.bound)
	}
	return nil
}

// hideContext keeps the text of an error that stems from the session's own
// context but not its identity: callers look for their own context's end with
// errors.Is.
func hideContext(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("statement cut off: %v", err)
	}
	return err
}

// run sends st and hands its rows to answer.
func (s *Session) run(st *statement, conn any, args []driver.Value, answer receiver) error {
	if !st.keep {
		// Now, not later: even this must not come between the rows of others.
		defer st.close()
	}
	rows, err := st.rows(s.wire(conn), args)
	if err != nil {
		return err
	}
	err = answer.receive(rows)
	// An answer that does not end properly is none.
	if ended := s.finish(rows, conn); err == nil {
		err = ended
	}
	return err
}

func (st *statement) rows(w wire, args []driver.Value) (driver.Rows, error) {
	first := !st.used
	st.used = true
	if st.prepared == nil && !first && !st.refused {
		prepared, err := w.prepare(st.text)
		if err != nil && !isAnswer(err) {
			return nil, err
		}
		st.prepared, st.refused = prepared, err != nil
	}
	if st.prepared != nil {
		return w.run(st.prepared, args)
	}
	rows, err := w.query(st.text, args)
	if !errors.Is(err, driver.ErrSkip) {
		return rows, err
	}
	// The driver puts arguments into prepared statements only.
	if text, ok := spellOut(st.text, args); ok && st.spell {
		if rows, err = w.query(text, nil); !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
	}
	prepared, err := w.prepare(st.text)
	if err != nil {
		return nil, err
	}
	st.prepared = prepared
	return w.run(prepared, args)
}

func (st *statement) close() {
	if st.prepared != nil {
		_ = st.prepared.Close() // nothing is answered, and nothing depends on it
		st.prepared = nil
	}
}

// spellOut puts args into text in the place of its question marks, if it can be told
// without knowing the session's sql_mode and character set what a server makes of
// them: a name has to be plain.
func spellOut(text string, args []driver.Value) (string, bool) {
	var b strings.Builder
	for _, arg := range args {
		before, after, ok := strings.Cut(text, "?")
		if !ok {
			return "", false
		}
		b.WriteString(before)
		text = after
		switch value := arg.(type) {
		case int64:
			b.WriteString(strconv.FormatInt(value, 10))
		case float64:
			b.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
		case string:
			if !plain(value) {
				return "", false
			}
			b.WriteString("'" + value + "'")
		default:
			return "", false
		}
	}
	b.WriteString(text)
	return b.String(), true
}

// plain reports whether text means itself between quotes, to whatever reads it on the
// way.
func plain(text string) bool {
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case strings.ContainsRune("-_.:/@+=", r):
		default:
			return false
		}
	}
	return true
}

// A receiver takes the rows of an answer. The values are the driver's until it
// returns.
type receiver interface {
	receive(rows driver.Rows) error
}

// A number receives a row with one number, or NULL.
type number struct {
	row   [1]driver.Value
	value sql.NullInt64
}

func (n *number) receive(rows driver.Rows) error {
	if err := rows.Next(n.row[:]); err != nil {
		return noRows(err)
	}
	return n.value.Scan(n.row[0])
}

// one receives a row with a column for each destination. Where the server has left
// some out, those destinations stay unset, as for NULL.
type one []sql.Scanner

func (dest one) receive(rows driver.Rows) error {
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil {
		return noRows(err)
	}
	return dest.scan(row)
}

func (dest one) scan(row []driver.Value) error {
	if len(row) > len(dest) {
		return fmt.Errorf("%d columns where %d were expected", len(row), len(dest))
	}
	for i, value := range row {
		if err := dest[i].Scan(value); err != nil {
			return err
		}
	}
	return nil
}

// none expects no row, and looks for none.
type none struct{}

func (none) receive(driver.Rows) error { return nil }

func noRows(err error) error {
	if err == io.EOF {
		return sql.ErrNoRows
	}
	return err
}

// errorNumber returns the server's error number, or 0 if err is no answer of a server.
func errorNumber(err error) uint16 {
	if err == nil {
		return 0
	}
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// isAnswer reports whether the server answered by an error, so that the session
// lives on, as far as the answer tells.
func isAnswer(err error) bool {
	switch errorNumber(err) {
	case 0, erServerShutdown, erConnectionKilled, erSessionWasKilled, erClientInteractionTimeout:
		return false
	}
	return !errors.Is(err, errSilent)
}
