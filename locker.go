package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/session"
)

var (
	_ Interface     = (*Locker)(nil)
	_ TxInterface   = (*Locker)(nil)
	_ LeadInterface = (*Locker)(nil)
	_ SlotInterface = (*Locker)(nil)
)

// A Locker takes named locks on one MySQL or MariaDB server. It is safe for
// concurrent use, and within one process its callers queue for a name, first in,
// first out, before the server is asked.
type Locker struct {
	queue     *queue.Queue
	namespace string
	observer  observer

	closing sync.Once
	closed  chan struct{} // closed when Close has ended
}

// New returns a Locker that takes all its locks on conn, which belongs to it until
// Close: locks that other code had left on it are dropped before the first use.
// Close does not close conn. New does no I/O. Once conn is gone, every call
// returns [ErrUnavailable].
//
// One session can wait for one lock only, and nobody's release may wait for that.
// So a wait is cut into short slices, between which a foreign session can
// overtake, and while other callers are there it polls every 50 ms. Open has
// neither limit.
//
// Close the Locker before conn. A conn that is closed first goes back to its db, and
// would take the locks along, so that its next borrower could enter them unawares: the
// Locker then breaks the connection, where the driver is go-sql-driver (see [WithUnwrap]), and the
// locks are lost.
//
// Leave conn to the Locker. While a statement of your own runs on it, releases,
// keep-alives and timeouts wait for its end. While the rows of a query of your own on
// it are open, a lock cannot be taken ([ErrUnavailable]), proved, or released
// ([ErrLost]); and if the query's context ends before that, the driver closes the
// connection and all locks are lost.
func New(conn *sql.Conn, opts ...Option) (*Locker, error) {
	if conn == nil {
		return nil, errors.New("namedlock: New needs a *sql.Conn, not nil")
	}
	o, err := collect(opts, 0)
	if err != nil {
		return nil, err
	}
	return newLocker(o, func(config session.Config) *session.Pool { return session.NewLent(conn, config) })
}

// Open returns a Locker that takes dedicated connections from db as it needs them,
// and gives them back when they have been without a lock for a second. All Lockers
// of one db together leave it one connection; [WithMaxSessions] has the rules. Open
// does no I/O. A db that allows a single connection is
// refused with [ErrUnsupported], since code under a lock could never query it; one
// that is changed to that later is refused by [Locker.WithLock] and Acquire.
func Open(db *sql.DB, opts ...Option) (*Locker, error) {
	if db == nil {
		return nil, errors.New("namedlock: Open needs a *sql.DB, not nil")
	}
	o, err := collect(opts, time.Minute)
	if err != nil {
		return nil, err
	}
	open := db.Stats().MaxOpenConnections
	if _, err := session.Limit(o.sessions.MaxSessions, open); err != nil {
		return nil, fmt.Errorf("namedlock: Open: %w", err)
	}
	if most := o.sessions.MaxSessions; open > 0 && most >= open {
		return nil, fmt.Errorf("namedlock: WithMaxSessions(%d): must be at most %d: the db allows %d connections (SetMaxOpenConns), and one is left for code under locks", most, open-1, open)
	}
	return newLocker(o, func(config session.Config) *session.Pool { return session.NewPool(db, config) })
}

func newLocker(o options, sessions func(session.Config) *session.Pool) (*Locker, error) {
	l := &Locker{namespace: o.namespace, closed: make(chan struct{})}
	l.observer.init(o.hooks, o.sessions.Logger)
	o.sessions.Observer = &l.observer
	o.sessions.Logger = l.observer.logger
	l.queue = queue.New(sessions(o.sessions), o.handOff)
	l.queue.Namespace = o.namespace
	if err := l.opened(); err != nil {
		return nil, err
	}
	return l, nil
}

// isZero reports whether l was not made by New or Open.
func (l *Locker) isZero() bool { return l == nil || l.queue == nil }

// Close refuses new calls and ends waiting ones, both with [ErrClosed], then waits,
// as sql.DB.Close does for queries, until all locks are released, and gives the
// sessions back. To call it from code under one of the Locker's own locks, or from a hook,
// is to wait for oneself; [Locker.Shutdown] has a bound. It returns nil, however often it is called.
func (l *Locker) Close() error { return l.Shutdown(context.Background()) }

// Shutdown is Close for no longer than ctx lasts. It returns nil when all locks are released and the sessions given back.
// When ctx ends before that, it closes the connections of the locks that are still held, so that others can have them; the
// code under these locks is told, by the end of its context, with a cause that matches [ErrLost]. Shutdown does not wait for
// that code: it returns an error that matches ctx.Err() and names the locks. It may be called again, and beside Close.
func (l *Locker) Shutdown(ctx context.Context) error {
	if l.isZero() {
		return nil
	}
	if ctx == nil {
		return &Error{Op: OpShutdown, Err: errNoContext}
	}
	defer l.observer.closing(l.queue.HeldNames)()
	l.closing.Do(func() {
		l.queue.Refuse() // before any lock is given up below: nobody gets it then
		go l.close()
	})
	select {
	case <-l.closed:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-l.closed:
		return nil
	default:
	}
	err := queue.ContextError(ctx)
	if held := l.queue.GiveUp(errShutDown); len(held) > 0 {
		err = fmt.Errorf("shut down with locks still held: %q: %w", held, err)
	} else {
		err = fmt.Errorf("connections are still being closed: %w", err)
	}
	return &Error{Op: OpShutdown, Err: err}
}

// errShutDown is why the locks are lost that Shutdown gives up. It does not match its context's error, which is none
// of theirs.
var errShutDown = errors.New("the Locker was shut down")

// close ends when all locks are released. Close waits for it.
func (l *Locker) close() {
	defer close(l.closed)
	l.queue.Close()
	l.observer.close()
	l.toldClosed()
	l.observer.lines.Drain(patienceWithUsers)
}

// Check asks the server at once for what would otherwise show at the first lock: a
// wrong password, a replica, a cluster whose locks do not exclude, a pool that is too
// small. It borrows a connection for that, greets it as one for locks, and gives it
// back. With New it is the one there is: locks that are held on it stay held.
//
// nil means that the server is fit for locks. Otherwise the error matches
// [ErrUnsupported], [ErrUnavailable], [ErrNoSession] (all connections of the db were in
// use), [ErrClosed] or ctx.Err(). Check is bounded by ctx and 5 s.
//
// With New, one call chain may have the connection to itself: a transaction, or a
// leader. Call Check under the ctx of that code; elsewhere it waits, and is
// ErrUnavailable after 5 s.
//
// Where a loss could not be noticed at once, since the driver hides its socket, or a proxy swallows the lease, Check succeeds, and the
// log ([WithLogger]) says so, as it does at a first lock: once a Locker.
func (l *Locker) Check(ctx context.Context) error {
	var err error
	switch {
	case l.isZero():
		err = errZeroLocker
	case ctx == nil:
		err = errNoContext
	default:
		err = l.queue.Check(ctx)
	}
	if err != nil {
		return &Error{Op: OpCheck, Err: err}
	}
	return nil
}
