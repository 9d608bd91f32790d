package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/fault"
)

// refusals are the error numbers for a user without permission. They mean that
// access is denied: to a database, a table, a column or an operation, without a
// password, from this host, or with an expired password.
var refusals = []uint16{1044, 1045, 1130, 1142, 1143, 1227, 1370, 1396, 1524, 1698, 1820, 1862, 3118}

// mistakes are the error numbers for a wrong DSN or option file, except for a
// wrong user. They mean an unknown database, variable, character set, collation
// or time zone. They also mean a variable that a session cannot set, or a value
// that it does not accept.
var mistakes = []uint16{1049, 1064, 1115, 1193, 1229, 1231, 1232, 1238, 1273, 1298, 1621}

// isMistake reports whether the DSN or the option file is wrong, so that
// retrying does not help.
func isMistake(err error) bool {
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		return slices.Contains(mistakes, answer.Number)
	}
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError)) ||
		errors.Is(err, mysql.ErrNoTLS) || errors.Is(err, mysql.ErrOldProtocol) || errors.Is(err, mysql.ErrUnknownPlugin) ||
		errors.Is(err, mysql.ErrCleartextPassword) || errors.Is(err, mysql.ErrNativePassword) || errors.Is(err, mysql.ErrOldPassword)
}

// mayPass reports whether a later attempt may succeed, as after a failover.
func mayPass(err error) bool {
	return (errors.Is(err, namedlock.ErrUnavailable) || errors.Is(err, fault.ErrReadOnly)) && codeOf(err) == exitUnavailable && !isMistake(err)
}

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
