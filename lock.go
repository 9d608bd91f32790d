// Package namedlock takes MySQL and MariaDB named locks: mutual exclusion between
// all processes that use one database server, for the time that a function runs.
//
//	locker, err := namedlock.Open(db)
//	...
//	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, func(ctx context.Context) error {
//		return report.Run(ctx) // never runs twice at once, on any machine; ctx ends if the lock is lost
//	})
//
// A named lock (GET_LOCK) belongs to a session of the server, not to a table or a
// transaction, and is freed when the session ends. So every lock has a connection
// of its own for as long as it is held, and a connection of which anything is in
// doubt is closed, never pooled. (Nested locks share the connection of the outermost,
// and beyond a cap others share too; see WithMaxSessions.)
//
// # Names
//
// A name has 1 to 64 characters of valid UTF-8 from the Basic Multilingual Plane,
// without NUL: that is what every supported server stores without change. Names
// are one per server, not per schema (WithNamespace helps). Write a name the same
// way everywhere: MySQL takes foo and FOO for one lock, MariaDB for two. Within
// one process they exclude each other on both.
//
// # Waiting
//
// Callers of one Locker queue for a name, first come first served, before the
// server is asked; only one of them waits there. A deadline ends a wait without
// harm to its connection. A deadlock is reported at once, as ErrDeadlock, where
// this Locker or the server can see it: not where a call chain had to share its
// session (beyond WithMaxSessions, or with New), nor where one part of the circle
// is a caller still in this process's queue and another is on the server. Then
// the timeout ends it.
//
// # Losing a lock
//
// A session can die under a lock: by KILL, a restart of the server, a broken
// network. Then the server gives the lock to the next, and the context of the code
// under it ends with a cause that matches ErrLost:
//
//   - within 50 ms where the server closes the connection (WithProbe), as after KILL,
//     a shutdown or wait_timeout; on Linux, where the kernel tells, as a rule within one;
//   - within two keep-alive intervals otherwise (WithKeepAlive): a network that has
//     fallen silent, a lock that has gone from a living session, a server that has
//     become read-only. The keep-alive also lets an idle lock outlive the session's
//     wait_timeout.
//
// WithLock and Release then report ErrLost, and the name stays closed to this
// process until the code has returned. The Locker never reconnects under a lock.
// If a client vanishes without a word, the server frees its locks after the lease
// (WithLease), and a holder that is cut off has learnt of it before.
//
// # Who is in the way
//
// Locker.Holder asks the server who holds a lock, Locker.Holders who holds all whose names
// begin alike. An ErrTimeout of a call that waited has the holder in Error.Holder and in
// its text: from this process's own knowledge where it is one of the Locker's callers,
// and otherwise from a question that runs beside the end of the wait. The question
// changes nothing about the wait: an answer that is not there in time is left out. None
// of these acquires anything.
//
// # Statements
//
// What is sent is part of the contract, for those who mock it. An uncontended
// cycle is
//
//	SELECT GET_LOCK(?, ?)    arguments: the name, 0
//	SELECT RELEASE_LOCK(?)   argument:  the name
//
// Each is prepared from its second use on a session, and sent as text where the server
// does not prepare it or has forgotten it: nothing that proves or releases a lock depends
// on a prepared statement. Where the driver does not put arguments into text
// (go-sql-driver without interpolateParams), what is not prepared has its arguments spelt
// out: a name between quotes if it is plain, and else as a literal, _utf8mb4 0xC3A9.
//
// Where the session's character sets (client, connection, results) are not all utf8mb4 or
// utf8, each name is such a literal and nothing is prepared: in some of them even ASCII
// is another name to the server. If the driver cannot read the server's numbers, as
// MariaDB sends them in UTF-16, each column is CAST(... AS BINARY).
//
// Beside them:
//
//   - Before its first lock a session is greeted by
//     SELECT VERSION(), @@version_comment, @@character_set_client, @@character_set_connection, @@wait_timeout, RELEASE_ALL_LOCKS(), @@read_only, @@innodb_read_only, @@character_set_results
//     which drops what other code may have left on the connection. With a lease,
//     SET SESSION wait_timeout = n
//     follows if wait_timeout is longer, and sets it back when the session is over.
//   - A Locker's first session is also asked whether the server is a node of a cluster,
//     by one more column that MariaDB and MySQL read each in its own way:
//     /*M! , @@wsrep_on */ /*!80000 , (SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME IN ('group_replication', 'wsrep')) */
//     A server that does not say 0 is asked more closely. On MySQL:
//     SELECT @@group_replication_single_primary_mode
//     and, if that is off, a count of the primaries in
//     performance_schema.replication_group_members. On MariaDB and Percona XtraDB Cluster:
//     SELECT @@wsrep_on
//     and, if that is on, SHOW STATUS LIKE 'wsrep_cluster_size'. This, after
//     SELECT @@read_only, @@innodb_read_only, is asked again before a lock when the last
//     answer is older than a keep-alive interval. (A server without InnoDB is asked for
//     @@read_only alone.)
//   - WithoutServerCheck leaves out @@read_only, @@innodb_read_only and these, and with New the whole
//     greeting (unless there is a lease to set). One without RELEASE_ALL_LOCKS() is then
//     sent before the first wait, keep-alive, or name outside ASCII; until then names are
//     arguments, and the connection had better use utf8mb4.
//   - If GET_LOCK says 0 and the timeout is not 0, a wait follows. (It does for 75 ms at
//     most if the time is up, too, where a session of this Locker has just died under that
//     lock, or under that question: it may be in the way.) On MySQL:
//     SELECT /*+ MAX_EXECUTION_TIME(n) */ GET_LOCK(?, ?)
//     with n in milliseconds and the timeout in whole seconds, rounded up; 30000 and 30
//     is the most. On MariaDB:
//     SELECT GET_LOCK(?, ?)
//     with a fractional timeout, after one SELECT @@max_statement_time on the session;
//     if that is not 0, with SET STATEMENT max_statement_time=0 FOR in front.
//     Where a wait is not possible, the first statement is repeated every 50 ms, or less
//     often if that would take more than half of a session's time.
//   - A lock of which callers of one Locker from Open stand in line is asked for ahead: the
//     wait of the next, without a first question, is sent while the release before it is
//     on its way, on a second session.
//   - Shortly before a timeout of 0.1s or more passes (a quarter of a second, or half
//     of a shorter one), a connection that is borrowed for it from the db asks who
//     holds the lock: not with New, nor where this Locker holds it itself, nor if the db
//     has not one connection more to spare; and as a rule once for all who wait. So does
//     Holder, with New on the one connection. The borrowed one is greeted without
//     RELEASE_ALL_LOCKS(), and asked for @@read_only as above: a replica would say that
//     nobody holds the lock. Then:
//     SELECT CAST(CONVERT(l.ID USING utf8mb4) AS BINARY), CAST(CONVERT(p.USER USING utf8mb4) AS BINARY), CAST(CONVERT(p.HOST USING utf8mb4) AS BINARY), CAST(CONVERT(p.COMMAND USING utf8mb4) AS BINARY), CAST(CONVERT(p.TIME USING utf8mb4) AS BINARY), CAST(CONVERT(p.INFO USING utf8mb4) AS BINARY), CAST(CONVERT(a.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(l.NAME USING utf8mb4) AS BINARY) FROM (SELECT IS_USED_LOCK(?) AS ID, NULL AS NAME) AS l LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = l.ID LEFT JOIN performance_schema.session_connect_attrs AS a ON a.PROCESSLIST_ID = l.ID AND a.ATTR_NAME = 'program_name'
//     If that is refused, the same with performance_schema.session_account_connect_attrs;
//     and if that is, SELECT IS_USED_LOCK(?).
//   - Holders asks MySQL whether its list is complete:
//     SELECT @@performance_schema, (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'), (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost')
//     Then it asks as Holder does, with another list in the place of l: of locks in
//     performance_schema.metadata_locks and threads, or on MariaDB in
//     information_schema.METADATA_LOCK_INFO.
//   - If GET_LOCK answers an error or NULL, RELEASE_LOCK follows, in case; and once
//     more before the session's next lock, if that is answered by an error, too.
//   - The keep-alive is
//     SELECT IS_USED_LOCK(?) = CONNECTION_ID(), ..., @@read_only, @@innodb_read_only
//     for up to 64 locks of a session at once; with 0 in the place of the last two where
//     the server is not checked. One that is answered by an error is repeated every eighth
//     of an interval, until the second interval is nearly over.
//
// Unless RELEASE_LOCK returns 1, the connection is closed: by driver.ErrBadConn through
// Conn.Raw, or with New, in Conn.Raw, by the driver.Conn's own Close.
package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/session"
)

// Forever, as a timeout, waits for others until the context is done. It does not wait for a
// server that cannot be asked: that is ErrUnavailable, at once, whatever the timeout.
const Forever time.Duration = math.MaxInt64

var _ Interface = (*Locker)(nil)

// A Locker takes named locks on one MySQL or MariaDB server. It is safe for
// concurrent use, and within one process its callers queue for a name, first in,
// first out, before the server is asked.
type Locker struct {
	queue     *queue.Queue
	namespace string
	observer  observer
}

// New returns a Locker that takes all its locks on conn, which belongs to it until
// Close: locks that other code had left on it are dropped before the first use.
// Close does not close conn. New does no I/O. Once conn is gone, every call
// returns ErrUnavailable.
//
// One session can wait for one lock only, and nobody's release may wait for that.
// So a wait is cut into short slices, between which a foreign session can
// overtake, and while other callers are there it polls every 50 ms. Open has
// neither limit.
//
// Close the Locker before conn. A conn that is closed first goes back to its db, and
// would take the locks along, so that its next borrower could enter them unawares: the
// Locker then breaks the connection, where the driver is go-sql-driver itself, and the
// locks are lost.
//
// Leave conn to the Locker. While a statement of your own runs on it, releases,
// keep-alives and timeouts wait for its end. While the rows of a query of your own on
// it are open, a lock cannot be taken (ErrUnavailable), proved, or released
// (ErrLost); and if the query's context ends before that, the driver closes the
// connection and all locks are lost.
func New(conn *sql.Conn, opts ...Option) (*Locker, error) {
	if conn == nil {
		return nil, errors.New("namedlock: New needs a *sql.Conn, not nil")
	}
	o, err := collect(opts, 0)
	if err != nil {
		return nil, err
	}
	return newLocker(o, func(config session.Config) *session.Pool { return session.NewSingle(conn, config) }), nil
}

// Open returns a Locker that takes dedicated connections from db as it needs them,
// up to a cap (WithMaxSessions), and gives them back when they have been without a
// lock for a second. Open does no I/O. A db that allows a single connection is
// refused with ErrUnsupported, since code under a lock could never query it; one
// that is changed to that later is refused by WithLock and Acquire.
func Open(db *sql.DB, opts ...Option) (*Locker, error) {
	if db == nil {
		return nil, errors.New("namedlock: Open needs a *sql.DB, not nil")
	}
	o, err := collect(opts, time.Minute)
	if err != nil {
		return nil, err
	}
	if _, err := session.Limit(o.sessions.MaxSessions, db.Stats().MaxOpenConnections); err != nil {
		return nil, fmt.Errorf("namedlock: Open: %w", err)
	}
	return newLocker(o, func(config session.Config) *session.Pool { return session.NewPool(db, config) }), nil
}

func newLocker(o options, sessions func(session.Config) *session.Pool) *Locker {
	l := &Locker{namespace: o.namespace}
	l.observer.init(o.hooks, o.sessions.Logger)
	o.sessions.Observer = &l.observer
	o.sessions.Logger = l.observer.logger
	l.queue = queue.New(sessions(o.sessions), o.handOff)
	l.queue.Namespace = o.namespace
	return l
}

// WithLock runs GET_LOCK, then fn, then RELEASE_LOCK, on one session.
//
// timeout bounds the wait for others: 0 tries once, Forever waits for ctx alone. A server
// that is down is waited for by no timeout: see ErrUnavailable. fn runs if and only if the lock was acquired; otherwise the error says
// why, and nothing is held. The lock is released however fn ends: by a return, an
// error, a panic, runtime.Goexit, and also when ctx has ended meanwhile. A panic
// goes on with its own value and stack.
//
// The ctx that fn gets ends with ctx, when the lock is lost (its cause then
// matches ErrLost) and when fn has returned. Locks that are taken under it nest;
// to take the same one again is ErrReentrant.
//
// WithLock returns what fn returned, as it is. If the lock was not provably held
// to the end, that is joined by an error that matches ErrLost.
func (l *Locker) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) (err error) {
	return l.withLock(ctx, name, timeout, timeout, fn)
}

// withLock is WithLock where left is what is left of timeout.
func (l *Locker) withLock(ctx context.Context, name string, timeout, left time.Duration, fn func(ctx context.Context) error) (err error) {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	lock, err := l.getLock(ctx, name, timeout, left) // GET_LOCK
	if err != nil {
		return err
	}
	fnCtx := lock.grant.Context(ctx, lock.lost)
	returned := false
	defer func() {
		lost := lock.Release() // RELEASE_LOCK
		switch {
		case lost == nil:
		case !returned:
			// fn panics or exits, and goes on doing so: there is nobody to tell.
			l.observer.logger.ErrorContext(ctx, "namedlock: lock lost by the time of a panic or Goexit", "name", name, "error", lost)
		case err == nil:
			err = lost
		default:
			err = errors.Join(err, lost)
		}
	}()
	err = fn(fnCtx)
	returned = true
	return err
}

// Interface is what code that takes locks needs of a Locker. Code that asks for it,
// rather than for a *Locker, can be tested without a server: with package locktest,
// or with a stand-in of its own.
type Interface interface {
	// WithLock runs fn if and only if it could take the lock, and releases the lock
	// however fn ends. Locker.WithLock has the whole contract, and locktest.Run
	// tests it.
	WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error
}

// Acquire takes the lock for code that does not fit into one function. ctx and
// timeout bound the acquiring as in WithLock; the lock outlives ctx. It is held
// until Release, which must be called.
func (l *Locker) Acquire(ctx context.Context, name string, timeout time.Duration) (*Lock, error) {
	lock, err := l.getLock(ctx, name, timeout, timeout)
	if err != nil {
		return nil, err
	}
	lock.ctx = lock.grant.Context(context.WithoutCancel(ctx), lock.lost)
	return lock, nil
}

// getLock is the way into a lock, and tells the observer. left is what is left of timeout.
func (l *Locker) getLock(ctx context.Context, name string, timeout, left time.Duration) (*Lock, error) {
	if l.isZero() {
		return nil, acquireError(name, errZeroLocker)
	}
	begun := time.Now()
	o := &l.observer
	counted := o.begin()
	o.began(ctx, name, timeout)
	w := o.newWait(ctx, name, timeout, begun)
	if w != nil {
		w.isOurs = func() bool { return l.queue.Local(l.namespace+name) != nil }
	}
	grant, err := l.acquire(ctx, name, timeout, left, w)
	w.end(err)
	now := time.Now()
	waited := now.Sub(begun)
	o.ended(ctx, name, timeout, waited, err)
	if err != nil {
		o.end(counted)
		return nil, err
	}
	return &Lock{name: name, grant: grant, observer: o, counted: counted, callCtx: ctx, waited: waited, acquired: now}, nil
}

func (l *Locker) acquire(ctx context.Context, name string, timeout, left time.Duration, w *wait) (*queue.Grant, error) {
	if err := l.check(ctx, name, timeout); err != nil {
		return nil, err
	}
	var waiting func()
	if w != nil {
		waiting = w.begin
	}
	grant, err := l.queue.Acquire(ctx, l.namespace+name, queue.Limit{Timeout: timeout, Left: left}, waiting)
	if late, ok := err.(*queue.Timeout); ok {
		return nil, &Error{Op: "acquire", Name: name, Holder: l.inTheWay(late), Err: late.Unwrap()}
	}
	if err != nil {
		return nil, acquireError(name, err)
	}
	return grant, nil
}

// check returns an error for arguments that no server need be asked about.
func (l *Locker) check(ctx context.Context, name string, timeout time.Duration) error {
	if err := names.Check(l.namespace + name); err != nil {
		return acquireError(name, err)
	}
	if timeout < 0 {
		return acquireError(name, fault.Because(fault.ErrInvalidTimeout,
			fmt.Sprintf("invalid timeout %v: must not be negative; 0 tries once, Forever waits for the context", timeout), nil))
	}
	if ctx == nil {
		return acquireError(name, errNoContext)
	}
	return nil
}

var (
	errNoFunction = errors.New("the function to run under the lock is nil")
	errNoContext  = errors.New("the context is nil")
	errZeroLocker = errors.New("the Locker was not made by New or Open")
	errZeroLock   = errors.New("the Lock was not returned by Acquire")
)

// isZero reports whether l was not made by New or Open.
func (l *Locker) isZero() bool { return l == nil || l.queue == nil }

func acquireError(name string, err error) error {
	return &Error{Op: "acquire", Name: name, Err: err}
}

// Close refuses new calls and ends waiting ones, both with ErrClosed, then waits,
// as sql.DB.Close does for queries, until all locks are released, and gives the
// sessions back. To call it from code under one of the Locker's own locks, or from a hook,
// is to wait for oneself. It returns nil, however often it is called.
func (l *Locker) Close() error {
	if l.isZero() {
		return nil
	}
	defer l.observer.closing(l.queue.HeldNames)()
	l.queue.Close()
	l.observer.close()
	return nil
}

// A Lock is held from Acquire to Release. It is safe for concurrent use.
type Lock struct {
	name  string
	grant *queue.Grant
	ctx   context.Context

	// For the observer.
	observer  *observer
	counted   bool // among the observer's calls
	callCtx   context.Context
	waited    time.Duration
	acquired  time.Time
	lostKnown atomic.Bool // the loss has been counted
	ended     atomic.Bool // the release has been counted
}

// Name returns the lock's name as it was given to Acquire.
func (k *Lock) Name() string { return k.name }

// Context returns a context that carries the values, not the cancellation, of the
// one given to Acquire. It ends when the lock is released (cause
// context.Canceled) or lost (the cause matches ErrLost). Locks taken under it
// belong to the same call chain.
func (k *Lock) Context() context.Context { return k.ctx }

// Release gives the lock back. nil means that it was held to the end; any other
// error matches ErrLost and means that others may have had it meanwhile. Either
// way it is not held any more, and the Locker's next caller can have it. Release
// may be called again, also at the same time; every call reports what the first
// one found and touches nothing.
func (k *Lock) Release() error {
	if k == nil || k.grant == nil {
		return &Error{Op: "release", Err: errZeroLock}
	}
	err := k.grant.Release()
	if err != nil {
		err = &Error{Op: "release", Name: k.name, Err: err}
	}
	if k.ended.CompareAndSwap(false, true) {
		k.observer.released(k, err)
		k.observer.end(k.counted)
	}
	return err
}

func (k *Lock) lost(cause error) error {
	err := &Error{Op: "hold", Name: k.name, Err: cause}
	k.observer.lostNow(k, err)
	return err
}
