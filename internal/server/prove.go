package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// Prove asks the server whether the session holds the locks, by
// IS_USED_LOCK(name) = CONNECTION_ID() for each of them, and whether the server
// can still be written to. It compares within one statement, because a proxy
// may answer CONNECTION_ID() for itself. A ping would detect neither a lock
// that has gone nor a primary that has become a replica.
//
// If the error is ErrOccupied or IsTooLong, nothing was sent. If it is an
// answer (IsAnswer), the session is alive. Any other error is a loss.
func (c *Conn) Prove(names []string) error {
	if err := c.greet(); err != nil {
		// The error of a failed acquire is not the cause of a loss.
		if r := (*fault.Reason)(nil); errors.As(err, &r) && r.Cause != nil {
			err = r.Cause
		}
		return fmt.Errorf("keep-alive failed: %w", err)
	}
	owned := make([]sql.NullBool, len(names))
	columns, args := make([]column, len(names)), make([]driver.Value, len(names))
	for i, name := range names {
		columns[i], args[i] = column{provesLock, &owned[i]}, name
	}
	var mode writability
	if c.server.CheckServer {
		columns = append(columns, c.readOnlyColumns(&mode)...)
	} else {
		columns = append(columns, column{"0", &mode.readOnly})
	}
	var waitTimeout sql.NullString
	columns = append(columns, c.leaseColumns(&waitTimeout)...)
	if err := c.read(c.patience(), named(args...), columns...); err != nil {
		return fmt.Errorf("keep-alive failed: %w", err)
	}
	for i := range owned {
		if !owned[i].Bool {
			return fmt.Errorf("the session is alive but no longer holds %q (did other code release it?)", names[i])
		}
	}
	c.leaseRead(waitTimeout)
	return mode.err()
}

// IsTooLong reports whether nothing was sent, because the statement does not
// fit into a packet.
func IsTooLong(err error) bool { return errors.Is(err, mysql.ErrPktTooLarge) }
