// Package goosenamedlock has one process at a time run the migrations of
// github.com/pressly/goose on MySQL and MariaDB, for which goose has no lock of
// its own.
//
//	locker, err := goosenamedlock.NewSessionLocker()
//	...
//	provider, err := goose.NewProvider(goose.DialectMySQL, db, migrations, goose.WithSessionLocker(locker))
//
// The lock is on the very connection that runs the migrations. So a process
// that loses it, by KILL or a restart of the server, cannot go on migrating
// beside the next. If a process vanishes without a word (power loss, a cut
// network), the server frees its lock after a lease of one minute: see
// WithOptions. The lease is the connection's wait_timeout until SessionUnlock.
// Its clock does not run while a statement of a migration runs.
//
// goose (v3.27.0) makes its version table before it asks for the lock, in two
// steps. Of several processes that are the first on a database, one may come
// between the two, and fail with "missing zero version migration": nothing is
// lost, and it succeeds when it is run again.
package goosenamedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pressly/goose/v3/lock"

	"github.com/go-namedlock/namedlock"
)

// An Option changes a default of NewSessionLocker.
type Option func(*sessionLocker) error

// WithName sets the lock's name. The default is one for each database (schema)
// of a server, namedlock.SafeName("goose", database): the names of locks are
// one per server.
func WithName(name string) Option {
	return func(l *sessionLocker) error {
		if name == "" {
			return errors.New("goosenamedlock: WithName(\"\"): leave the option out for one name for each database")
		}
		l.name = name
		return nil
	}
}

// WithTimeout sets how long to wait for another process that migrates. The
// default is 5m; 0 tries once, namedlock.Forever waits for the context alone.
func WithTimeout(d time.Duration) Option {
	return func(l *sessionLocker) error {
		if d < 0 {
			return fmt.Errorf("goosenamedlock: WithTimeout(%v): must not be negative; 0 tries once", d)
		}
		l.timeout = d
		return nil
	}
}

// WithOptions adds options for the namedlock.New that takes the lock. They come
// after the one default of this package, namedlock.WithLease(time.Minute):
// namedlock.WithLease(0) leaves the connection's wait_timeout as it is, which
// is 8 hours on most servers.
func WithOptions(opts ...namedlock.Option) Option {
	return func(l *sessionLocker) error {
		l.opts = append(l.opts, opts...)
		return nil
	}
}

// NewSessionLocker returns a lock for goose.WithSessionLocker. It may serve
// several providers. Where others have the lock for the whole timeout, what
// goose returns matches namedlock.ErrTimeout; where it was lost meanwhile,
// namedlock.ErrLost.
func NewSessionLocker(opts ...Option) (lock.SessionLocker, error) {
	l := &sessionLocker{
		timeout: 5 * time.Minute,
		opts:    []namedlock.Option{namedlock.WithLease(time.Minute)},
		held:    make(map[*sql.Conn]held),
	}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("goosenamedlock: option %d is nil", i)
		}
		if err := opt(l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

type sessionLocker struct {
	name    string // "": one for each database
	timeout time.Duration
	opts    []namedlock.Option

	mu   sync.Mutex // guards held
	held map[*sql.Conn]held
}

// A held is the lock on one connection.
type held struct {
	locker *namedlock.Locker
	lock   *namedlock.Lock
}

// SessionLock implements lock.SessionLocker.
func (l *sessionLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	name := l.name
	if name == "" {
		var database sql.NullString
		if err := conn.QueryRowContext(ctx, "SELECT DATABASE()").Scan(&database); err != nil {
			return &namedlock.Error{Op: namedlock.OpAcquire, Err: fmt.Errorf("goosenamedlock: %w", err)}
		}
		name = namedlock.SafeName("goose", database.String)
	}
	locker, err := namedlock.New(conn, l.opts...)
	if err != nil {
		return err
	}
	lock, err := locker.Acquire(ctx, name, l.timeout)
	if err != nil {
		return errors.Join(err, locker.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[conn] = held{locker, lock}
	return nil
}

// SessionUnlock implements lock.SessionLocker.
func (l *sessionLocker) SessionUnlock(_ context.Context, conn *sql.Conn) error {
	l.mu.Lock()
	h, ok := l.held[conn]
	delete(l.held, conn)
	l.mu.Unlock()
	if !ok {
		return errors.New("goosenamedlock: SessionUnlock without SessionLock on this connection")
	}
	return errors.Join(h.lock.Release(), h.locker.Close())
}
