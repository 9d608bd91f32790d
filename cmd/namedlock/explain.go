package main

import (
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
)

// refusals are what servers answer to a user who may not: access denied, to a database, a table, a column, an operation,
// without a password, from this host, or with a password that has expired.
var refusals = []uint16{1044, 1045, 1130, 1142, 1143, 1227, 1370, 1396, 1524, 1698, 1820, 1862, 3118}

// codeOf returns the exit code for an error.
func codeOf(err error) int {
	var usage usageError
	var answer *mysql.MySQLError
	switch {
	case errors.As(err, &usage), errors.Is(err, namedlock.ErrInvalidName):
		return exitUsage
	case errors.As(err, &answer) && slices.Contains(refusals, answer.Number):
		return exitDenied
	}
	return exitUnavailable
}
