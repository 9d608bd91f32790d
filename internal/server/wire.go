package server

import (
	"context"
	"database/sql/driver"
	"errors"
)

// A wire is the driver's connection, and the context, for one statement.
type wire struct {
	conn driver.Conn
	ctx  context.Context // see queryOn; never a caller's
}

// query sends text with args in it. It returns driver.ErrSkip if the driver
// does not do that.
func (w wire) query(text string, args []driver.NamedValue) (driver.Rows, error) {
	if conn, ok := w.conn.(driver.QueryerContext); ok {
		return conn.QueryContext(w.ctx, text, args)
	}
	return nil, driver.ErrSkip
}

// text sends text. A driver that runs only prepared statements prepares it for
// this one use.
func (w wire) text(text string) (driver.Rows, error) {
	rows, err := w.query(text, nil)
	if !errors.Is(err, driver.ErrSkip) {
		return rows, err
	}
	prepared, err := w.prepare(text)
	if err != nil {
		return nil, err
	}
	rows, err = w.run(prepared, nil)
	if err != nil {
		_ = prepared.Close()
		return nil, err
	}
	return onceRows{rows, prepared}, nil
}

// onceRows are the rows of a statement that was prepared for one use.
type onceRows struct {
	driver.Rows
	prepared driver.Stmt
}

// Close also closes the statement, inside Raw: later that could come between
// rows of the user's.
func (r onceRows) Close() error {
	defer r.prepared.Close()
	return r.Rows.Close()
}

func (w wire) prepare(text string) (driver.Stmt, error) {
	if conn, ok := w.conn.(driver.ConnPrepareContext); ok {
		return conn.PrepareContext(w.ctx, text)
	}
	prepared, err := w.conn.Prepare(text)
	if err != nil {
		return nil, err // the driver also returns an incomplete statement
	}
	return prepared, nil
}

// run runs a prepared statement.
func (w wire) run(prepared driver.Stmt, args []driver.NamedValue) (driver.Rows, error) {
	if prepared, ok := prepared.(driver.StmtQueryContext); ok {
		return prepared.QueryContext(w.ctx, args)
	}
	values := make([]driver.Value, len(args))
	for i, arg := range args {
		values[i] = arg.Value
	}
	//lint:ignore SA1019 a driver, or what is wrapped around one, may know nothing newer
	return prepared.Query(values)
}

func named(values ...driver.Value) []driver.NamedValue {
	args := make([]driver.NamedValue, len(values))
	for i, value := range values {
		args[i] = driver.NamedValue{Ordinal: i + 1, Value: value}
	}
	return args
}
