// Package session keeps the database sessions that locks live on: what is said
// to the server and what its answers mean (Session), and which session a lock
// goes to (Pool).
package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
)

// answerTime is how long a statement may take beyond the wait it asks for,
// before the client stops trusting a silent socket. Opening and greeting a
// session has the same bound.
const answerTime = 5 * time.Second

// The statements of an uncontended cycle. They stand in the package
// documentation of namedlock: users mock them.
const (
	getLock     = "SELECT GET_LOCK(?, ?)"
	releaseLock = "SELECT RELEASE_LOCK(?)"
)

// A Session is one connection, dedicated to locks. Whoever calls its methods
// has its turn (see Pool), so they never run at the same time; Kill alone may be
// called by anyone.
type Session struct {
	conn *sql.Conn

	// Every statement runs under ctx, never under a caller's: the driver answers
	// the end of a context by closing the socket, and every lock of the session
	// goes with it. ctx ends by Kill, or when silence has run out.
	ctx     context.Context
	cancel  context.CancelFunc
	silence *time.Timer

	get, release statement
	releaseTime  time.Duration
	server       *server // nil until greeted
	doubt        error   // why the session cannot be trusted any more

	place // guarded by Pool.mu
}

func newSession(conn *sql.Conn, releaseTime time.Duration) *Session {
	s := &Session{
		conn:        conn,
		get:         statement{text: getLock},
		release:     statement{text: releaseLock},
		releaseTime: releaseTime,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.silence = time.AfterFunc(math.MaxInt64, s.cancel)
	s.silence.Stop()
	return s
}

// Broken reports whether an answer has left the session in doubt. It is discarded
// when the turn ends.
func (s *Session) Broken() bool { return s.doubt != nil }

// Kill breaks the statement that runs on the session, if any, and lets every
// later one fail. It does not wait for that.
func (s *Session) Kill() { s.cancel() }

// GetLock asks for the lock once and, if others have it, waits for at most wait.
// It returns true if the lock was granted and false if others kept it. On an
// error nothing is held.
func (s *Session) GetLock(name string, wait time.Duration) (granted bool, err error) {
	if err := s.accepts(name); err != nil {
		return false, err
	}
	answer, err := s.askForLock(name, wait)
	switch {
	case err == nil && answer.Valid && answer.Int64 == 1:
		return true, nil
	case err == nil && answer.Valid && answer.Int64 == 0:
		return false, nil
	case err != nil && !isAnswer(err):
		return false, s.distrust(err)
	}
	// An error or a NULL says that the wait ended, and no manual says that the
	// lock cannot have been granted in the same moment. To ask is cheap.
	if _, err := s.ask(s.releaseTime, &s.release, name); err != nil && !isRefusal(err) {
		return false, s.distrust(err)
	}
	return false, verdict(err)
}

func (s *Session) askForLock(name string, wait time.Duration) (sql.NullInt64, error) {
	if wait <= 0 {
		answer, err := s.ask(answerTime, &s.get, name, 0)
		if !isTimeLimit(err) {
			return answer, err
		}
		// The server's limit for statements is so short that it cut off even the
		// try; a wait overrides the limit.
		wait = time.Millisecond
	}
	text, timeout, err := s.waitStatement(wait)
	if err != nil {
		return sql.NullInt64{}, err
	}
	return s.ask(wait+answerTime, &statement{text: text}, name, timeout)
}

// ReleaseLock gives the lock back. It returns nil only if the server said that
// this session held it. After any other answer the session is in doubt.
func (s *Session) ReleaseLock(name string) error {
	answer, err := s.ask(s.releaseTime, &s.release, name)
	switch {
	case err != nil:
		s.doubt = fmt.Errorf("RELEASE_LOCK failed: %w", err)
	case !answer.Valid:
		s.doubt = errors.New("RELEASE_LOCK returned NULL: nobody held the lock any more")
	case answer.Int64 != 1:
		s.doubt = fmt.Errorf("RELEASE_LOCK returned %d: another session held the lock", answer.Int64)
	default:
		return nil
	}
	return fault.Because(fault.Lost, "lock not provably held to the end", s.doubt)
}

// distrust records that nothing is known of the session any more. The pool
// discards it when the turn ends.
func (s *Session) distrust(err error) error {
	if s.doubt == nil {
		s.doubt = err
	}
	return fault.Because(fault.Unavailable, "session broken", err)
}

// accepts returns an error if the session's server would lock another name.
func (s *Session) accepts(name string) error {
	if names.ASCII(name) {
		return nil
	}
	if err := s.greet(); err != nil {
		return err
	}
	if cs := s.server.foreignCharset(); cs != "" {
		return fault.Because(fault.Unsupported, fmt.Sprintf("the session's character set is %s, so the server would lock another name than %q: "+
			"connect with utf8mb4, or use a name in ASCII", cs, name), nil)
	}
	return nil
}

// A statement with arguments is sent as text the first time and prepared from
// the second: a session that lives for one lock spares the preparing, one that
// stays spares the parsing.
type statement struct {
	text     string
	used     bool
	prepared *sql.Stmt
	refused  bool // the server will not prepare (its max_prepared_stmt_count, a proxy)
}

var errSilent = errors.New("no answer in time")

// ask runs one statement for one number, for no longer than bound.
func (s *Session) ask(bound time.Duration, st *statement, args ...any) (n sql.NullInt64, err error) {
	s.silence.Reset(bound)
	err = s.row(st, args).Scan(&n)
	if !s.silence.Stop() {
		// The bound may have passed only after the answer, but s.ctx has ended or
		// is about to: the next statement would break.
		return n, errors.Join(fmt.Errorf("%w (%v)", errSilent, bound), hideContext(err))
	}
	return n, hideContext(err)
}

func (s *Session) row(st *statement, args []any) scanner {
	if st.used && st.prepared == nil && !st.refused {
		prepared, err := s.conn.PrepareContext(s.ctx, st.text)
		switch {
		case err == nil:
			st.prepared = prepared
		case isAnswer(err):
			st.refused = true
		default:
			return failed{err}
		}
	}
	st.used = true
	if st.prepared != nil {
		return st.prepared.QueryRowContext(s.ctx, args...)
	}
	return s.conn.QueryRowContext(s.ctx, st.text, args...)
}

type scanner interface{ Scan(dest ...any) error }

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

// hideContext keeps the text of an error that stems from s.ctx but not its
// identity: callers look for their own context's end with errors.Is.
func hideContext(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("statement cut off: %v", err)
	}
	return err
}

// closeStatements frees what was prepared. The connection stays usable.
func (s *Session) closeStatements() {
	for _, st := range []*statement{&s.get, &s.release} {
		if st.prepared != nil {
			_ = st.prepared.Close() // nothing is answered, and nothing depends on it
			st.prepared = nil
		}
	}
}

// discard closes the connection for good, which frees its locks at once. The
// connection never goes back to a pool.
func (s *Session) discard() {
	s.cancel() // a statement that hangs would keep Raw waiting
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
}

// number returns the server's error number, or 0 if err is no answer of a server.
func number(err error) uint16 {
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// isAnswer reports whether the server answered by an error, so that the session
// lives on, as far as the answer tells.
func isAnswer(err error) bool { return number(err) != 0 }
