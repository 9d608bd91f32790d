package mysqld

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/server"
)

// The server has only locks. Transactions come from a db that the test
// provides. The connection passes every statement on to it that is not about
// locks. A transaction ends with the session, as on a server.

// TxFrom sets the db of the transactions.
func (p *Process) TxFrom(db *sql.DB) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.txDB = db
}

// A txn is the transaction of a connection, on another connection of the
// test's.
type txn struct {
	conn  *conn
	lease *sql.Conn   // keeps others from inner
	inner driver.Conn // where it runs
	tx    driver.Tx

	ending sync.Once
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.server.mu.Lock()
	db := c.process.txDB
	c.server.mu.Unlock()
	if c.ended() {
		return nil, driver.ErrBadConn
	}
	if db == nil {
		return nil, &mysql.MySQLError{Number: 1235, Message: "locktest: no db for transactions; set one with TxFrom"} // an answer: the lock stays
	}
	lease, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	t := &txn{conn: c, lease: lease}
	err = lease.Raw(func(inner any) (err error) {
		t.inner = inner.(driver.Conn)
		if begins, ok := inner.(driver.ConnBeginTx); ok {
			t.tx, err = begins.BeginTx(ctx, opts)
		} else {
			//lint:ignore SA1019 a driver of the test's may know nothing newer
			t.tx, err = t.inner.Begin()
		}
		return err
	})
	if err != nil {
		_ = lease.Close()
		return nil, err
	}
	c.tx = t
	return t, nil
}

// Commit implements driver.Tx. A session that has ended has rolled back.
func (t *txn) Commit() error {
	if t.conn.ended() {
		_ = t.end(t.tx.Rollback)
		return server.ErrInvalidConn
	}
	return t.end(t.tx.Commit)
}

// Rollback implements driver.Tx.
func (t *txn) Rollback() error { return t.end(t.tx.Rollback) }

func (t *txn) end(how func() error) (err error) {
	t.ending.Do(func() {
		t.conn.tx = nil
		err = how()
		_ = t.lease.Close()
	})
	return err
}

// isRollback is for what follows on a COMMIT that was refused.
func isRollback(text string) bool { return strings.EqualFold(text, "ROLLBACK") }

// ofTx reports whether text is for the transaction, and not about locks.
func (c *conn) ofTx(text string) bool {
	if c.tx == nil {
		return false
	}
	_, err := parse(text)
	return err != nil
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *conn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	if !c.ofTx(text) {
		return c.Prepare(text)
	}
	if c.ended() {
		return nil, server.ErrInvalidConn
	}
	if inner, ok := c.tx.inner.(driver.ConnPrepareContext); ok {
		return inner.PrepareContext(ctx, text)
	}
	return c.tx.inner.Prepare(text)
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if !c.ofTx(text) {
		return nil, driver.ErrSkip
	}
	if c.ended() {
		return nil, server.ErrInvalidConn
	}
	if inner, ok := c.tx.inner.(driver.ExecerContext); ok {
		return inner.ExecContext(ctx, text, args)
	}
	return nil, driver.ErrSkip
}

// queryTx is QueryContext for a statement of the transaction.
func (c *conn) queryTx(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if c.ended() {
		return nil, server.ErrInvalidConn
	}
	if inner, ok := c.tx.inner.(driver.QueryerContext); ok {
		return inner.QueryContext(ctx, text, args)
	}
	return nil, driver.ErrSkip
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *conn) CheckNamedValue(value *driver.NamedValue) error {
	if c.tx != nil {
		if inner, ok := c.tx.inner.(driver.NamedValueChecker); ok {
			return inner.CheckNamedValue(value)
		}
	}
	return driver.ErrSkip
}
