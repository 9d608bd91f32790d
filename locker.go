package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/slot"
)

var (
	_ Interface     = (*Locker)(nil)
	_ TxInterface   = (*Locker)(nil)
	_ LeadInterface = (*Locker)(nil)
	_ SlotInterface = (*Locker)(nil)
)

// Forever, as a timeout, waits for other holders until ctx is done. It does not
// wait for a server that is down: see [ErrUnavailable]. A wait with Forever
// that has started outlasts an outage of the server only if ctx has a deadline.
const Forever time.Duration = math.MaxInt64

// A Locker acquires named locks on one MySQL or MariaDB server. It is safe for
// concurrent use. Its callers queue for a name in the process, first come,
// first served.
type Locker struct {
	pool      *pool.Pool // of sessions, for the locks of queue
	queue     *queue.Queue
	slots     *slot.Slots // made of the queue's locks
	namespace string
	observer  observer

	closing sync.Once
	closed  chan struct{} // closed when Close has ended
}

// New returns a Locker that acquires all its locks on conn. It does no I/O.
// conn belongs to the Locker until Close, which does not close conn. Locks that
// other code has left on conn are released before its first use. Once conn is
// gone, every call returns [ErrUnavailable].
//
// # Limits
//
// A session can wait for only one lock at a time. While it waits, no other lock
// on it can be released. New therefore waits in slices of 50 ms, and another
// session can acquire the lock between two slices. While other callers of the
// Locker need the session, it polls every 50 ms instead. [Open] has neither
// limit.
//
// New sets no lease, unless [WithLease] is given: see there how long the server
// keeps the locks of a machine that vanishes.
//
// # The connection
//
// Close the Locker before conn. If conn is closed first, its locks are lost,
// and their holders are told. The Locker then closes the socket: otherwise conn
// would go back to its db with the locks, and its next borrower would share
// them without notice. The Locker can do this only if the driver is
// go-sql-driver (see [WithUnwrap]).
//
// Do not use conn while the Locker has it:
//
//   - While another statement runs on it, releases, keep-alives and timeouts
//     wait for its end.
//   - While rows of another query are open on it, no lock can be acquired
//     ([ErrUnavailable]), proved, or released ([ErrLost]).
//   - If the context of that query ends while its rows are open, the driver
//     closes the connection, and all locks are lost.
//   - While a transaction of yours is open on it, no other can begin
//     ([ErrInTransaction]). With completion_type=CHAIN, one is open from your
//     first COMMIT or ROLLBACK on. With autocommit=0, or if a wrapper hides the
//     driver, the Locker cannot detect yours, and commits it.
func New(conn *sql.Conn, opts ...Option) (*Locker, error) {
	if conn == nil {
		return nil, errors.New("namedlock: New needs a *sql.Conn, not nil")
	}
	o, err := collect(opts, 0)
	if err != nil {
		return nil, err
	}
	return newLocker(o, func(config pool.Config) *pool.Pool { return pool.NewLent(conn, config) })
}

// Open returns a Locker that takes dedicated connections from db as it needs
// them. It does no I/O. A connection goes back to db when it has been without a
// lock for 1 s. All Lockers of one db together leave it one connection:
// [WithMaxSessions] has the rules.
//
// If db allows only one connection, Open returns [ErrUnsupported], because code
// under a lock could never query db. If db is changed to one connection later,
// the calls for locks return ErrUnsupported.
func Open(db *sql.DB, opts ...Option) (*Locker, error) {
	if db == nil {
		return nil, errors.New("namedlock: Open needs a *sql.DB, not nil")
	}
	o, err := collect(opts, time.Minute)
	if err != nil {
		return nil, err
	}
	open := db.Stats().MaxOpenConnections
	if _, err := pool.SessionCap(o.sessions.MaxSessions, open); err != nil {
		return nil, fmt.Errorf("namedlock: Open: %w", err)
	}
	if most := o.sessions.MaxSessions; open > 0 && most >= open {
		return nil, fmt.Errorf("namedlock: WithMaxSessions(%d): must be at most %d: the db allows %d connections (SetMaxOpenConns), and one is left for code under locks", most, open-1, open)
	}
	return newLocker(o, func(config pool.Config) *pool.Pool { return pool.NewPool(db, config) })
}

func newLocker(o options, sessions func(pool.Config) *pool.Pool) (*Locker, error) {
	l := &Locker{namespace: o.namespace, closed: make(chan struct{})}
	l.observer.init(o.hooks, o.sessions.Logger)
	o.sessions.Observer = &l.observer
	o.sessions.Logger = l.observer.logger
	l.pool = sessions(o.sessions)
	l.queue = queue.New(l.pool, o.handOff)
	l.queue.Namespace = o.namespace
	l.slots = slot.New(l.queue)
	if err := l.opened(); err != nil {
		return nil, err
	}
	return l, nil
}

// isZero reports whether l was not made by New or Open.
func (l *Locker) isZero() bool { return l == nil || l.queue == nil }

// Close refuses new calls and ends waiting calls, both with [ErrClosed]. Then
// it waits until all locks are released, as sql.DB.Close does for queries, and
// gives the sessions back. It returns nil, however often it is called.
//
// Calling Close while holding one of the Locker's locks, or from a hook,
// deadlocks. Use [Locker.Shutdown] for a bounded wait.
func (l *Locker) Close() error { return l.Shutdown(context.Background()) }

// Shutdown is Close for no longer than ctx lasts. It returns nil when all locks
// are released and the sessions are given back. It may be called again, and at
// the same time as Close.
//
// If ctx ends before that, Shutdown closes the connections of the locks that
// are still held, so that other callers can acquire them. The ctx of the code
// under these locks ends, with a cause that matches [ErrLost]. Shutdown does
// not wait for that code. It returns an error that matches ctx.Err() and names
// the locks.
func (l *Locker) Shutdown(ctx context.Context) error {
	if l.isZero() {
		return nil
	}
	if ctx == nil {
		return &Error{Op: OpShutdown, Err: errNoContext}
	}
	defer l.observer.closing(l.queue.HeldNames)()
	l.closing.Do(func() {
		l.queue.Refuse() // first, so that no caller is granted a lock that is given up below
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

// errShutDown is the cause of the loss of the locks that Shutdown gives up. It
// does not match the error of Shutdown's context, which is not that of the code
// under the locks.
var errShutDown = errors.New("the Locker was shut down")

// close returns when all locks are released. Close waits for it.
func (l *Locker) close() {
	defer close(l.closed)
	l.queue.Close()
	l.observer.close()
	l.toldClosed()
	l.observer.lines.Drain(patienceWithUsers)
}

// Check asks the server at once about problems that would otherwise show at the
// first lock. Examples are a wrong password, a replica, a cluster whose locks
// do not exclude each other, and a pool that is too small. Check borrows a
// connection, greets the server as for a lock, and gives the connection back.
//
// nil means that the server is suitable for locks. Otherwise the error matches
// [ErrUnsupported], [ErrUnavailable], [ErrNoSession] (all connections of the db
// were in use), [ErrClosed] or ctx.Err(). Check is limited by ctx and by 5 s.
//
// With [New] it uses the given connection. Locks that are held there stay held.
// If a transaction or a leader has that connection to itself, call Check under
// the ctx of that code. Elsewhere Check waits, and returns ErrUnavailable after
// 5 s.
//
// Check succeeds if the driver hides its socket, or if a proxy drops the lease.
// Losses are then noticed late. This is logged ([WithLogger]), as it is at a
// first lock, once for each Locker.
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
