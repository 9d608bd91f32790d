package server

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
)

// A receiver takes the rows of an answer. The driver owns the values, and may
// reuse them when receive has returned.
type receiver interface {
	receive(rows driver.Rows) error
}

// A number receives a row with one number, or NULL.
type number struct {
	row   [1]driver.Value
	value sql.NullInt64
}

func (n *number) receive(rows driver.Rows) error {
	if err := rows.Next(n.row[:]); err != nil {
		return noRows(err)
	}
	return scan(&n.value, n.row[0])
}

// one receives a row with a column for each destination. If the server left
// columns out, the last destinations stay unset, like NULL.
type one []sql.Scanner

func (dest one) receive(rows driver.Rows) error {
	row := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(row); err != nil {
		return noRows(err)
	}
	return dest.scan(row)
}

func (dest one) scan(row []driver.Value) error {
	if len(row) > len(dest) {
		return nonsense{fmt.Errorf("%d columns where %d were expected", len(row), len(dest))}
	}
	for i, value := range row {
		if err := scan(dest[i], value); err != nil {
			return err
		}
	}
	return nil
}

// none expects no row, and reads none.
type none struct{}

func (none) receive(driver.Rows) error { return nil }

func noRows(err error) error {
	if err == io.EOF {
		return nonsense{sql.ErrNoRows}
	}
	return err
}

// scan puts value into dest. If character_set_results is for example UTF-16,
// text arrives as ASCII with a NUL before or after each character. No text that
// is read here contains other NULs, so they are removed.
func scan(dest sql.Scanner, value driver.Value) error {
	if text, ok := value.([]byte); ok && bytes.IndexByte(text, 0) >= 0 {
		value = bytes.ReplaceAll(text, []byte{0}, nil)
	}
	if err := dest.Scan(value); err != nil {
		return nonsense{err}
	}
	return nil
}
