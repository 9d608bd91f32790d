package session

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// A wire is the driver's connection for one statement, and what can break the
// statement off.
//
// The driver watches the context of a statement until the rows of its answer are
// closed, and wakes a goroutine at the beginning and at the end of that, which shows
// beside a short statement. A connection of ours alone has one context for all its
// statements, and so one watch is enough: that of its greeting, whose rows are read
// to their end but stay open as long as we have the connection: the watcher of the session. What follows is
// sent without a context of its own, and still ends when the session's does.
//
// A connection that was given to New has no watcher: its owner's statements would come
// upon a watch that is on, which the driver takes for a connection to be closed. Nor has
// one of another driver, or with something wrapped around it: what an open answer means
// there is not known.
type wire struct {
	conn any
	ctx  context.Context // nil: the driver watches the session's
}

// wire returns what to send a statement on.
func (s *Session) wire(conn any) wire {
	if s.watcher != nil {
		return wire{conn: conn}
	}
	return wire{conn, s.ctx}
}

// finish ends an answer that has been received, or makes it the session's watcher.
func (s *Session) finish(rows driver.Rows, conn any) error {
	if s.lent || s.watcher != nil || !fromGoSQLDriver(conn) || !watched(conn) {
		return rows.Close()
	}
	if _, ok := conn.(queryer); !ok {
		return rows.Close()
	}
	switch err := rows.Next(make([]driver.Value, len(rows.Columns()))); err {
	case io.EOF:
		s.watcher = rows
		return nil
	case nil:
		return rows.Close()
	default:
		_ = rows.Close()
		return err
	}
}

// dropWatcher lets others use the connection.
func (s *Session) dropWatcher() {
	if s.watcher != nil {
		_ = s.watcher.Close()
		s.watcher = nil
	}
}

// queryer is driver.Queryer. A connection of go-sql-driver has it, and a context is what
// we do not want to give.
type queryer interface {
	Query(text string, args []driver.Value) (driver.Rows, error)
}

// query sends text, with args put into it; driver.ErrSkip says that the driver does not
// do that.
func (w wire) query(text string, args []driver.Value) (driver.Rows, error) {
	if w.ctx == nil {
		return w.conn.(queryer).Query(text, args)
	}
	if conn, ok := w.conn.(driver.QueryerContext); ok {
		return conn.QueryContext(w.ctx, text, named(args))
	}
	return nil, driver.ErrSkip
}

// text sends text. A driver that runs prepared statements only has it prepared for this
// once; then the caller closes once, after the rows.
func (w wire) text(text string) (rows driver.Rows, once driver.Stmt, err error) {
	rows, err = w.query(text, nil)
	if !errors.Is(err, driver.ErrSkip) {
		return rows, nil, err
	}
	once, err = w.prepare(text)
	if err != nil {
		return nil, nil, err
	}
	rows, err = w.run(once, nil)
	return rows, once, err
}

func (w wire) prepare(text string) (driver.Stmt, error) {
	if conn, ok := w.conn.(driver.ConnPrepareContext); ok && w.ctx != nil {
		return conn.PrepareContext(w.ctx, text)
	}
	if conn, ok := w.conn.(driver.Conn); ok {
		prepared, err := conn.Prepare(text)
		if err != nil {
			return nil, err // the driver returns half a statement with it
		}
		return prepared, nil
	}
	return nil, fmt.Errorf("the driver's connection, a %T, is no driver.Conn", w.conn)
}

// run sends what was prepared.
func (w wire) run(prepared driver.Stmt, args []driver.Value) (driver.Rows, error) {
	if prepared, ok := prepared.(driver.StmtQueryContext); ok && w.ctx != nil {
		return prepared.QueryContext(w.ctx, named(args))
	}
	//lint:ignore SA1019 no context is wanted, or a driver, or what is wrapped around one, knows nothing newer
	return prepared.Query(args)
}

func named(args []driver.Value) []driver.NamedValue {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	return named
}
