// Package locktest is for unit tests of code that takes named locks: a Locker
// without a server, which the test can drive.
//
//	locks := locktest.New()
//	defer locks.Close()
//	locks.HoldElsewhere("nightly-report") // as another process would
//	err := job.Run(ctx, locks)            // wants a namedlock.Interface
//
// A Locker of this package is a real *namedlock.Locker over a MySQL in memory.
// So it has all of its methods, and they do what they do in production:
// timeouts, ErrReentrant, names, deadlocks, Close, the order in which waiters
// are served. To make another process play against it, take its Peer. Letter
// case is where MySQL and MariaDB differ, and here it is as on MySQL: foo and
// FOO are one lock for all processes.
//
// In a bubble of testing/synctest, which is the best place for such a test, a
// timeout of five seconds takes no time. Make the Locker inside the bubble, and
// close it before the bubble ends (t.Cleanup will do): otherwise the test says
// "deadlock: main bubble goroutine has exited but blocked goroutines remain".
// When synctest.Wait has returned, Stats().Waiting tells whether the code under
// test waits for a lock.
//
// What a test can play, and what it stands for:
//
//	HoldElsewhere    another process has the lock
//	Lose             KILL, a restart of the server, a cut network: the next in line has the lock at once
//	Depose           the same, and another process has the lock: a leader that was stopped for longer than its lease
//	Fail, Fail(nil)  a server that is away for a while, and comes back
//	Silence          a network that drops everything
//	FailNextRelease  a connection that breaks under RELEASE_LOCK
//	FailNextAcquire  any error of a call, without a cause
//	Peer             another process, with all of its own
//
// The package also has the promises of namedlock as a suite of tests, for
// whoever implements namedlock.Interface: see Run.
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

// A Locker is a *namedlock.Locker whose server is in memory. Beside the methods
// of that, which are safe for concurrent use as ever, it has some for the test
// to say what goes wrong, and to see what was asked; so are these.
//
// Names are written as the code under test writes them, without a namespace
// that the Locker may have been given.
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

// New returns a Locker on a server of its own, opened as namedlock.Open would
// with these options. It panics if one of them is invalid. Close it when the
// test is over.
func New(opts ...namedlock.Option) *Locker {
	return open(mysqld.New(), new(atomic.Int64), "New", opts)
}

// TxFrom has the transactions of WithLockTx and Term.WithTx come from db: a
// mock, say, or a database in a file. Without it they fail, with an error that
// says so, and the lock stays. The lock is in memory as ever. Lose rolls back,
// as a server does. Peers that are made after it have the same db.
func (l *Locker) TxFrom(db *sql.DB) {
	l.txDB = db
	l.process.TxFrom(db)
}

// Peer returns what another process would have: another Locker on the same
// server. It has the options of l, and opts beside them. It is to be closed by
// itself.
func (l *Locker) Peer(opts ...namedlock.Option) *Locker {
	program := fmt.Sprintf("Peer %d", l.peers.Add(1))
	peer := open(l.server, l.peers, program, slices.Concat(l.opts, opts))
	peer.TxFrom(l.txDB)
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

// stuck is how long Close waits for locks before it takes them for forgotten.
const stuck = time.Hour

// Close is that of a *namedlock.Locker: it waits until l's locks are released.
// No goroutine is left then. It panics if some are still held after an hour,
// which in a bubble takes no time: a Lock whose Release was forgotten, or a
// call whose fn waits for the test, which waits in Close.
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
// which it got them. What is held elsewhere is not among them.
func (l *Locker) HeldNames() []string {
	held := l.process.Held()
	for i, name := range held {
		held[i] = strings.TrimPrefix(name, l.namespace)
	}
	return held
}

// on is what a name is to the server.
func (l *Locker) on(name string) string { return l.namespace + name }

// misuse panics for a mistake in the test.
func misuse(format string, args ...any) {
	panic("locktest: " + fmt.Sprintf(format, args...))
}
