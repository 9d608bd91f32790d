package session

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// server is what a greeting has found out.
type server struct {
	version, comment sql.NullString
	// The character sets that a name goes through on its way.
	clientCharset, connectionCharset sql.NullString
	// The session's wait_timeout in seconds, and when it is over by now: the lease
	// may have replaced it.
	waitTimeout sql.NullInt64
	idleLimit   time.Duration
	// MariaDB's max_statement_time, in seconds; asked when first needed.
	timeLimit sql.NullFloat64
	// How many locks other code had left on the connection.
	leaked sql.NullInt64
	// Whether it is read-only, and when its locks were last found to exclude, since
	// epoch; asked unless the server is not to be checked.
	readOnly sql.NullString
	cluster  sql.NullString // 0: certainly in none; see andCluster
	checked  time.Duration
}

func (srv *server) mariaDB() bool {
	return strings.Contains(strings.ToLower(srv.version.String), "mariadb")
}

// galera reports whether it may be a node of a Galera cluster: one of MariaDB's own,
// or of Percona XtraDB Cluster, which goes by MySQL's version.
func (srv *server) galera() bool {
	return srv.mariaDB() || strings.Contains(srv.comment.String, "XtraDB Cluster")
}

// foreignCharset returns the character set in which a name would not stay what
// it is, or "".
func (srv *server) foreignCharset() string {
	for _, charset := range []string{srv.clientCharset.String, srv.connectionCharset.String} {
		switch charset {
		case "utf8mb4", "utf8mb3", "utf8":
		default:
			return charset
		}
	}
	return ""
}

// greeting asks who is there. None of it is different on MySQL and MariaDB.
const greeting = "SELECT VERSION(), @@version_comment, @@character_set_client, @@character_set_connection, @@wait_timeout"

// greetingOfBorrowed also drops the locks that other code left on the
// connection while it was in a pool: with one of them, GET_LOCK would re-enter
// without a word, and RELEASE_LOCK would leave it held.
const greetingOfBorrowed = greeting + ", RELEASE_ALL_LOCKS()"

// greet asks the server what it is, unless that is known. The session may hold
// locks.
func (s *Session) greet() error {
	if s.server != nil {
		return nil
	}
	var srv server
	err := s.scan(s.patience(), greeting, &srv.version, &srv.comment, &srv.clientCharset, &srv.connectionCharset, &srv.waitTimeout)
	return s.greeted(&srv, err)
}

// greetBorrowed greets a session that holds nothing of ours yet, and refuses it if
// its server's locks do not exclude. It sets the lease. bound is for the first answer.
func (s *Session) greetBorrowed(bound time.Duration) error {
	var srv server
	text := greetingOfBorrowed
	dest := []sql.Scanner{&srv.version, &srv.comment, &srv.clientCharset, &srv.connectionCharset, &srv.waitTimeout, &srv.leaked}
	if s.config.CheckServer {
		text += ", @@read_only"
		dest = append(dest, &srv.readOnly)
	}
	if err := s.greeted(&srv, s.scanServer(bound, text, &srv, dest...)); err != nil {
		return err
	}
	if srv.leaked.Int64 > 0 {
		s.config.Logger.Warn("namedlock: dropped locks that other code had left on the connection", "locks", srv.leaked.Int64)
	}
	var err error
	if s.config.CheckServer {
		err = s.checkServer()
	}
	if err == nil {
		err = s.setLease()
	}
	if err != nil {
		s.server = nil // greet again, if there is a next time
	}
	return err
}

func (s *Session) greeted(srv *server, err error) error {
	if err != nil {
		return s.refusedOr(err, "the server refused the greeting")
	}
	srv.idleLimit = time.Duration(srv.waitTimeout.Int64) * time.Second
	s.server = srv
	return nil
}

// refusedOr makes an error of a session that is being greeted: the server answered
// by an error, or the session is broken.
func (s *Session) refusedOr(err error, refused string) error {
	switch {
	case errorNumber(err) == erQueryInterrupted:
		return fault.Because(fault.ErrInterrupted, "", err)
	case isAnswer(err):
		return fault.Because(fault.ErrUnavailable, refused, err)
	}
	return s.distrust(err)
}

// setLease lets the server close the session, and free its locks, when it has
// heard nothing of it for as long as the lease. A wait_timeout that is shorter
// stays.
func (s *Session) setLease() error {
	lease := int64(s.config.Lease / time.Second)
	if lease == 0 || lease >= s.server.waitTimeout.Int64 {
		return nil
	}
	if err := s.setWaitTimeout(lease); err != nil {
		return s.refusedOr(err, "the server refused the lease")
	}
	s.server.idleLimit = time.Duration(lease) * time.Second
	return nil
}

// unsetLease undoes setLease.
func (s *Session) unsetLease() error {
	if s.server == nil || s.server.idleLimit == time.Duration(s.server.waitTimeout.Int64)*time.Second {
		return nil
	}
	return s.setWaitTimeout(s.server.waitTimeout.Int64)
}

func (s *Session) setWaitTimeout(seconds int64) error {
	return s.exec(answerTime, fmt.Sprintf("SET SESSION wait_timeout = %d", seconds))
}

// waitStatement returns the statement and the timeout that wait for a lock for d,
// to the millisecond and whatever limit the server has for statements. Neither
// touches a session variable.
//
// MySQL rounds the timeout of GET_LOCK to whole seconds, so it gets the next
// higher ones and a hint ends the wait, by error 3024. MariaDB takes fractions,
// but ends the statement at its max_statement_time.
func (s *Session) waitStatement(d time.Duration) (st *statement, timeout driver.Value, err error) {
	if err := s.greet(); err != nil {
		return nil, nil, err
	}
	if !s.server.mariaDB() {
		seconds := (d + time.Second - 1) / time.Second
		if d == slice {
			return &s.waitSlice, int64(seconds), nil
		}
		return &statement{text: limited(d), spell: s.config.spell}, int64(seconds), nil
	}
	if !s.server.timeLimit.Valid {
		if err := s.scan(s.patience(), "SELECT @@max_statement_time", &s.server.timeLimit); err != nil {
			return nil, nil, err
		}
	}
	if s.server.timeLimit.Float64 == 0 {
		return &s.get, d.Seconds(), nil
	}
	return &statement{text: "SET STATEMENT max_statement_time=0 FOR " + getLock, spell: s.config.spell}, d.Seconds(), nil
}

// limited is MySQL's statement for a wait that the hint in it ends. A hint takes no
// argument, so only those of the same length are the same statement.
func limited(d time.Duration) string {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return fmt.Sprintf("SELECT /*+ MAX_EXECUTION_TIME(%d) */ GET_LOCK(?, ?)", ms)
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

// What servers say before they close a connection. It can have been said long before
// a statement that it seems to answer.
const (
	erServerShutdown           = 1053
	erConnectionKilled         = 1927 // MariaDB
	erSessionWasKilled         = 3169 // MySQL
	erClientInteractionTimeout = 4031 // MySQL: wait_timeout
)

// isTimeLimit reports whether a limit for statements ended the statement.
func isTimeLimit(err error) bool {
	n := errorNumber(err)
	return n == erQueryTimeout || n == erStatementTimeout
}

// isRefusal reports whether the server did not even look at the name.
func isRefusal(err error) bool {
	switch errorNumber(err) {
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName, erNoSuchFunction:
		return true
	}
	return false
}

// verdict says what an answer to GET_LOCK means that is neither 1 nor 0: nil for
// a wait that has run out. A nil err stands for NULL, which MariaDB answers where
// MySQL answers by error 1317.
func verdict(err error) error {
	switch errorNumber(err) {
	case 0:
		return fault.Because(fault.ErrInterrupted, "wait interrupted by the server: GET_LOCK returned NULL", nil)
	case erQueryInterrupted:
		return fault.Because(fault.ErrInterrupted, "", err)
	case erQueryTimeout, erStatementTimeout:
		return nil
	case erDeadlock, erUserLockDeadlock:
		return fault.Because(fault.ErrDeadlock, "the server found a deadlock", err)
	case erTooLongIdent, erUserLockWrongName, erUserLockTooLongName:
		return fault.Because(fault.ErrInvalidName, "the server refused the lock name", err)
	case erNoSuchFunction:
		return fault.Because(fault.ErrUnsupported, "the server has no named locks", err)
	}
	return fault.Because(fault.ErrUnavailable, "the server refused GET_LOCK", err)
}
