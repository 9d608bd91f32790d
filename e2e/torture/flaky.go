package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-sql-driver/mysql"
)

// Faults of a statement.
const (
	notSent   = "not sent"  // it fails before it is sent; the session lives on
	noReply   = "no reply"  // it is sent, and its answer is lost; the session lives on
	badConn   = "bad conn"  // not sent, and the error is driver.ErrBadConn
	forgotten = "forgotten" // all locks of its session go before it is sent, and it is answered
)

var mishaps = []string{notSent, noReply, badConn, forgotten}

var errInjected = errors.New("injected: the statement failed")

// A flaky is a driver.Connector around that of the MySQL driver, whose
// statements can be made to fail. Its connections are not the driver's own, so
// that the library does not look at their sockets.
type flaky struct {
	driver.Connector
	happened func(kind string, session, from int64) // is told of what happened to a statement or session

	mu    sync.Mutex
	conns []*flakyConn
	nth   int // how is for the n-th statement that contains text, from 1; 0: for none
	text  string
	how   string
}

func newFlaky(cfg *mysql.Config) (*flaky, error) {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return &flaky{Connector: c}, nil
}

// Connect implements driver.Connector.
func (f *flaky) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := f.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &flakyConn{inner: inner, flaky: f}
	f.mu.Lock()
	f.conns = append(f.conns, c)
	f.mu.Unlock()
	return c, nil
}

// fail lets something happen to the n-th statement from now that contains text.
func (f *flaky) fail(n int, text, how string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nth, f.text, f.how = n, text, how
}

// forget frees the locks of one of those connections that have any and run no
// statement; pick says with which to begin. It tries until end.
func (f *flaky) forget(pick int, end time.Time) {
	for ; time.Now().Before(end); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		conns := slices.Clone(f.conns)
		f.mu.Unlock()
		for i := range conns {
			c := conns[(pick+i)%len(conns)]
			if !c.using.TryLock() {
				continue
			}
			freed, err := c.forget()
			c.using.Unlock()
			if err == nil && freed {
				return
			}
		}
	}
}

// next counts a statement, and says what is to happen to it.
func (f *flaky) next(query string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nth == 0 || !strings.Contains(query, f.text) {
		return ""
	}
	if f.nth--; f.nth > 0 {
		return ""
	}
	f.happened(history.Statement, 0, history.Now())
	return f.how
}

// inner is driver.Conn under a name that is not exported, so that the Locker
// does not see through.
type inner = driver.Conn

// A flakyConn runs one statement at a time, from its sending to the last row of
// its answer.
type flakyConn struct {
	inner
	flaky *flaky
	using sync.Mutex
}

var _ interface {
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.QueryerContext
	driver.Validator
	driver.NamedValueChecker
} = (*flakyConn)(nil)

func (c *flakyConn) Close() error {
	f := c.flaky
	f.mu.Lock()
	f.conns = slices.DeleteFunc(f.conns, func(other *flakyConn) bool { return other == c })
	f.mu.Unlock()
	c.using.Lock()
	defer c.using.Unlock()
	return c.inner.Close()
}

func (c *flakyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.run(query, func() (driver.Rows, error) {
		return c.inner.(driver.QueryerContext).QueryContext(ctx, query, args)
	})
}

func (c *flakyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.using.Lock()
	defer c.using.Unlock()
	st, err := c.inner.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &flakyStmt{st, c, query}, nil
}

func (c *flakyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.inner.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *flakyConn) IsValid() bool {
	c.using.Lock()
	defer c.using.Unlock()
	return c.inner.(driver.Validator).IsValid()
}

func (c *flakyConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.inner.(driver.NamedValueChecker).CheckNamedValue(v)
}

type flakyStmt struct {
	driver.Stmt
	conn *flakyConn
	text string
}

var _ interface {
	driver.StmtQueryContext
	driver.NamedValueChecker
} = (*flakyStmt)(nil)

func (st *flakyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return st.conn.run(st.text, func() (driver.Rows, error) {
		return st.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	})
}

func (st *flakyStmt) Close() error {
	st.conn.using.Lock()
	defer st.conn.using.Unlock()
	return st.Stmt.Close()
}

func (st *flakyStmt) CheckNamedValue(v *driver.NamedValue) error {
	return st.Stmt.(driver.NamedValueChecker).CheckNamedValue(v)
}

// run sends a statement, unless something happens to it first.
func (c *flakyConn) run(query string, send func() (driver.Rows, error)) (driver.Rows, error) {
	c.using.Lock()
	defer c.using.Unlock()
	how := c.flaky.next(query)
	switch how {
	case notSent:
		return nil, errInjected
	case badConn:
		return nil, driver.ErrBadConn
	case forgotten:
		if _, err := c.forget(); err != nil {
			return nil, err
		}
	}
	rows, err := send()
	if err != nil {
		return nil, err
	}
	a := take(rows)
	if how == noReply {
		return nil, errInjected
	}
	return a, nil
}

// forget frees all locks of the session, and reports whether there were any.
// The caller uses the connection.
func (c *flakyConn) forget() (freed bool, err error) {
	begun := history.Now()
	rows, err := c.inner.(driver.QueryerContext).QueryContext(context.Background(), "SELECT RELEASE_ALL_LOCKS(), CONNECTION_ID()", nil)
	if err != nil {
		return false, err
	}
	a := take(rows)
	if a.end != io.EOF {
		return false, a.end
	}
	var locks, session sql.NullInt64
	if err := errors.Join(locks.Scan(a.rows[0][0]), session.Scan(a.rows[0][1])); err != nil {
		return false, err
	}
	if locks.Int64 > 0 {
		c.flaky.happened(history.Vanish, session.Int64, begun)
	}
	return locks.Int64 > 0, nil
}

// An answer is all rows that the server sent, and how they ended.
type answer struct {
	columns []string
	rows    [][]driver.Value
	end     error // io.EOF, or what went wrong
}

func take(rows driver.Rows) *answer {
	a := &answer{columns: rows.Columns()}
	for {
		row := make([]driver.Value, len(a.columns))
		if a.end = rows.Next(row); a.end != nil {
			_ = rows.Close() // whatever it says, the rows have ended
			return a
		}
		for i, v := range row {
			if b, ok := v.([]byte); ok {
				row[i] = slices.Clone(b)
			}
		}
		a.rows = append(a.rows, row)
	}
}

func (a *answer) Columns() []string { return a.columns }
func (a *answer) Close() error      { return nil }

func (a *answer) Next(dest []driver.Value) error {
	if len(a.rows) == 0 {
		return a.end
	}
	copy(dest, a.rows[0])
	a.rows = a.rows[1:]
	return nil
}
