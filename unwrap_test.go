package namedlock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// A tracer wraps connections as tracing does, and shows the connection beneath.
type tracer struct {
	driver.Connector
	db *sql.DB // of the driver that opens the connections
}

type traced struct{ driver.Conn }

func (c traced) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (t tracer) Connect(context.Context) (driver.Conn, error) {
	conn, err := t.db.Driver().Open("wrapped-mock")
	return traced{conn}, err
}

func (t tracer) Driver() driver.Driver { return t.db.Driver() }

// A mock that is wrapped is still a mock: a Locker that may send only the
// statements of the cycle sends only these.
func TestUnwrap_WrappedMock(t *testing.T) {
	db, mock, err := sqlmock.NewWithDSN("wrapped-mock", sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual))
	require.NoError(t, err)
	defer db.Close()
	one := func() *sqlmock.Rows { return sqlmock.NewRows([]string{"1"}).AddRow(1) }
	mock.ExpectQuery("SELECT GET_LOCK(?, ?)").WithArgs("a", 0).WillReturnRows(one())
	mock.ExpectBegin()
	mock.ExpectCommit()
	mock.ExpectQuery("SELECT RELEASE_LOCK(?)").WithArgs("a").WillReturnRows(one())

	wrapped := sql.OpenDB(tracer{db: db})
	defer wrapped.Close()
	conn, err := wrapped.Conn(t.Context())
	require.NoError(t, err)
	asked := 0
	unwrap := func(c driver.Conn) driver.Conn {
		asked++
		return nil
	}
	locker, err := namedlock.New(conn, namedlock.WithoutServerCheck(), namedlock.WithUnwrap(unwrap))
	require.NoError(t, err)
	require.NoError(t, locker.WithLockTx(t.Context(), "a", 0, nil, func(context.Context, *sql.Tx) error { return nil }))
	require.NoError(t, locker.Close())
	assert.Equal(t, 2, asked, "about the wrapper and the mock, once")
	mock.ExpectClose()
	require.NoError(t, conn.Close())
	require.NoError(t, wrapped.Close())
	require.NoError(t, mock.ExpectationsWereMet())
}
