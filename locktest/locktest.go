// Package locktest has a Locker that needs no server, for unit tests of code
// that takes named locks. The test controls its faults.
//
//	locks := locktest.New()
//	defer locks.Close()
//	locks.HoldElsewhere("nightly-report") // as another process would
//	err := job.Run(ctx, locks)            // needs a namedlock.Interface
//
// A Locker of this package is a real *namedlock.Locker over a MySQL in memory.
// It has all methods of *namedlock.Locker, with their behavior in production:
// timeouts, ErrReentrant, names, deadlocks, Close, the order of waiters. For a
// second process, use its Peer. Letter case is as on MySQL: foo and FOO are one
// lock for all processes. (On MariaDB they are two.)
//
// Use it in a bubble of testing/synctest, where a timeout of 5 s takes no time.
// Make the Locker inside the bubble, and close it before the bubble ends, for
// example in t.Cleanup. Otherwise the test fails with "deadlock: main bubble
// goroutine has exited but blocked goroutines remain". After synctest.Wait,
// Stats().Waiting is the number of calls that wait for a lock.
//
// The faults that a test can cause, and what they stand for:
//
//	HoldElsewhere    another process has the lock
//	Lose             KILL, a restart of the server, a cut network: the next waiter gets the lock at once
//	Depose           the same, but another process gets the lock: a leader that was stopped for longer than its lease
//	Fail, Fail(nil)  a server that is unavailable for a while
//	Silence          a network that drops everything
//	FailNextRelease  a connection that breaks under RELEASE_LOCK
//	FailNextAcquire  any error of a call
//	Peer             another process
//
// Run tests whether another implementation of namedlock.Interface keeps the
// promises of namedlock.
package locktest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/inside"
	"github.com/go-namedlock/namedlock/locktest/internal/mysqld"
)

// A Locker is a *namedlock.Locker whose server is in memory. It adds methods
// that cause faults and record calls. All its methods are safe for concurrent
// use.
//
// Its methods take and return names as the code under test writes them, without
// the namespace of WithNamespace.
type Locker struct {
	*namedlock.Locker

	server    *mysqld.Server
	peers     *atomic.Int64 // made so far, by all Lockers of the server
	process   *mysqld.Process
	db        *sql.DB
	opts      []namedlock.Option
	namespace string
	txDB      *sql.DB

	mu       sync.Mutex
	calls    []*Call
	failures []error // of the next calls
}

// New returns a Locker on a new server, as namedlock.Open does with these
// options. It panics if an option is invalid. Close it at the end of the test.
func New(opts ...namedlock.Option) *Locker {
	return open(mysqld.New(), new(atomic.Int64), "New", opts)
}

// TxFrom sets db as the source of the transactions of WithLockTx and
// Term.WithTx, for example a mock, or a database in a file. Without it, these
// calls return an error, and the lock stays held. The locks stay in memory.
// Lose rolls back, when l has noticed the loss. (A server rolls back before it
// grants the lock to the next waiter.) Peers that are made later have the same
// db.
func (l *Locker) TxFrom(db *sql.DB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.txDB = db
	l.process.TxFrom(db)
}

// txFrom returns the db of TxFrom.
func (l *Locker) txFrom() *sql.DB {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.txDB
}

// Peer returns a Locker of another process on the same server. It has the
// options of l, followed by opts. Close it as well as l.
func (l *Locker) Peer(opts ...namedlock.Option) *Locker {
	program := fmt.Sprintf("Peer %d", l.peers.Add(1))
	peer := open(l.server, l.peers, program, slices.Concat(l.opts, opts))
	peer.TxFrom(l.txFrom())
	return peer
}

func open(server *mysqld.Server, peers *atomic.Int64, program string, opts []namedlock.Option) *Locker {
	process := server.Process(program)
	db := sql.OpenDB(process)
	locker, err := namedlock.Open(db, opts...)
	if err != nil {
		panic("locktest: " + err.Error())
	}
	return &Locker{
		Locker:    locker,
		server:    server,
		peers:     peers,
		process:   process,
		db:        db,
		opts:      opts,
		namespace: inside.Namespace(locker),
	}
}

// stuck is how long Close waits for locks before it panics.
const stuck = time.Hour

// Close waits until l's locks are released, as Close of *namedlock.Locker does.
// No goroutine is left then. Close panics if a lock is still held after an
// hour, which takes no time in a bubble. The usual causes are a missing
// Release, and an fn that waits for the test while the test waits in Close.
func (l *Locker) Close() error {
	closed := make(chan error, 1)
	go func() { closed <- l.Locker.Close() }()
	forgotten := time.NewTimer(stuck)
	defer forgotten.Stop()
	select {
	case err := <-closed:
		_ = l.db.Close() // nothing to tell: all of it is in memory
		return err
	case <-forgotten.C:
		misuse("Close waited for %v, and locks are still held: %q; release them before Close", stuck, inside.HeldNames(l.Locker))
	}
	panic("unreachable")
}

// WithLock implements namedlock.Interface.
func (l *Locker) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) (err error) {
	c := l.begin(Call{Method: "WithLock", Name: name, Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.WithLock(ctx, name, timeout, nil)
	}
	return l.Locker.WithLock(ctx, name, timeout, func(ctx context.Context) error {
		l.acquired(c)
		return fn(ctx)
	})
}

// WithLocks is that of a *namedlock.Locker.
func (l *Locker) WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) (err error) {
	c := l.begin(Call{Method: "WithLocks", Names: slices.Clone(names), Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(names...); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.WithLocks(ctx, names, timeout, nil)
	}
	return l.Locker.WithLocks(ctx, names, timeout, func(ctx context.Context) error {
		l.acquired(c)
		return fn(ctx)
	})
}

// WithLockTx is that of a *namedlock.Locker. It needs TxFrom.
func (l *Locker) WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) (err error) {
	c := l.begin(Call{Method: "WithLockTx", Name: name, Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.WithLockTx(ctx, name, timeout, opts, nil)
	}
	return l.Locker.WithLockTx(ctx, name, timeout, opts, func(ctx context.Context, tx *sql.Tx) error {
		l.acquired(c)
		return fn(ctx, tx)
	})
}

// WithTerm is that of a *namedlock.Locker. Its transactions need TxFrom.
func (l *Locker) WithTerm(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context, term *namedlock.Term) error) (err error) {
	c := l.begin(Call{Method: "WithTerm", Name: name, Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.WithTerm(ctx, name, timeout, nil)
	}
	return l.Locker.WithTerm(ctx, name, timeout, func(ctx context.Context, term *namedlock.Term) error {
		l.acquired(c)
		return fn(ctx, term)
	})
}

// WithSlot is that of a *namedlock.Locker. For HoldElsewhere, Lose and
// HeldNames, slot 2 of the name "export" is the lock "export#2".
func (l *Locker) WithSlot(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) (err error) {
	c := l.begin(Call{Method: "WithSlot", Name: name, Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.WithSlot(ctx, name, n, timeout, nil)
	}
	return l.Locker.WithSlot(ctx, name, n, timeout, func(ctx context.Context, slot int) error {
		l.acquired(c)
		return fn(ctx, slot)
	})
}

// Lead is that of a *namedlock.Locker. Its terms' transactions need TxFrom.
func (l *Locker) Lead(ctx context.Context, name string, fn func(ctx context.Context, term *namedlock.Term) error) (err error) {
	c := l.begin(Call{Method: "Lead", Name: name, Timeout: namedlock.Forever})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return err
	}
	if fn == nil {
		return l.Locker.Lead(ctx, name, nil)
	}
	return l.Locker.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
		l.acquired(c)
		return fn(ctx, term)
	})
}

// Acquire is that of a *namedlock.Locker.
func (l *Locker) Acquire(ctx context.Context, name string, timeout time.Duration) (lock *namedlock.Lock, err error) {
	c := l.begin(Call{Method: "Acquire", Name: name, Timeout: timeout})
	defer func() { l.end(c, err) }()
	if err := l.failure(name); err != nil {
		return nil, err
	}
	lock, err = l.Locker.Acquire(ctx, name, timeout)
	if err == nil {
		l.acquired(c)
	}
	return lock, err
}

// HeldNames returns the names of the locks that l holds now, in the order in
// which it acquired them. Locks that are held elsewhere are not included.
func (l *Locker) HeldNames() []string {
	held := l.process.Held()
	for i, name := range held {
		held[i] = strings.TrimPrefix(name, l.namespace)
	}
	return held
}

// on returns a name as the server has it.
func (l *Locker) on(name string) string { return l.namespace + name }

// misuse panics for a mistake in the test.
func misuse(format string, args ...any) {
	panic("locktest: " + fmt.Sprintf(format, args...))
}
