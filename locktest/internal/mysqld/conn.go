package mysqld

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	"github.com/go-namedlock/namedlock/internal/locktable"
	"github.com/go-namedlock/namedlock/internal/server"
)

// A conn is a connection, and the session at its other end.
type conn struct {
	process *Process
	server  *Server
	id      int64
	locks   *locktable.Session[*conn] // ends with the connection

	tx *txn // the open transaction; guarded by the right to use the connection

	// Guarded by server.mu.
	waitTimeout int64     // in seconds; it never takes effect here
	statement   string    // that runs now
	since       time.Time // when it, or the silence, began
}

// Connect implements driver.Connector.
func (p *Process) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.reach(ctx, nil); err != nil {
		return nil, err
	}
	return p.connect(), nil
}

// Driver implements driver.Connector.
func (p *Process) Driver() driver.Driver { return onlyByConnector{} }

type onlyByConnector struct{}

func (onlyByConnector) Open(string) (driver.Conn, error) {
	return nil, errors.New("locktest: the server in memory has no DSN")
}

func (p *Process) connect() *conn {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.server.lastID++
	c := &conn{
		process:     p,
		server:      p.server,
		id:          p.server.lastID,
		waitTimeout: 28800,
		since:       time.Now(),
	}
	c.locks = p.server.locks.Session(c)
	if p.conns == nil {
		p.conns = make(map[*conn]struct{})
	}
	p.conns[c] = struct{}{}
	return c
}

// end closes the connection, from whichever side, and frees its locks.
func (c *conn) end() {
	c.server.mu.Lock()
	delete(c.process.conns, c)
	c.server.mu.Unlock()
	c.locks.End()
}

func (c *conn) ended() bool {
	select {
	case <-c.locks.Ended():
		return true
	default:
		return false
	}
}

// ClosedByServer implements server.MemoryConn.
func (c *conn) ClosedByServer(server.Look) bool { return c.ended() }

// IsValid implements driver.Validator.
func (c *conn) IsValid() bool { return !c.ended() }

// ResetSession implements driver.SessionResetter. Like go-sql-driver's it
// leaves the session, and its locks, alone.
func (c *conn) ResetSession(context.Context) error {
	if c.ended() {
		return driver.ErrBadConn
	}
	return nil
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	c.end()
	return nil
}

// Begin implements driver.Conn.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Prepare implements driver.Conn.
func (c *conn) Prepare(text string) (driver.Stmt, error) {
	if c.ended() {
		return nil, server.ErrInvalidConn
	}
	st, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &prepared{conn: c, statement: st}, nil
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	switch {
	case isRollback(text):
		return &rows{}, nil // the transaction has ended with its COMMIT
	case c.ofTx(text):
		return c.queryTx(ctx, text, args)
	}
	st, err := parse(text)
	if err != nil {
		return nil, err
	}
	return c.run(ctx, st, args)
}

func (c *conn) run(ctx context.Context, st statement, args []driver.NamedValue) (driver.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.ended() {
		return nil, server.ErrInvalidConn
	}
	values := make([]driver.Value, len(args))
	for i, arg := range args {
		values[i] = arg.Value
	}
	if err := c.process.reach(ctx, c); err != nil {
		return nil, err
	}
	c.does(st.text)
	defer c.does("")
	answer, err := st.run(&execution{ctx: ctx, conn: c, args: values, limit: st.limit})
	if err == nil {
		err = c.process.reach(ctx, c) // the answer, too
	}
	if err != nil {
		return nil, err
	}
	return &rows{answer}, nil
}

// prepared is a prepared statement.
type prepared struct {
	conn      *conn
	statement statement
}

func (p *prepared) Close() error { return nil }

func (p *prepared) NumInput() int { return -1 } // the statement checks

func (p *prepared) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return p.conn.run(ctx, p.statement, args)
}

func (p *prepared) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

func (p *prepared) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

// rows are those still to be read.
type rows struct{ left [][]driver.Value }

func (r *rows) Columns() []string {
	if len(r.left) == 0 {
		return nil
	}
	return make([]string, len(r.left[0]))
}

func (r *rows) Close() error { return nil }

func (r *rows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	copy(dest, r.left[0])
	r.left = r.left[1:]
	return nil
}
