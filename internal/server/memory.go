package server

import "github.com/go-sql-driver/mysql"

// What the server in memory behind package locktest needs in order to pass for
// a server.

// A MemoryConn is a connection to a server in memory. There is no socket to
// look at: it knows by itself whether the server has closed it. The argument
// keeps foreign drivers from having the method by chance.
type MemoryConn interface {
	ClosedByServer(Look) bool
}

// Look is a look at a connection.
type Look struct{}

// Error returns what the driver makes of an error that a server answers.
func Error(number uint16, message string) error {
	return &mysql.MySQLError{Number: number, Message: message}
}

// ErrInvalidConn is what the driver returns when the connection dies under a
// statement.
var ErrInvalidConn = mysql.ErrInvalidConn
