package e2e

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(workerJob); job != "" {
		os.Exit(work(job))
	}
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = parallel.Value.Set("20") // most tests wait most of the time
	}
	code := m.Run()
	errs := []error{stopPools(), stopReplicationSets()}
	for _, s := range running.servers {
		errs = append(errs, s.Stop())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "stop the servers:", err)
		code = 1
	}
	if testing.Verbose() {
		fmt.Println(servers.Launched())
	}
	os.Exit(code)
}

// A server is shared by all tests that do not stop it. Therefore every test has
// lock names of its own.
type server struct {
	*servers.Server
	proxy *servers.Proxy // in front of the server; nil: none
	// For sessions outside the library. It does not use the proxy.
	admin *sql.DB
}

var running struct {
	mu      sync.Mutex
	servers []*server
}

var shared = map[servers.Kind]func() (*server, error){
	servers.MySQL:   sync.OnceValues(func() (*server, error) { return startShared(servers.MySQL) }),
	servers.MariaDB: sync.OnceValues(func() (*server, error) { return startShared(servers.MariaDB) }),
}

func startShared(kind servers.Kind) (*server, error) {
	s, err := startOrAttach(kind)
	if err == nil {
		running.mu.Lock()
		running.servers = append(running.servers, s)
		running.mu.Unlock()
	}
	return s, err
}

func startOrAttach(kind servers.Kind) (*server, error) {
	if on().Running == "" {
		return start(kind)
	}
	backend, err := servers.Attach(on().Running)
	if err != nil {
		return nil, err
	}
	return asTarget(backend)
}

// onEachServer runs the test on MySQL and on MariaDB, at the same time.
func onEachServer(t *testing.T, test func(t *testing.T, srv *server)) {
	for _, kind := range on().Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, err := shared[kind]()
			if err != nil {
				servers.SkipOrFail(t, err)
			}
			test(t, srv)
			if t.Failed() {
				t.Log("on " + srv.Version())
			}
		})
	}
}

// A setup is a server and a way to make Lockers: by New or by Open.
type setup struct {
	*server
	way string
}

const (
	byNew  = "New"
	byOpen = "Open"
)

// everyWay runs the test on each server, with New and with Open.
func everyWay(t *testing.T, test func(t *testing.T, at setup)) {
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, way := range []string{byOpen, byNew} {
			t.Run(way, func(t *testing.T) { test(t, setup{srv, way}) })
		}
	})
}

// A locker is a Locker with its db, connection and spy.
type locker struct {
	*namedlock.Locker
	db   *sql.DB   // of this locker only
	conn *sql.Conn // with New
	spy  *spy.Spy  // with spied
}

// locker returns a Locker on a db of its own. Both end with the test.
func (at setup) locker(t testing.TB, opts ...namedlock.Option) *locker {
	t.Helper()
	return at.lockerOn(t, at.open(t), opts...)
}

// spied returns a Locker whose driver is watched by a spy. Arguments are sent
// as text, so that only the Locker prepares statements.
func (at setup) spied(t *testing.T, opts ...namedlock.Option) *locker {
	t.Helper()
	return at.spiedWith(t, []string{"interpolateParams=true"}, opts...)
}

// spiedWith is spied with other parameters of the driver.
func (at setup) spiedWith(t *testing.T, params []string, opts ...namedlock.Option) *locker {
	t.Helper()
	cfg, err := mysql.ParseDSN(at.DSN(params...))
	require.NoError(t, err)
	cfg.Logger = &mysql.NopLogger{}
	return at.spiedAs(t, cfg, opts...)
}

// spiedAs is spied for a server that is reached through cfg.
func (at setup) spiedAs(t *testing.T, cfg *mysql.Config, opts ...namedlock.Option) *locker {
	t.Helper()
	s, err := spy.New(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(s)
	t.Cleanup(func() { db.Close() })
	l := at.lockerOn(t, db, opts...)
	l.spy = s
	return l
}

func (at setup) lockerOn(t testing.TB, db *sql.DB, opts ...namedlock.Option) *locker {
	t.Helper()
	l := &locker{db: db}
	var err error
	switch at.way {
	case byOpen:
		l.Locker, err = namedlock.Open(db, opts...)
	case byNew:
		l.conn, err = db.Conn(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { l.conn.Close() })
		l.Locker, err = namedlock.New(l.conn, opts...)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if closed := inBackground(l.Close); !endsWithin(closed, patience) {
			t.Errorf("Close still waits after %v", patience)
		}
	})
	return l
}

// open returns a pool on the server that ends with the test.
func (s *server) open(t testing.TB, params ...string) *sql.DB {
	t.Helper()
	db, err := openDB(s.DSN(params...))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// openDB is sql.Open without the driver's log of connections that tests kill.
func openDB(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

var nameCount atomic.Int64

// newName returns a lock name in lower-case ASCII that no other test uses.
func newName(about string) string {
	return fmt.Sprintf("e2e-%s-%d", about, nameCount.Add(1))
}

// patience is how long tests wait for events that must happen. It decides
// nothing. On a busy machine it is paced.
const patience = time.Minute

// waitedEnough reports whether a test has waited long enough to conclude that
// an event does not happen.
func waitedEnough(since time.Time) bool {
	waited := time.Since(since)
	return waited > patience && waited > paced(patience)
}

// eventually polls until the condition holds.
func eventually(t *testing.T, condition func() bool, what string, args ...any) {
	t.Helper()
	for start := time.Now(); !condition(); time.Sleep(2 * time.Millisecond) {
		if waitedEnough(start) {
			require.FailNow(t, "did not happen: "+fmt.Sprintf(what, args...))
		}
	}
}

// receive returns the next value from the channel.
func receive[T any](t *testing.T, from <-chan T, what string, args ...any) T {
	t.Helper()
	for start := time.Now(); !waitedEnough(start); {
		select {
		case v := <-from:
			return v
		case <-time.After(patience):
		}
	}
	require.FailNow(t, "did not happen: "+fmt.Sprintf(what, args...))
	panic("unreachable")
}

func inBackground(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func endsWithin(done <-chan error, d time.Duration) bool {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// prompt fails the test unless the time that f returns is within limit and the
// lateness of this machine during f.
func prompt(t *testing.T, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	var took time.Duration
	late := lateness.Of(func() { took = f() })
	require.LessOrEqual(t, took, limit+late, "too late: "+what)
}

// prompt is for a time that depends on answers of the server, which must be
// running. It also takes the lateness of the server into account: prompt alone
// does not notice that the server's threads wait for a processor.
func (s *server) prompt(t *testing.T, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	var took, late time.Duration
	answers := s.latenessOf(t, func() { late = lateness.Of(func() { took = f() }) })
	require.LessOrEqual(t, took, limit+late+answers, "too late (lateness %v, and %v of the server): %s", late, answers, what)
}

// background is a context that outlives the test's own context, which ends
// before the cleanup begins.
var background = context.Background()
