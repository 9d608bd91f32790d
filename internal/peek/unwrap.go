package peek

import (
	"database/sql/driver"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"
)

// A driver may be wrapped, for example for tracing. Statements go through the
// wrapper. Reading the driver's state and closing the socket need the
// connection of go-sql-driver beneath it.

// mostWrappers is the largest number of nested wrappers that are searched. It
// also ends the search in a wrapper that shows itself.
const mostWrappers = 10

// UnwrapTime bounds the search, which runs code of the user's and of the
// wrapper's.
const UnwrapTime = time.Second

// beneath returns the connection of go-sql-driver that conn wraps; nil: none is
// shown. A method of a wrapper, or the user's function, may panic or block.
// Then beneath logs it and returns nil.
func beneath(conn driver.Conn, unwrap func(driver.Conn) driver.Conn, logger *slog.Logger) driver.Conn {
	found := make(chan driver.Conn, 1)
	go func() {
		defer close(found)
		defer func() {
			if reason := recover(); reason != nil {
				logger.Error("namedlock: WithUnwrap or the driver's wrapper panicked", "panic", reason, "connection", fmt.Sprintf("%T", conn))
			}
		}()
		found <- search(conn, unwrap)
	}()
	timeout := time.NewTimer(UnwrapTime)
	defer timeout.Stop()
	select {
	case inner := <-found:
		return inner
	case <-timeout.C:
		logger.Error("namedlock: WithUnwrap or the driver's wrapper did not return", "after", UnwrapTime, "connection", fmt.Sprintf("%T", conn))
		return nil
	}
}

// search follows the nested wrappers down to the connection of go-sql-driver.
func search(conn driver.Conn, unwrap func(driver.Conn) driver.Conn) driver.Conn {
	for range mostWrappers {
		conn = unwrapOne(conn, unwrap)
		if conn == nil || isMySQL(conn) {
			return conn
		}
	}
	return nil
}

// unwrapOne returns the connection beneath one wrapper; nil: it shows none, or
// several. It asks the user's function first, then the methods Raw and
// WrappedConn, then the exported fields.
func unwrapOne(conn driver.Conn, unwrap func(driver.Conn) driver.Conn) driver.Conn {
	if unwrap != nil {
		if inner := unwrap(conn); inner != nil {
			return inner
		}
	}
	if c, ok := conn.(interface{ Raw() driver.Conn }); ok {
		if inner := c.Raw(); inner != nil {
			return inner
		}
	}
	if c, ok := conn.(interface{ WrappedConn() driver.Conn }); ok {
		if inner := c.WrappedConn(); inner != nil {
			return inner
		}
	}
	return onlyConnField(reflect.Indirect(reflect.ValueOf(conn)))
}

// onlyConnField returns the driver.Conn in the exported fields of a struct;
// nil: there is none, or there are several. Several fields may contain the same
// one, for example one field for each of the driver's interfaces.
func onlyConnField(wrapper reflect.Value) (only driver.Conn) {
	if wrapper.Kind() != reflect.Struct {
		return nil
	}
	var taken [][]int // fields embedded in these belong to the connection beneath
	for _, f := range reflect.VisibleFields(wrapper.Type()) {
		within := func(embedded []int) bool {
			return len(embedded) < len(f.Index) && slices.Equal(embedded, f.Index[:len(embedded)])
		}
		if !f.IsExported() || f.Type.Kind() != reflect.Interface && !f.Type.Implements(reflect.TypeFor[driver.Conn]()) || slices.ContainsFunc(taken, within) {
			continue
		}
		value, err := wrapper.FieldByIndexErr(f.Index)
		if err != nil {
			continue // in an embedded struct that is nil
		}
		conn, ok := value.Interface().(driver.Conn)
		if !ok {
			continue
		}
		taken = append(taken, f.Index)
		if only != nil && !(reflect.ValueOf(conn).Comparable() && only == conn) {
			return nil
		}
		only = conn
	}
	return only
}
