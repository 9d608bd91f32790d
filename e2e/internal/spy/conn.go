package spy

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
)

// inner is driver.Conn under a name that is not exported, so that the Locker
// does not see through.
type inner = driver.Conn

// conn has the optional interfaces of the MySQL driver's connections.
type conn struct {
	inner
	spy    *Spy
	id     int
	closed sync.Once // it may be closed twice, and ends once
}

var _ interface {
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
} = (*conn)(nil)

func (c *conn) Close() error {
	c.closed.Do(c.spy.recordClosed)
	return c.inner.Close()
}

// session asks the server for the session's id. No Fault applies to that.
func (c *conn) session() (int64, error) {
	r, err := c.inner.(driver.QueryerContext).QueryContext(context.Background(), "SELECT CONNECTION_ID()", nil)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var row [1]driver.Value
	if err := r.Next(row[:]); err != nil {
		return 0, err
	}
	var id sql.NullInt64
	err = id.Scan(row[0])
	return id.Int64, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (r driver.Rows, err error) {
	if c.skips(args) {
		return nil, driver.ErrSkip
	}
	err = c.spy.record(c, Statement{c.id, Query, query, values(args), ctx}, func() error {
		r, err = c.inner.(driver.QueryerContext).QueryContext(ctx, query, args)
		return err
	})
	return rows(r, err)
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (r driver.Result, err error) {
	if c.skips(args) {
		return nil, driver.ErrSkip
	}
	err = c.spy.record(c, Statement{c.id, Exec, query, values(args), ctx}, func() error {
		r, err = c.inner.(driver.ExecerContext).ExecContext(ctx, query, args)
		return err
	})
	return r, err
}

// skips reports whether the statement will come again, prepared: arguments are
// sent as text only where the spy's DSN has interpolateParams.
func (c *conn) skips(args []driver.NamedValue) bool {
	return len(args) > 0 && !c.spy.interpolates
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	var st driver.Stmt
	err := c.spy.record(c, Statement{c.id, Prepare, query, nil, ctx}, func() (err error) {
		st, err = c.inner.(driver.ConnPrepareContext).PrepareContext(ctx, query)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &stmt{Stmt: st, conn: c, text: query}, nil
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	var inner driver.Tx
	err := c.spy.record(c, Statement{c.id, Exec, "START TRANSACTION", nil, ctx}, func() (err error) {
		inner, err = c.inner.(driver.ConnBeginTx).BeginTx(ctx, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &tx{inner, c}, nil
}

type tx struct {
	driver.Tx
	conn *conn
}

func (t *tx) Commit() error { return t.end("COMMIT", t.Tx.Commit) }

func (t *tx) Rollback() error { return t.end("ROLLBACK", t.Tx.Rollback) }

func (t *tx) end(text string, send func() error) error {
	return t.conn.spy.record(t.conn, Statement{t.conn.id, Exec, text, nil, context.Background()}, send)
}

func (c *conn) Ping(ctx context.Context) error { return c.inner.(driver.Pinger).Ping(ctx) }

// ResetSession is called when the connection is taken from its pool again.
func (c *conn) ResetSession(ctx context.Context) error {
	if !c.spy.recordReset() {
		return c.inner.(driver.SessionResetter).ResetSession(ctx)
	}
	return c.run(ctx, "SELECT RELEASE_ALL_LOCKS()")
}

// run runs a statement that is not recorded.
func (c *conn) run(ctx context.Context, text string) error {
	r, err := c.inner.(driver.QueryerContext).QueryContext(ctx, text, nil)
	if err != nil {
		return err
	}
	return r.Close()
}

func (c *conn) IsValid() bool { return c.inner.(driver.Validator).IsValid() }

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	return c.inner.(driver.NamedValueChecker).CheckNamedValue(v)
}

type stmt struct {
	driver.Stmt
	conn *conn
	text string
}

var _ interface {
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
} = (*stmt)(nil)

func (st *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (r driver.Rows, err error) {
	err = st.conn.spy.record(st.conn, Statement{st.conn.id, Run, st.text, values(args), ctx}, func() error {
		r, err = st.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
		return err
	})
	return rows(r, err)
}

func (st *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (r driver.Result, err error) {
	err = st.conn.spy.record(st.conn, Statement{st.conn.id, Run, st.text, values(args), ctx}, func() error {
		r, err = st.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
		return err
	})
	return r, err
}

func (st *stmt) Close() error {
	return st.conn.spy.record(st.conn, Statement{st.conn.id, Close, st.text, nil, context.Background()}, st.Stmt.Close)
}

func (st *stmt) CheckNamedValue(v *driver.NamedValue) error {
	return st.Stmt.(driver.NamedValueChecker).CheckNamedValue(v)
}
