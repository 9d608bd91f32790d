package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
)

// answerTime is how long a statement may take beyond the wait it asks for,
// before the client stops trusting a silent socket. Opening and greeting a
// session has the same bound.
const answerTime = 5 * time.Second

// What the statements of an uncontended cycle select. They stand in docs/STATEMENTS.md:
// users mock them.
const (
	getLock         = "GET_LOCK(?, ?)"
	releaseLock     = "RELEASE_LOCK(?)"
	releaseAllLocks = "RELEASE_ALL_LOCKS()"
	provesLock      = "IS_USED_LOCK(?) = CONNECTION_ID()"
)

// A Session is one connection, dedicated to locks. Whoever calls its methods
// has its turn (see Pool), so they never run at the same time.
type Session struct {
	conn   *sql.Conn
	lent   bool // conn was given to New, whose caller may use it too
	config *Config

	// No statement runs under a caller's context: the driver answers the end of a
	// context by closing the socket, and every lock of the session goes with it.
	// Statements run under ctx, or without a context: see contextOf. breakOff ends both,
	// and is called when silence has run out.
	ctx      context.Context
	cancel   context.CancelFunc
	silence  *time.Timer
	toClose  atomic.Pointer[net.Conn] // what breakOff has to close; nil: nothing
	killed   atomic.Bool              // by Pool.Kill
	hangupID atomic.Int32             // its id where the kernel tells of hang-ups; 0: it does not
	heard    atomic.Int64             // when the last statement began that was answered, in ns since epoch

	listened bool        // listen has been called
	blind    atomic.Bool // nobody can tell when the server closes the connection
	known    bool        // driver has been looked for
	driver   *driverConn // go-sql-driver's own connection, wrapped or not; nil: it is not shown, or not known yet
	socket   net.Conn    // beneath conn; nil: not known

	tx atomic.Pointer[sql.Tx] // the transaction that the code under a lock has on conn; nil: none

	flagged     atomic.Bool  // what the driver has noted shows whether tx is still open
	savepoint   atomic.Bool  // a savepoint shows it: where nothing else does, or not all
	marked      atomic.Bool  // by mark: code of the user's may end tx
	lastTx      atomic.Int32 // a txState, noted when the connection was closed
	endedByCode atomic.Bool  // noted then, too

	get, release statement
	call         call            // the one that runs, or ran last
	runCall      func(any) error // runCallOn, made once
	number       number          // its answer
	server       *server         // nil until greeted
	readOnly     bool            // its server was found so: another session may lead to the primary
	literals     bool            // names go as literals: see chooseSpelling
	asBytes      bool            // numbers are read as bytes: see readAsBytes
	locks        int             // held on it
	hasCode      bool            // code of the user's may have run since the settings were read
	settings     *settings       // as they are to be; nil: not known
	spoilt       string          // why the session is closed when its last lock has been released; "": it is not
	toRestore    []string        // SET statements for what setIdleLimits has changed
	leftovers    []string        // locks that may be on it though nobody knows of them: see releaseInCase
	lookFollows  bool            // after the GET_LOCK that runs: see GetLockThenLook
	unsure       string          // a lock that a look is to show whether it is on it; "": none
	rechecked    bool            // the answer to the last GET_LOCK has said whether the server can be written to
	broken       error           // why nothing is known of the session any more; nil: it is sound

	discarded chan struct{} // closed when discard has ended

	place // guarded by Pool.mu
}

func newSession(conn *sql.Conn, config *Config) *Session {
	s := &Session{
		conn:      conn,
		config:    config,
		discarded: make(chan struct{}),
		get:       statement{text: "SELECT " + getLock, short: true},
		release:   statement{text: "SELECT " + releaseLock, short: true},
	}
	s.runCall = s.runCallOn
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.silence = time.AfterFunc(math.MaxInt64, s.breakOff)
	s.silence.Stop()
	return s
}

// Lent reports whether s is on the connection that was given to New.
func (s *Session) Lent() bool { return s.lent }

// Broken reports whether an answer has left the session broken. It is discarded
// when the turn ends.
func (s *Session) Broken() bool { return s.broken != nil }

// Kill breaks the statement that runs on s, if any, and lets every later one
// fail. It does not wait for that, and may be called with mutexes held: the
// socket's Close may be the user's. The pool must not be closed.
func (p *Pool) Kill(s *Session) {
	s.killed.Store(true)
	s.cancel()
	if s.toClose.Load() != nil { // in this order: see contextOf
		p.work.Go(s.breakOff)
	}
}

// GetLock asks for the lock once and, if others have it, waits for at most wait.
// It returns true if the lock was granted and false if others kept it. On an
// error nothing is held.
func (s *Session) GetLock(name string, wait time.Duration) (granted bool, err error) {
	if err := s.readyFor(name); err != nil {
		return false, err
	}
	s.rechecked = false
	answer, err := s.askForLock(name, wait)
	switch {
	case err == nil && answer.Valid && answer.Int64 == 1:
		s.locks++
		if wait > 0 {
			// The server was busy with the statement all the while, not idle.
			s.heard.Store(int64(now()))
		}
		return true, nil
	case err == nil && answer.Valid && answer.Int64 == 0:
		return false, nil
	case err == nil && answer.Valid:
		return false, s.markBroken(fmt.Errorf("GET_LOCK returned %d", answer.Int64))
	case err != nil && !isAnswer(err):
		return false, s.markBroken(err)
	}
	if s.lookFollows && isTimeLimit(err) {
		s.unsure = name
		return false, nil
	}
	if err := s.releaseInCase(name, err); err != nil {
		return false, err
	}
	return false, verdict(err)
}

// GetLockThenLook is GetLock for a caller that calls HolderIDs next. On MySQL it is a statement less: a
// wait ends by an error there, and whether the lock was granted in the same moment is found out by the
// look.
func (s *Session) GetLockThenLook(name string, wait time.Duration) (granted bool, err error) {
	s.lookFollows = true
	defer func() { s.lookFollows = false }()
	return s.GetLock(name, wait)
}

// releaseUnsure releases the lock that no look has told of.
func (s *Session) releaseUnsure() error {
	name := s.unsure
	if name == "" {
		return nil
	}
	s.unsure = ""
	return s.releaseInCase(name, nil)
}

// releaseInCase is for a GET_LOCK that was answered by an error, its cause, or by NULL.
// That says that the wait ended, and no manual says that the lock cannot have been granted
// in the same moment. To ask is cheap. An error in answer to that is an answer, too, and
// must not cost the session its other locks: the release is then left for later. (A
// session of our own without locks costs nothing.)
func (s *Session) releaseInCase(name string, cause error) error {
	_, err := s.ask(s.patience(), &s.release, []driver.Value{name})
	switch {
	case err == nil, isRefusal(err) && isRefusal(cause):
		return nil
	case !isAnswer(err), !s.lent && s.locks == 0:
		return s.markBroken(err)
	}
	s.leftovers = append(s.leftovers, name)
	return nil
}

// releaseLeftovers releases what releaseInCase has left, as far as the server lets it.
func (s *Session) releaseLeftovers() (refused error) {
	for i := len(s.leftovers) - 1; i >= 0; i-- {
		_, err := s.ask(s.patience(), &s.release, []driver.Value{s.leftovers[i]})
		switch {
		case err == nil:
			s.leftovers = slices.Delete(s.leftovers, i, i+1)
		case !isAnswer(err):
			return s.markBroken(err)
		default:
			refused = fault.Because(fault.ErrUnavailable, "the server refused to release a lock that an interrupted GET_LOCK may have left", err)
		}
	}
	return refused
}

// readyFor sees that the session can name the lock, and does not hold it.
func (s *Session) readyFor(name string) error {
	if err := s.releaseUnsure(); err != nil {
		return err
	}
	if len(s.leftovers) > 0 {
		err := s.releaseLeftovers()
		if err != nil && (s.Broken() || slices.ContainsFunc(s.leftovers, func(left string) bool { return names.Fold(left) == names.Fold(name) })) {
			return err
		}
	}
	if !names.ASCII(name) {
		if err := s.greet(); err != nil {
			return err // how the name is to be spelt depends on the character sets
		}
	}
	s.chooseSpelling()
	return nil
}

func (s *Session) askForLock(name string, wait time.Duration) (sql.NullInt64, error) {
	if wait <= 0 {
		answer, err := s.ask(s.patience(), &s.get, []driver.Value{name, int64(0)})
		if err == nil || !isTimeLimit(err) {
			return answer, err
		}
		// The server's limit for statements is so short that it cut off even the
		// try; a wait overrides the limit. See GetLock for the release.
		if err := s.releaseInCase(name, err); err != nil {
			return answer, err
		}
		wait = time.Millisecond
	}
	return s.waitForLock(name, wait)
}

// waitForLock sends a GET_LOCK that waits. Beside it stands what tells whether the server
// still excludes: columns beside a GET_LOCK that waited are evaluated after the grant
// (measured on MySQL 9.7 and MariaDB 10.5, 10.11 and 11.8).
func (s *Session) waitForLock(name string, wait time.Duration) (answer sql.NullInt64, err error) {
	bound := wait + answerTime
	if s.locks > 0 {
		bound = s.patience() // the wait is at most half an interval: see Pool.Wait
	}
	if err := s.greet(); err != nil {
		return answer, err
	}
	for {
		columns := []column{{getLock, &answer}}
		if s.config.CheckServer {
			columns = append(columns, s.readOnlyColumns(s.server)...)
		}
		texts, dest := split(columns)
		st, timeout, err := s.waitStatement(wait, texts)
		if err != nil {
			return answer, err
		}
		err = s.query(bound, st, []driver.Value{name, timeout}, dest)
		if err != nil && s.lacksInnoDB(err) {
			continue // nothing has waited: the column is not known
		}
		s.rechecked = err == nil && s.config.CheckServer
		return answer, err
	}
}

// ReleaseLock gives the lock back. It returns nil only if the server said that
// this session held it. After any other answer the session is broken.
func (s *Session) ReleaseLock(name string) error {
	_ = s.releaseUnsure() // if it fails, so does what follows, or it is left for later
	bound := s.config.ReleaseTimeout
	if s.locks > 1 {
		bound = min(bound, s.patience())
	}
	answer, err := s.sendRelease(name, bound)
	switch {
	case err != nil:
		s.broken = fmt.Errorf("RELEASE_LOCK failed: %w", err)
	case !answer.Valid:
		s.broken = errors.New("RELEASE_LOCK returned NULL: no session holds the lock")
	case answer.Int64 != 1:
		s.broken = fmt.Errorf("RELEASE_LOCK returned %d: another session holds the lock", answer.Int64)
	default:
		s.locks--
		if s.locks == 0 && s.spoilt != "" {
			s.broken = &spoiled{s.spoilt}
		}
		return nil
	}
	return fault.Because(fault.ErrLost, "lock lost before its release", s.broken)
}

// sendRelease sends RELEASE_LOCK. While rows of a transaction are open, which other
// code under the lock reads at the same time, nothing can be sent: it waits for their
// end, within bound.
func (s *Session) sendRelease(name string, bound time.Duration) (answer sql.NullInt64, err error) {
	const pause = time.Millisecond
	for deadline := time.Now().Add(bound); ; time.Sleep(pause) {
		if s.hasCode {
			answer, err = s.releaseAfterCode(name, bound)
		} else {
			answer, err = s.ask(bound, &s.release, []driver.Value{name})
		}
		if !errors.Is(err, errOccupied) || s.tx.Load() == nil || time.Now().After(deadline) {
			return answer, err
		}
	}
}

// interval is how often the session has to prove that its locks are still there:
// so often that the server neither closes it for idleness nor, if it has gone
// silent, gives its locks away before the holder knows.
func (s *Session) interval() time.Duration {
	d := s.config.KeepAlive
	if s.server != nil && s.server.idleLimit > 0 {
		d = min(d, s.server.idleLimit/3)
	}
	return d
}

// patience is how long the session may be silent. On one that holds locks it is
// less than an interval, so that a network that falls silent right after a proof
// is noticed before the second interval is over: the next statement begins within
// the first.
func (s *Session) patience() time.Duration {
	if s.locks > 0 {
		return min(answerTime, s.interval()*3/4)
	}
	return answerTime
}

// markBroken records that nothing is known of the session any more. The pool
// discards it when the turn ends.
func (s *Session) markBroken(err error) error {
	if errors.Is(err, errOccupied) {
		return fault.Because(fault.ErrUnavailable, "", err) // nothing was sent
	}
	if s.broken == nil {
		s.broken = err
	}
	return fault.Because(fault.ErrUnavailable, "session closed after an error", err)
}

// raw has f use the driver's connection.
func (s *Session) raw(f func(conn any) error) error {
	began := false
	err := orConnDone(&began, func() error {
		return s.conn.Raw(func(conn any) error {
			began = true
			return f(conn)
		})
	})
	if errors.Is(err, sql.ErrConnDone) && s.lent {
		return errConnClosed
	}
	return err
}

// orConnDone calls use, which uses the *sql.Conn, and returns sql.ErrConnDone if use panics before it has begun. For that is
// what database/sql does when Close comes at the same moment: it looks whether the Conn is closed, waits for Close, and uses
// what that has set to nil (sql.Conn.grabConn, Go 1.26). Close may come at any moment: from the owner of a lent
// connection, and from discard.
func orConnDone(began *bool, use func() error) (err error) {
	defer func() {
		if *began {
			return
		}
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w (%v)", sql.ErrConnDone, reason)
		}
	}()
	return use()
}

// restore leaves the session as it came, but for locks that other code had left on it. No
// lock of ours is on it any more.
func (s *Session) restore() error {
	if err := s.releaseLeftovers(); err != nil {
		return err
	}
	if err := s.unsetLease(); err != nil {
		return fmt.Errorf("could not restore wait_timeout: %w", err)
	}
	for _, set := range s.toRestore {
		if err := s.exec(answerTime, set); err != nil {
			return fmt.Errorf("could not restore an idle limit: %w", err)
		}
	}
	return nil
}

// letGo frees what was prepared, unless rows of the user's are in the way, and lets go
// of the connection. It stays usable.
func (s *Session) letGo() {
	_ = s.raw(func(conn any) error {
		if s.stateOf(conn) != occupied {
			s.get.close()
			s.release.close()
		}
		s.listenNoMore(s.socket)
		return nil
	})
	s.listenNoMore(nil)
	s.cancel()
}

// discard closes the connection for good, which frees its locks at once. The
// connection never goes back to a pool.
func (s *Session) discard() error {
	// A statement that hangs would keep Raw waiting. That of a transaction is ended with the
	// socket alone, so that closeConn can note what the driver knows of the transaction:
	// database/sql closes the connection when the session's context ends.
	if s.tx.Load() == nil || !s.cut() {
		s.breakOff()
	}
	err := s.raw(s.closeConn)
	s.breakOff()
	s.listenNoMore(nil)
	if tx := s.tx.Load(); tx != nil {
		_ = tx.Rollback() // on our side; it waits for what the code under the lock does with it
		if !s.lent {
			// A wrapper need not show database/sql that what it wraps is closed.
			_ = s.raw(func(any) error { return driver.ErrBadConn })
		}
	}
	return err
}

// closeConn closes the driver's connection, for raw. On one that others use too, they
// may have rows or a transaction open, and to return driver.ErrBadConn would wait
// for their end (golang/go#81606). So the connection is closed right here; database/sql
// finds it invalid when its owner lets go of it, or, behind a wrapper that does not show it, when
// it is used again. That takes a driver which tells: others may not bear to be closed twice.
//
// The socket ends first, so that no goodbye is sent: a proxy with a pool of its own, as MySQL
// Router, keeps the server's session after one, with its locks (5 s by default; without one it is gone
// within 22 ms, both measured with 9.7). One that the driver has closed had none either.
func (s *Session) closeConn(conn any) error {
	s.noteTx(conn)
	if state := s.stateOf(conn); state != closed && state != cutOff {
		s.cut()
	}
	if s.driver != nil {
		conn = s.driver.conn // which may be closed twice, unlike what is wrapped around it
	}
	c, isConn := conn.(driver.Conn)
	if _, tells := conn.(driver.Validator); s.shared() && isConn && tells {
		_ = c.Close()
		return nil
	}
	return driver.ErrBadConn
}

// shared reports whether others use the connection, too: the owner of one that was given to
// New, or the transaction of the code under a lock.
func (s *Session) shared() bool { return s.lent || s.tx.Load() != nil }

// cut closes the socket of a connection, whoever uses it now, and
// reports whether it could. It is for a connection that cannot be closed otherwise: its
// owner runs a statement on it, or has closed the *sql.Conn, and the connection has gone
// back to its pool with our locks on it. The pool's next borrower would enter those
// locks again without noticing; to close the socket frees them.
func (s *Session) cut() bool {
	return s.socket != nil && s.socket.Close() == nil
}
