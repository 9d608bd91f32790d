package session

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// server is what a greeting has found out.
type server struct {
	version string
	// The character sets that a name goes through on its way.
	clientCharset, connectionCharset string
	// MariaDB's max_statement_time, in seconds; asked when first needed.
	timeLimit sql.NullFloat64
	// How many locks other code had left on the connection.
	leaked int64
}

func (srv *server) mariaDB() bool {
	return strings.Contains(strings.ToLower(srv.version), "mariadb")
}

// foreignCharset returns the character set in which a name would not stay what
// it is, or "".
func (srv *server) foreignCharset() string {
	for _, charset := range []string{srv.clientCharset, srv.connectionCharset} {
		switch charset {
		case "utf8mb4", "utf8mb3", "utf8":
		default:
			return charset
		}
	}
	return ""
}

// greeting asks who is there. None of it is different on MySQL and MariaDB.
const greeting = "SELECT VERSION(), @@character_set_client, @@character_set_connection"

// greetingOfBorrowed also drops the locks that other code left on the
// connection while it was in a pool: with one of them, GET_LOCK would re-enter
// without a word, and RELEASE_LOCK would leave it held.
const greetingOfBorrowed = greeting + ", RELEASE_ALL_LOCKS()"

// greet asks the server what it is, unless that is known.
func (s *Session) greet() error {
	if s.server != nil {
		return nil
	}
	var srv server
	return s.greeted(&srv, s.scan(greeting, &srv.version, &srv.clientCharset, &srv.connectionCharset))
}

func (s *Session) greetBorrowed() error {
	var srv server
	return s.greeted(&srv, s.scan(greetingOfBorrowed, &srv.version, &srv.clientCharset, &srv.connectionCharset, &srv.leaked))
}

func (s *Session) greeted(srv *server, err error) error {
	switch {
	case err == nil:
		s.server = srv
		return nil
	case isAnswer(err):
		return fault.Because(fault.Unavailable, "the server refused the greeting", err)
	}
	return s.distrust(err)
}

func (s *Session) scan(query string, dest ...any) error {
	s.silence.Reset(answerTime)
	err := s.conn.QueryRowContext(s.ctx, query).Scan(dest...)
	if !s.silence.Stop() {
		return fmt.Errorf("%w (%v)", errSilent, answerTime)
	}
	return hideContext(err)
}

// waitStatement returns the statement and the timeout that wait for a lock for d,
// to the millisecond and whatever limit the server has for statements. Neither
// touches a session variable.
//
// MySQL rounds the timeout of GET_LOCK to whole seconds, so it gets the next
// higher ones and a hint ends the wait, by error 3024. MariaDB takes fractions,
// but ends the statement at its max_statement_time.
func (s *Session) waitStatement(d time.Duration) (text string, timeout any, err error) {
	if err := s.greet(); err != nil {
		return "", nil, err
	}
	if !s.server.mariaDB() {
		ms := (d + time.Millisecond - 1) / time.Millisecond
		seconds := (d + time.Second - 1) / time.Second
		return fmt.Sprintf("SELECT /*+ MAX_EXECUTION_TIME(%d) */ GET_LOCK(?, ?)", ms), int64(seconds), nil
	}
	if !s.server.timeLimit.Valid {
		if err := s.scan("SELECT @@max_statement_time", &s.server.timeLimit); err != nil {
			return "", nil, err
		}
	}
	if s.server.timeLimit.Float64 == 0 {
		return getLock, d.Seconds(), nil
	}
	return "SET STATEMENT max_statement_time=0 FOR " + getLock, d.Seconds(), nil
}

// What servers answer instead of a number, measured on MySQL 9.7 and MariaDB 10.11.
const (
	erDeadlock            = 1213 // MariaDB
	erUserLockDeadlock    = 3058 // MySQL
	erQueryInterrupted    = 1317
	erQueryTimeout        = 3024 // MySQL: the hint of a wait, or the server's own limit
	erStatementTimeout    = 1969 // MariaDB
	erTooLongIdent        = 1059 // MariaDB
	erUserLockWrongName   = 3057 // MySQL
	erUserLockTooLongName = 4163 // MySQL
	erNoSuchFunction      = 1305
)

// isTimeLimit reports whether a limit for statements ended the statement.
func isTimeLimit(err error) bool {
	n := number(err)
	return n == erQueryTimeout || n == erStatementTimeout
}

// isRefusal reports whether the server did not even look at the name.
func isRefusal(err error) bool {
	switch number(err) {
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName, erNoSuchFunction:
		return true
	}
	return false
}

// verdict says what an answer to GET_LOCK means that is neither 1 nor 0: nil for
// a wait that has run out. A nil err stands for NULL, which MariaDB answers where
// MySQL answers by error 1317.
func verdict(err error) error {
	switch number(err) {
	case 0:
		return fault.Because(fault.Interrupted, "wait interrupted by the server: GET_LOCK returned NULL", nil)
	case erQueryInterrupted:
		return fault.Because(fault.Interrupted, "", err)
	case erQueryTimeout, erStatementTimeout:
		return nil
	case erDeadlock, erUserLockDeadlock:
		return fault.Because(fault.Deadlock, "the server found a deadlock", err)
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName:
		return fault.Because(fault.InvalidName, "the server refused the lock name", err)
	case erNoSuchFunction:
		return fault.Because(fault.Unsupported, "the server has no named locks", err)
	}
	return fault.Because(fault.Unavailable, "the server refused GET_LOCK", err)
}
