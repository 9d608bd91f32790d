package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// background is the context of measurements that are not about contexts. It
// cannot end, since the driver does more for a context that can.
var background = context.Background()

// patience is a timeout that no lock of the benchmarks comes close to.
const patience = time.Minute

// A target is a private MySQL or MariaDB server.
type target struct{ *servers.Server }

// A pool is a db that counts its connections to the server.
type pool struct {
	*sql.DB
	open, peak atomic.Int64
}

// connect returns a db for the server, or for a proxy at addr that leads to the
// server.
func (t target) connect(addr string) (*pool, error) {
	cfg, err := mysql.ParseDSN(t.DSNAt(addr))
	if err != nil {
		return nil, err
	}
	p := &pool{}
	cfg.DialFunc = p.dial
	cfg.Logger = &mysql.NopLogger{} // some sessions here are killed on purpose
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	p.DB = sql.OpenDB(connector)
	// With the default of 2, locks by hand would open a connection for each
	// section.
	p.SetMaxIdleConns(1000)
	return p, nil
}

func (p *pool) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	open := p.open.Add(1)
	for peak := p.peak.Load(); open > peak && !p.peak.CompareAndSwap(peak, open); peak = p.peak.Load() {
	}
	return &countedConn{TCPConn: conn.(*net.TCPConn), closed: sync.OnceFunc(func() { p.open.Add(-1) })}, nil
}

// A countedConn counts as closed when it is closed. It embeds the TCPConn,
// since the Locker needs a syscall.Conn to probe the socket.
type countedConn struct {
	*net.TCPConn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.TCPConn.Close()
}

// A locker is a Locker on a db of its own.
type locker struct {
	*namedlock.Locker
	pool *pool
}

func (t target) locker(opts ...namedlock.Option) (*locker, error) {
	p, err := t.connect(t.Addr())
	if err != nil {
		return nil, err
	}
	l, err := namedlock.Open(p.DB, opts...)
	if err != nil {
		p.Close()
		return nil, err
	}
	return &locker{l, p}, nil
}

func (l *locker) close() {
	l.Locker.Close()
	l.pool.Close()
}

func (l *locker) section(name string, fn func()) error {
	return l.WithLock(background, name, patience, func(context.Context) error {
		fn()
		return nil
	})
}

// cycle acquires a lock without contention and releases it.
func (l *locker) cycle(ctx context.Context, name string) error {
	lock, err := l.Acquire(ctx, name, patience)
	if err != nil {
		return err
	}
	return lock.Release()
}

// A session is one connection, for statements by hand.
type session struct {
	*sql.Conn
	pool *pool
}

func (t target) session() (*session, error) {
	p, err := t.connect(t.Addr())
	if err != nil {
		return nil, err
	}
	conn, err := p.Conn(background)
	if err != nil {
		p.Close()
		return nil, err
	}
	return &session{conn, p}, nil
}

func (s *session) close() {
	s.Conn.Close()
	s.pool.Close()
}

// one runs a statement that must return 1, as GET_LOCK and RELEASE_LOCK do on
// success.
func one(row *sql.Row) error {
	var answer sql.NullInt64
	if err := row.Scan(&answer); err != nil {
		return err
	}
	if answer.Int64 != 1 {
		return fmt.Errorf("the server answered %v, not 1", answer)
	}
	return nil
}

var names atomic.Int64

// newName returns a name that was not used before, so that no session holds it
// by accident.
func newName(what string) string { return fmt.Sprintf("bench-%s-%d", what, names.Add(1)) }
