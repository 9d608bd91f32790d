package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A yesConn is a driver's connection whose server answers 1 to everything. It
// allocates nothing.
type yesConn struct{}

func (c *yesConn) Connect(context.Context) (driver.Conn, error) { return c, nil }
func (c *yesConn) Driver() driver.Driver                        { return nil }
func (c *yesConn) Prepare(string) (driver.Stmt, error)          { return c, nil }
func (c *yesConn) Begin() (driver.Tx, error)                    { return nil, driver.ErrSkip }
func (c *yesConn) Close() error                                 { return nil }

func (c *yesConn) NumInput() int                              { return -1 }
func (c *yesConn) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }
func (c *yesConn) Query([]driver.Value) (driver.Rows, error)  { return c, nil }
func (c *yesConn) Columns() []string                          { return nil }
func (c *yesConn) Next(row []driver.Value) error              { row[0] = int64(1); return nil }
func (c *yesConn) QueryContext(context.Context, []driver.NamedValue) (driver.Rows, error) {
	return c, nil
}

// The uncontended cycle of one lock allocates nothing beneath the pool, apart
// from what the driver does.
func TestGetLock_Allocations(t *testing.T) {
	db := sql.OpenDB(new(yesConn))
	defer db.Close()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	c := New(Config{ReleaseTimeout: time.Minute}, false).Use(conn, true)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		granted, err := c.GetLock("a", 0)
		if err != nil || !granted || c.ReleaseLock("a") != nil {
			panic("not granted")
		}
	}))
	require.NoError(t, c.GiveBack())
}
