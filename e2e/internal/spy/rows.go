package spy

import (
	"database/sql/driver"
	"errors"
	"io"
	"slices"
)

// forged is, in the place of an error, an answer that the server has not given.
type forged struct {
	value driver.Value
	count int // of rows
}

func (*forged) Error() string { return "a forged answer" }

// rows returns the rows of a query that went through a fault.
func rows(r driver.Rows, err error) (driver.Rows, error) {
	if err == nil {
		return r, nil
	}
	columns := []string{"answer"}
	if r != nil { // sent, and its answer suppressed
		columns = slices.Clone(r.Columns())
		_ = r.Close()
	}
	if f := (*forged)(nil); errors.As(err, &f) {
		return &forgedRows{columns, *f}, nil
	}
	return nil, err
}

// forgedRows say the same in each column.
type forgedRows struct {
	columns []string
	left    forged
}

func (r *forgedRows) Columns() []string { return r.columns }

func (r *forgedRows) Close() error { return nil }

func (r *forgedRows) Next(row []driver.Value) error {
	if r.left.count == 0 {
		return io.EOF
	}
	r.left.count--
	for i := range row {
		row[i] = r.left.value
	}
	return nil
}
