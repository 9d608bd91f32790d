package server

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// AnswerTime is how long a statement may take in addition to its wait, before
// the client stops trusting a silent socket. The same bound holds for opening
// and greeting a session.
const AnswerTime = 5 * time.Second

// A Conn is one connection, dedicated to locks. Only the caller that has its
// turn uses it. The methods that any goroutine may call, without the turn, are
// marked.
type Conn struct {
	conn   *sql.Conn
	lent   bool // conn was given to New, whose caller may use it too
	server *Server

	// Statements run under ctx, or under a context that cannot end: see queryOn.
	// BreakOff ends both kinds.
	ctx      context.Context
	cancel   context.CancelFunc
	silence  *time.Timer
	toClose  atomic.Bool  // BreakOff has to close the socket
	hangupID atomic.Int32 // its id if the kernel reports hang-ups; 0: it does not
	answered atomic.Int64 // see AnsweredAt; in ns since epoch
	idle     atomic.Int64 // see IdleLimit; in ns

	unwatched atomic.Bool // no look shows that the server has closed the connection
	driver    *peek.Conn  // the driver's connection; nil: not known yet

	transaction

	get, release statement
	releaseAll   statement           // see releaseAfterCode
	begun        time.Duration       // when the last statement began, since epoch
	args         []driver.NamedValue // see argsFor
	number       number              // the answer to ask
	greeting     *greeting           // nil until greeted
	literals     bool                // names are sent as literals: see chooseSpelling
	asBytes      bool                // the driver cannot parse the numbers: see columns
	locks        int                 // held on it
	hasCode      bool                // code of the user's may have run since the settings were read
	settings     *settings           // as they must be at the end; nil: not known
	spoilt       error               // why the session is closed after its last release; nil: it is not
	toRestore    []string            // SET statements that undo setUntilRestored
	leftovers    []string            // locks that may be on it without a holder, none of which is held
	atGrant      *writability        // from the answer to the last GET_LOCK, a wait; nil: not in it
	broken       error               // why the state of the session is unknown; nil: it is known
}

// Use makes a Conn of conn. lent says that conn was given to New.
func (srv *Server) Use(conn *sql.Conn, lent bool) *Conn {
	c := &Conn{
		conn:    conn,
		lent:    lent,
		server:  srv,
		get:     statement{text: "SELECT " + getLock, short: true},
		release: statement{text: "SELECT " + releaseLock, short: true},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.silence = time.AfterFunc(math.MaxInt64, c.BreakOff)
	c.silence.Stop()
	return c
}

// Lent reports whether c is the connection that was given to New. Any goroutine
// may call it.
func (c *Conn) Lent() bool { return c.lent }

// Broken reports whether the state of the session is unknown. A broken session
// is discarded at the end of the turn, never pooled.
func (c *Conn) Broken() bool { return c.broken != nil }

// BrokenBy returns the error that broke the session; nil: it is not broken.
func (c *Conn) BrokenBy() error { return c.broken }

// Unwatched reports whether a probe cannot show that the server has closed the
// connection. Any goroutine may call it.
func (c *Conn) Unwatched() bool { return c.unwatched.Load() }

// HangupID returns the id by which Server.Hangups reports the end of the
// connection, or 0 if it does not. Any goroutine may call it.
func (c *Conn) HangupID() int32 { return c.hangupID.Load() }

// PretendHangupID is for tests. It sets the result of HangupID.
func (c *Conn) PretendHangupID(id int32) { c.hangupID.Store(id) }

// SentAt returns when the last statement began, as a time since epoch.
func (c *Conn) SentAt() time.Duration { return c.begun }

// AnsweredAt returns a time, since epoch, from which on the server may count
// the session as idle. It is when the last answered statement began. For a wait
// that was granted the lock, it is when the wait ended. Any goroutine may call
// it.
func (c *Conn) AnsweredAt() time.Duration { return time.Duration(c.answered.Load()) }

// IdleLimit returns after which idle time the server closes the session; 0: not
// known. Any goroutine may call it.
func (c *Conn) IdleLimit() time.Duration { return time.Duration(c.idle.Load()) }

func (c *Conn) setIdleLimit(d time.Duration) { c.idle.Store(int64(d)) }

// Kill makes every later statement fail. If it returns true, a statement may be
// running, and BreakOff ends it. Any goroutine may call Kill, also under
// mutexes. BreakOff must not be called under a mutex: it closes the socket,
// which may run code of the user's.
func (c *Conn) Kill() (running bool) {
	c.cancel()
	return c.toClose.Load() // in this order: see queryOn
}

// Interval returns how often the session has to prove its locks: every
// keep-alive interval, or every third of the idle limit if that is less. So an
// idle session outlives wait_timeout. If the network falls silent, the holder
// is told before the server gives the locks away. Any goroutine may call
// Interval.
func (c *Conn) Interval() time.Duration {
	d := c.server.KeepAlive
	if limit := c.IdleLimit(); limit > 0 {
		d = min(d, limit/3)
	}
	return d
}

// patience returns how long the session may be silent. If it holds locks, that
// is at most 3/4 of an interval. The network may fall silent right after a
// proof: the next statement begins within the first interval and fails within
// the second.
func (c *Conn) patience() time.Duration {
	if c.locks > 0 {
		return min(AnswerTime, c.Interval()*3/4)
	}
	return AnswerTime
}

// MarkBroken records err as the reason why the state of the session is unknown,
// unless nothing was sent (ErrOccupied). The pool discards a broken session at
// the end of the turn. MarkBroken returns an error that wraps err.
func (c *Conn) MarkBroken(err error) error {
	if errors.Is(err, ErrOccupied) {
		return fault.Because(fault.ErrUnavailable, "", err) // nothing was sent
	}
	if c.broken == nil {
		c.broken = err
	}
	return fault.Because(fault.ErrUnavailable, "session closed after an error", err)
}

// raw lets f use the driver's connection, which is known from then on. It waits
// for a statement that code of the user's runs on the connection. database/sql
// would also wait for open rows in Raw if f returned driver.ErrBadConn: see
// closeConn.
func (c *Conn) raw(f func(conn driver.Conn) error) (err error) {
	began := false
	defer func() {
		if !began {
			err = c.connDone(recover(), err)
		}
	}()
	return c.conn.Raw(func(conn any) error {
		began = true
		inner := conn.(driver.Conn)
		if c.driver == nil {
			c.know(inner)
		}
		return f(inner)
	})
}

// connDone returns the error for a use of the *sql.Conn that has failed by err,
// or has panicked for that reason before it began.
//
// database/sql panics if Close is called at the same moment. It checks that the
// Conn is open, waits for Close, and uses a field that Close has set to nil
// (sql.Conn.grabConn, Go 1.26). The owner of a lent connection, and Discard,
// may call Close at any moment.
func (c *Conn) connDone(reason any, err error) error {
	if reason != nil {
		err = fmt.Errorf("%w (%v)", sql.ErrConnDone, reason)
	}
	if errors.Is(err, sql.ErrConnDone) && c.lent {
		return ErrReturned
	}
	return err
}
