package server

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// The server's error numbers in answer to a lock function. Measured on MySQL
// 9.7 and MariaDB 10.11 unless a source is named.
const (
	erDeadlock            = 1213 // MariaDB
	erUserLockDeadlock    = 3058 // MySQL
	erLockWaitTimeout     = 1205
	erSnapshot            = 1020 // MariaDB, under innodb_snapshot_isolation
	erQueryInterrupted    = 1317
	erQueryTimeout        = 3024 // MySQL: the hint of a wait, or the server's own limit
	erStatementTimeout    = 1969 // MariaDB
	erTooLongIdent        = 1059 // MariaDB
	erUserLockWrongName   = 3057 // MySQL
	erUserLockTooLongName = 4163 // MySQL
	erNoSuchFunction      = 1305 // or savepoint
	erUnknownStatement    = 1243 // the prepared statement has gone
	erNeedReprepare       = 1615
	erXA                  = 1399 // refused in an XA transaction

	// Servers that prohibit lock functions, according to their documentation
	// and bug reports.
	erNotSupportedYet = 1235 // MariaDB 10.6.13 and 10.11.3 with wsrep
	erUnknown         = 1105 // Percona XtraDB Cluster in strict mode; also anything else
	erReadOnlyMode    = 1836
)

// Refusals of a connection because no more are allowed: for the server, or for
// that user.
const (
	erConCount               = 1040
	erTooManyUserConnections = 1203
	erUserLimitReached       = 1226
)

// A server sends these before it closes a connection. Such a packet may have
// been sent long before the statement that it seems to answer.
const (
	erServerShutdown           = 1053
	erConnectionKilled         = 1927 // MariaDB
	erSessionWasKilled         = 3169 // MySQL
	erClientInteractionTimeout = 4031 // MySQL: wait_timeout
)

// errorNumber returns the server's error number, or 0 if err is not an answer
// of a server.
func errorNumber(err error) uint16 {
	if err == nil {
		return 0
	}
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// An otherAnswer is an error without a known number, on a connection that its
// driver still calls valid: the server has answered, and the session is alive.
// Drivers other than go-sql-driver have error types of their own.
type otherAnswer struct{ error }

func (e otherAnswer) Unwrap() error { return e.error }

// nonsense is an answer that no server gives.
type nonsense struct{ error }

func (e nonsense) Unwrap() error { return e.error }

// brokenBy lists the errors after which the state of a session is unknown, even
// if its driver calls the connection valid.
var brokenBy = []error{
	driver.ErrBadConn, mysql.ErrInvalidConn, mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul, mysql.ErrBusyBuffer,
	io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.Canceled, context.DeadlineExceeded,
}

// classified returns err, as an otherAnswer if it is one. If the session is
// ours and holds no lock, err stays as it is: the session is discarded and
// another is tried. The caller is the only user of the connection.
func (c *Conn) classified(err error) error {
	if errorNumber(err) != 0 || !c.lent && c.locks == 0 {
		return err
	}
	if errors.As(err, new(nonsense)) || errors.As(err, new(net.Error)) ||
		slices.ContainsFunc(brokenBy, func(by error) bool { return errors.Is(err, by) }) {
		return err
	}
	if !c.driver.Valid() {
		return err
	}
	return otherAnswer{err}
}

// isUnreadable reports whether the driver could not parse a number.
func isUnreadable(err error) bool {
	return errors.As(err, new(*strconv.NumError)) && !errors.As(err, new(nonsense))
}

// IsAnswer reports whether err is an answer of the server after which the
// session goes on. The numbers 2000 to 2999 are a client's: a proxy reports
// that it has lost the server.
func IsAnswer(err error) bool {
	switch n := errorNumber(err); {
	case n == 0:
		return errors.As(err, new(otherAnswer))
	case n >= 2000 && n < 3000:
		return false
	}
	switch errorNumber(err) {
	case erServerShutdown, erConnectionKilled, erSessionWasKilled, erClientInteractionTimeout:
		return false
	}
	return !errors.Is(err, ErrSilent)
}

// declined reports whether the server refused to run the statement. An
// interrupted statement, or one that a time limit ended, was not refused.
func declined(err error) bool {
	return IsAnswer(err) && errorNumber(err) != erQueryInterrupted && !isTimeLimit(err)
}

// isTimeLimit reports whether a time limit for statements ended the statement.
func isTimeLimit(err error) bool {
	n := errorNumber(err)
	return n == erQueryTimeout || n == erStatementTimeout
}

// isForgotten reports whether a prepared statement was not run because the
// server no longer has it. FLUSH and proxies drop prepared statements, and the
// session lives on.
func isForgotten(err error) bool {
	n := errorNumber(err)
	return n == erUnknownStatement || n == erNeedReprepare
}

// IsFull reports whether the server refused the connection because no more are
// allowed.
func IsFull(err error) bool {
	switch errorNumber(err) {
	case erConCount, erTooManyUserConnections, erUserLimitReached:
		return true
	}
	return false
}

// Prohibits reports whether the server does not let this session use lock
// functions.
func Prohibits(err error) bool {
	switch errorNumber(err) {
	case erNoSuchFunction, erNotSupportedYet, erUnknown, erReadOnlyMode:
		return true
	}
	return false
}

// isRefusal reports whether the server refused before it looked for the lock,
// so that nothing can have been granted or released.
func isRefusal(err error) bool {
	switch errorNumber(err) {
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName:
		return true
	}
	return Prohibits(err)
}

// verdict returns the error for an answer to GET_LOCK that is neither 1 nor 0,
// or nil for a wait whose time is over. A nil err is a NULL: MariaDB answers a
// killed wait (KILL QUERY) by NULL, and MySQL by error 1317. Both are
// ErrInterrupted. A deadlock is 3058 on MySQL and 1213 on MariaDB.
func verdict(err error) error {
	if err == nil {
		return fault.Because(fault.ErrInterrupted, "wait interrupted on the server (KILL QUERY); nothing is held: GET_LOCK returned NULL", nil)
	}
	if Prohibits(err) {
		return prohibited(err)
	}
	switch errorNumber(err) {
	case erQueryInterrupted:
		return fault.Because(fault.ErrInterrupted, "", err)
	case erQueryTimeout, erStatementTimeout:
		return nil
	case erDeadlock, erUserLockDeadlock:
		return fault.Because(fault.ErrDeadlock, "the server detected a deadlock; release the outer lock", err)
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName:
		return fault.Because(fault.ErrInvalidName, "the server refused the lock name", err)
	}
	return fault.Because(fault.ErrUnavailable, "the server refused GET_LOCK", err)
}

func prohibited(err error) error {
	return fault.Because(fault.ErrUnsupported, "the server does not allow GET_LOCK", err)
}
