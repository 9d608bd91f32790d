package server

import "github.com/go-sql-driver/mysql"

// This file is for package locktest, whose server in memory has to pass for a
// server.

// A MemoryConn is a connection to a server in memory. It has no socket, and
// reports itself whether the server has closed it. Because of the argument, no
// foreign driver has this method by chance.
type MemoryConn interface {
	ClosedByServer(Look) bool
}

// Look is a probe of a connection.
type Look struct{}

// Error returns the driver's error for an error packet of a server.
func Error(number uint16, message string) error {
	return &mysql.MySQLError{Number: number, Message: message}
}

// ErrInvalidConn is the driver's error for a connection that dies during a
// statement.
var ErrInvalidConn = mysql.ErrInvalidConn
