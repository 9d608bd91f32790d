package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/history"
	"github.com/go-namedlock/namedlock/internal/inside"
	"github.com/go-sql-driver/mysql"
)

// A setup is one way to make a Locker. Every worker has one Locker of each
// setup.
type setup struct {
	name    string
	callers int  // goroutines that use the Locker
	single  bool // made by New
	far     bool // through the worker's network
	flaky   bool // on a driver whose statements can fail
	handOff bool // WithHandOff
	// The kernel does not report hang-ups, as on systems other than Linux: sockets
	// are probed.
	deaf  bool
	conns int // MaxOpenConns, 0: no limit
	life  time.Duration
	opts  []namedlock.Option
}

// interval is the keep-alive interval of the Lockers that depend on it.
const interval = 300 * time.Millisecond

var brisk = namedlock.WithKeepAlive(interval)

// lease is the lease of the Lockers behind a network.
const lease = 2 * time.Second

var setups = []setup{
	{name: "open", callers: 5},
	{name: "capped", callers: 4, conns: 8, life: 300 * time.Millisecond, opts: []namedlock.Option{namedlock.WithMaxSessions(2)}},
	{name: "small", callers: 3, conns: 3},
	{name: "hand-off", callers: 10, handOff: true, deaf: true, opts: []namedlock.Option{namedlock.WithHandOff(10 * time.Millisecond)}},
	{name: "new", callers: 3, single: true},
	{name: "bare", callers: 2, single: true, flaky: true, opts: []namedlock.Option{namedlock.WithoutServerCheck(), brisk}},
	{name: "flaky", callers: 4, flaky: true, opts: []namedlock.Option{brisk}},
	{name: "far", callers: 3, far: true, opts: []namedlock.Option{brisk, namedlock.WithLease(lease)}},
	{name: "far hand-off", callers: 4, far: true, handOff: true, opts: []namedlock.Option{brisk, namedlock.WithLease(lease),
		namedlock.WithMaxSessions(3), namedlock.WithHandOff(10 * time.Millisecond)}},
	{name: "far new", callers: 2, far: true, single: true, opts: []namedlock.Option{brisk, namedlock.WithLease(lease)}},
}

// A locker is a Locker with its db and connection.
type locker struct {
	*namedlock.Locker
	setup setup
	id    string
	db    *sql.DB
	conn  *sql.Conn // made by New
	flaky *flaky
}

// A slot has one Locker of its setup at a time.
type slot struct {
	worker *worker
	setup  setup

	mu      sync.Mutex
	current *locker
	made    int
	closing sync.WaitGroup // of its former Lockers
}

// get returns the Locker, and makes one if there is none.
func (s *slot) get() (*locker, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current, nil
	}
	l, err := s.make()
	if err == nil {
		s.current = l
	}
	return l, err
}

// replace closes old. The next get makes another Locker.
func (s *slot) replace(old *locker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != old || old == nil {
		return
	}
	s.current = nil
	s.closing.Go(func() { s.worker.close(old) })
}

func (s *slot) make() (*locker, error) {
	s.made++
	l := &locker{setup: s.setup, id: fmt.Sprintf("%s/%s.%d", s.worker.name, s.setup.name, s.made)}
	dsn, path := s.worker.job.DSN, ""
	if s.setup.far {
		dsn, path = s.worker.job.FarDSN, s.worker.job.Network
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	if s.setup.deaf {
		cfg.DialFunc = dialDeaf
	}
	if s.setup.flaky {
		if l.flaky, err = newFlaky(cfg); err != nil {
			return nil, err
		}
		l.flaky.happened = func(kind string, session, from int64) {
			s.worker.record.Note(history.Event{Kind: history.EventFault, Fault: kind, Target: l.id, Session: session, From: from})
		}
		l.db = sql.OpenDB(l.flaky)
	} else {
		c, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, err
		}
		l.db = sql.OpenDB(c)
	}
	l.resetPool()
	opts := s.setup.opts
	if s.setup.single {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if l.conn, err = l.db.Conn(ctx); err != nil {
			return nil, errors.Join(err, l.db.Close())
		}
		l.Locker, err = namedlock.New(l.conn, opts...)
	} else {
		l.Locker, err = namedlock.Open(l.db, opts...)
	}
	if err != nil {
		return nil, errors.Join(err, l.db.Close())
	}
	inside.OnSessionOpened(l.Locker, func(took time.Duration) {
		at := history.Now()
		s.worker.record.Note(history.Event{Kind: history.EventOpened, Locker: l.id, From: at - int64(took), At: at})
	})
	keepAlive := 5 * time.Second
	if s.setup.far || s.setup.flaky {
		keepAlive = interval
	}
	e := history.Event{Kind: history.EventLocker, Locker: l.id, Path: path, KeepAlive: keepAlive, Blind: s.setup.flaky, Single: s.setup.single, HandOff: s.setup.handOff}
	if s.setup.far {
		e.Lease = lease
	}
	s.worker.record.Note(e)
	return l, nil
}

func (l *locker) resetPool() {
	l.db.SetMaxOpenConns(l.setup.conns)
	l.db.SetConnMaxLifetime(l.setup.life)
}

// close closes l with its connection and db, and checks that no connection
// stays in use.
func (w *worker) close(l *locker) {
	w.record.Note(history.Event{Kind: history.EventClosing, Locker: l.id})
	if err := l.Close(); err != nil {
		w.flaw("Close returns nil", "%s: %v", l.id, err)
	}
	w.record.Note(history.Event{Kind: history.EventClosed, Locker: l.id})
	if l.conn != nil {
		_ = l.conn.Close() // ErrConnDone if the Locker had to discard it
	}
	if n := l.inUse(); n != 0 {
		w.flaw("nothing leaks", "%s: %d connections are still in use %v after Close", l.id, n, countedWithin)
	}
	_ = l.db.Close() // a connection may be broken
}

// countedWithin is how long a connection that Close has ended may still count
// as in use, on a busy machine.
const countedWithin = 10 * time.Second

// inUse returns how many connections of the db are in use after Close. If the
// session was lost during a transaction, a goroutine of database/sql
// (Tx.awaitDone) takes the connection out of the count. Close cannot wait for
// that goroutine: Rollback and Conn.Close return at once while it runs.
func (l *locker) inUse() int {
	for deadline := time.Now().Add(countedWithin); ; time.Sleep(5 * time.Millisecond) {
		if n := l.db.Stats().InUse; n == 0 || time.Now().After(deadline) {
			return n
		}
	}
}
