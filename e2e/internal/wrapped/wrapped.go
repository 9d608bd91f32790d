// Package wrapped is a driver that is not go-sql-driver: it has one inside, as drivers for tracing do, and
// a ResetSession of the kind that other drivers have.
package wrapped

import (
	"context"
	"database/sql/driver"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

// A Connector is a driver.Connector.
type Connector struct {
	driver.Connector
	resets atomic.Int64

	mu     sync.Mutex
	before map[string]string // statements to run before one that contains the key, once
}

// New returns a connector for what cfg describes.
func New(cfg *mysql.Config) (*Connector, error) {
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return &Connector{Connector: c, before: make(map[string]string)}, nil
}

// Resets returns how often ResetSession was called.
func (c *Connector) Resets() int64 { return c.resets.Load() }

// Before has statement run before the next one that contains text, on the same connection.
func (c *Connector) Before(text, statement string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before[text] = statement
}

// Connect implements driver.Connector.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{inner: inner, connector: c}, nil
}

// inner is driver.Conn under a name that is not exported, so that the Locker does
// not see through.
type inner = driver.Conn

// conn has those optional interfaces without which the driver inside is not itself.
type conn struct {
	inner
	connector *Connector
}

var _ interface {
	driver.ConnPrepareContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
} = (*conn)(nil)

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.intrude(query); err != nil {
		return nil, err
	}
	return c.inner.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.intrude(query); err != nil {
		return nil, err
	}
	return c.inner.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

// ResetSession makes the session as good as new: its locks go.
func (c *conn) ResetSession(ctx context.Context) error {
	c.connector.resets.Add(1)
	return c.run(ctx, "SELECT RELEASE_ALL_LOCKS()")
}

func (c *conn) IsValid() bool { return c.inner.(driver.Validator).IsValid() }

func (c *conn) intrude(query string) error {
	c.connector.mu.Lock()
	var statement string
	for text, s := range c.connector.before {
		if strings.Contains(query, text) {
			statement = s
			delete(c.connector.before, text)
		}
	}
	c.connector.mu.Unlock()
	if statement == "" {
		return nil
	}
	return c.run(context.Background(), statement)
}

func (c *conn) run(ctx context.Context, statement string) error {
	rows, err := c.inner.(driver.QueryerContext).QueryContext(ctx, statement, nil)
	if err != nil {
		return err
	}
	return rows.Close()
}
