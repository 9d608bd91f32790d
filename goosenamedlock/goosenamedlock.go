// Package goosenamedlock makes one process at a time run the migrations of
// github.com/pressly/goose on MySQL and MariaDB. goose itself has no lock for
// these servers.
//
//	locker, err := goosenamedlock.NewSessionLocker()
//	...
//	provider, err := goose.NewProvider(goose.DialectMySQL, db, migrations, goose.WithSessionLocker(locker))
//
// The lock is on the connection that runs the migrations. So a process that
// loses the lock, for example by KILL or a restart of the server, cannot
// continue its migrations while another process runs them. If a process
// disappears without closing its connection (power loss, a cut network), the
// server frees its lock after a lease of 1 min: see WithOptions. The lease is
// the connection's wait_timeout until SessionUnlock. It does not elapse while a
// statement of a migration runs.
//
// goose (v3.27.0) creates its version table before it acquires the lock, in two
// steps. On a new database, another process may run between the two steps, and
// fail with "missing zero version migration". Nothing is lost; run it again.
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

// WithName sets the lock's name. The default is namedlock.SafeName("goose",
// database), one name for each database (schema), since all databases of a
// server share the lock names.
func WithName(name string) Option {
	return func(l *sessionLocker) error {
		if name == "" {
			return errors.New("goosenamedlock: WithName(\"\"): leave the option out for one name for each database")
		}
		l.name = name
		return nil
	}
}

// WithTimeout sets how long to wait for the migrations of another process. The
// default is 5 min. 0 tries once. With namedlock.Forever, only the context
// bounds the wait.
func WithTimeout(d time.Duration) Option {
	return func(l *sessionLocker) error {
		if d < 0 {
			return fmt.Errorf("goosenamedlock: WithTimeout(%v): must not be negative; 0 tries once", d)
		}
		l.timeout = d
		return nil
	}
}

// WithOptions adds options for the Locker that holds the lock, which is from
// namedlock.New. They follow the only default of this package,
// namedlock.WithLease(time.Minute). namedlock.WithLease(0) leaves the
// connection's wait_timeout unchanged, which is 8 h on most servers.
func WithOptions(opts ...namedlock.Option) Option {
	return func(l *sessionLocker) error {
		l.opts = append(l.opts, opts...)
		return nil
	}
}

// NewSessionLocker returns a lock for goose.WithSessionLocker. It may serve
// several providers. The error of goose matches namedlock.ErrTimeout if the
// lock was not acquired in time, and namedlock.ErrLost if it was lost.
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

// A held is the held lock of one connection.
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
