package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A statement is sent as text the first time and prepared from the second: a
// session that lives for one lock spares the preparing, one that stays spares the
// parsing. It belongs to one session.
type statement struct {
	text     string
	keep     bool // it comes again on this session
	used     bool
	refused  bool // the server does not prepare (its max_prepared_stmt_count, a proxy)
	prepared driver.Stmt
}

var (
	errSilent   = errors.New("no answer in time")
	errOccupied = errors.New("the connection given to New is occupied: rows of a query of your own are still to be read")
)

// ask runs st for one row with one number. It is bounded by the time from the
// moment that the connection is free for it.
func (s *Session) ask(bound time.Duration, st *statement, args ...driver.Value) (n sql.NullInt64, err error) {
	err = s.query(bound, st, args, one(&n))
	return n, err
}

// scan runs text for one row.
func (s *Session) scan(bound time.Duration, text string, dest ...sql.Scanner) error {
	return s.query(bound, &statement{text: text}, nil, one(dest...))
}

// exec runs text for no row.
func (s *Session) exec(bound time.Duration, text string) error {
	err := s.query(bound, &statement{text: text}, nil, one())
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// query runs st and hands its rows to receive. It works on the driver's
// connection itself: its clock must not run while a statement of somebody else's,
// on a connection that was given to New, is in the way.
func (s *Session) query(bound time.Duration, st *statement, args []driver.Value, receive receiver) error {
	var err error
	begun := time.Since(epoch)
	raw := s.conn.Raw(func(conn any) error {
		if lookAt(conn) == occupied {
			err = errOccupied
			return nil
		}
		begun = time.Since(epoch)
		s.silence.Reset(bound)
		err = st.run(s.ctx, conn, args, receive)
		if !s.silence.Stop() {
			// The bound may have passed only after the answer, but s.ctx has ended, or
			// is about to, and the next statement would break.
			err = errors.Join(fmt.Errorf("%w (%v)", errSilent, bound), err)
		}
		return nil // a session in doubt is discarded by its pool, not here
	})
	if err == nil {
		err = raw
	}
	if err == nil || isAnswer(err) {
		s.heard.Store(int64(begun))
	}
	return hideContext(err)
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

func (st *statement) run(ctx context.Context, conn any, args []driver.Value, receive receiver) error {
	if !st.keep {
		// Now, not later: even this must not come between the rows of others.
		defer st.close()
	}
	rows, err := st.rows(ctx, conn, args)
	if err != nil {
		return err
	}
	err = receive.all(rows)
	// An answer that does not end properly is none.
	if closed := rows.Close(); err == nil {
		err = closed
	}
	return err
}

func (st *statement) rows(ctx context.Context, conn any, args []driver.Value) (driver.Rows, error) {
	first := !st.used
	st.used = true
	if st.prepared == nil && !first && !st.refused {
		prepared, err := prepare(ctx, conn, st.text)
		if err != nil && !isAnswer(err) {
			return nil, err
		}
		st.prepared, st.refused = prepared, err != nil
	}
	if st.prepared != nil {
		return queryPrepared(ctx, st.prepared, args)
	}
	if conn, ok := conn.(driver.QueryerContext); ok {
		rows, err := conn.QueryContext(ctx, st.text, named(args))
		if !errors.Is(err, driver.ErrSkip) {
			return rows, err
		}
	}
	// The driver puts arguments into prepared statements only.
	prepared, err := prepare(ctx, conn, st.text)
	if err != nil {
		return nil, err
	}
	st.prepared = prepared
	return queryPrepared(ctx, prepared, args)
}

func (st *statement) close() {
	if st.prepared != nil {
		_ = st.prepared.Close() // nothing is answered, and nothing depends on it
		st.prepared = nil
	}
}

func prepare(ctx context.Context, conn any, text string) (driver.Stmt, error) {
	switch conn := conn.(type) {
	case driver.ConnPrepareContext:
		return conn.PrepareContext(ctx, text)
	case driver.Conn:
		return conn.Prepare(text)
	}
	return nil, fmt.Errorf("the driver's connection, a %T, is no driver.Conn", conn)
}

func queryPrepared(ctx context.Context, prepared driver.Stmt, args []driver.Value) (driver.Rows, error) {
	if prepared, ok := prepared.(driver.StmtQueryContext); ok {
		return prepared.QueryContext(ctx, named(args))
	}
	//lint:ignore SA1019 a driver, or what is wrapped around one, may know nothing newer
	return prepared.Query(args)
}

func named(args []driver.Value) []driver.NamedValue {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return named
}

// A receiver takes the rows of an answer, one at a time. The values are the
// driver's until it returns.
type receiver func(row []driver.Value) error

// one receives exactly one row.
func one(dest ...sql.Scanner) receiver {
	return func(row []driver.Value) error {
		if row == nil {
			return sql.ErrNoRows
		}
		if len(row) != len(dest) {
			return fmt.Errorf("%d columns where %d were expected", len(row), len(dest))
		}
		for i, d := range dest {
			if err := d.Scan(row[i]); err != nil {
				return err
			}
		}
		return errEnough
	}
}

var errEnough = errors.New("enough")

// all feeds the receiver; a nil row is the end.
func (receive receiver) all(rows driver.Rows) error {
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); err {
		case nil:
		case io.EOF:
			return receive(nil)
		default:
			return err
		}
		if err := receive(row); err != nil {
			if err == errEnough {
				return nil
			}
			return err
		}
	}
}

// number returns the server's error number, or 0 if err is no answer of a server.
func number(err error) uint16 {
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// isAnswer reports whether the server answered by an error, so that the session
// lives on, as far as the answer tells.
func isAnswer(err error) bool { return number(err) != 0 && !errors.Is(err, errSilent) }
