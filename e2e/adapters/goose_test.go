// Package adapters tests the modules that connect named locks to other
// libraries, on real servers.
package adapters

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/netfault"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/goosenamedlock"
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range stops {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop:", err)
			code = 1
		}
	}
	os.Exit(code)
}

var (
	mu        sync.Mutex     // guards stops
	stops     []func() error // of the servers that all tests share
	databases atomic.Int64
	started   = map[servers.Kind]func() (*servers.Server, error){
		servers.MySQL:   sync.OnceValues(func() (*servers.Server, error) { return start(servers.MySQL) }),
		servers.MariaDB: sync.OnceValues(func() (*servers.Server, error) { return start(servers.MariaDB) }),
	}
)

func start(kind servers.Kind) (*servers.Server, error) {
	s, err := servers.Start(kind)
	if err == nil {
		mu.Lock()
		stops = append(stops, s.Stop)
		mu.Unlock()
	}
	return s, err
}

// A server is shared by all tests. Each test has a database of its own.
type server struct {
	*servers.Server
	database string
}

func onEachServer(t *testing.T, test func(t *testing.T, s server)) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			shared, err := started[kind]()
			if err != nil {
				servers.SkipOrFail(t, err)
			}
			s := server{shared, fmt.Sprint("adapters", databases.Add(1))}
			_, err = shared.Open(t).Exec("CREATE DATABASE " + s.database)
			require.NoError(t, err)
			test(t, s)
		})
	}
}

// openAt returns a pool on the test's database, through addr.
func (s server) openAt(t *testing.T, addr string, params ...string) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(s.DSNAt(addr, params...))
	require.NoError(t, err)
	cfg.DBName = s.database
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

func (s server) open(t *testing.T, params ...string) *sql.DB {
	t.Helper()
	return s.openAt(t, s.Addr(), params...)
}

// lock returns the name of the lock of goosenamedlock.
func (s server) lock() string { return namedlock.SafeName("goose", s.database) }

// The migrations take 0.3 s each, and fail if two processes run them at the
// same time.
var migrations = fstest.MapFS{
	"1_one.sql": {Data: []byte("-- +goose Up\nCREATE TABLE one (id INT);\nSELECT SLEEP(0.3);\nINSERT INTO one VALUES (1);\n")},
	"2_two.sql": {Data: []byte("-- +goose Up\nINSERT INTO one VALUES (2);\nSELECT SLEEP(0.3);\nCREATE TABLE two (id INT);\n")},
}

func provider(t *testing.T, s server, opts ...goosenamedlock.Option) *goose.Provider {
	t.Helper()
	return providerOf(t, s, migrations, opts...)
}

func providerOf(t *testing.T, s server, migrations fs.FS, opts ...goosenamedlock.Option) *goose.Provider {
	t.Helper()
	locker, err := goosenamedlock.NewSessionLocker(opts...)
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectMySQL, s.open(t, "parseTime=true"), migrations, goose.WithSessionLocker(locker))
	require.NoError(t, err)
	return p
}

func count(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(query, args...).Scan(&n))
	return n
}

// However many processes migrate at the same time, each migration runs once.
func TestGoose_OneMigrates(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		var all sync.WaitGroup
		var mu sync.Mutex
		applied := 0
		// goose makes its version table before it acquires the lock, in two steps:
		// see the package goosenamedlock.
		_, err := provider(t, s).GetDBVersion(t.Context())
		require.NoError(t, err)
		for range 4 {
			p := provider(t, s)
			all.Go(func() {
				results, err := p.Up(context.Background())
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				applied += len(results)
			})
		}
		all.Wait()
		assert.Equal(t, 2, applied)
		db := s.open(t)
		assert.Equal(t, 2, count(t, db, "SELECT COUNT(*) FROM one"))
		holder, err := locksql.Holder(t.Context(), db, s.lock())
		require.NoError(t, err)
		assert.Zero(t, holder)
	})
}

// A process that cannot acquire the lock does not migrate. A process that loses
// the lock does not continue.
func TestGoose_WithoutTheLock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		db, name := s.open(t), s.lock()
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		defer locker.Close()
		require.NoError(t, locker.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			_, err := provider(t, s, goosenamedlock.WithTimeout(0)).Up(ctx)
			require.ErrorIs(t, err, namedlock.ErrTimeout)
			return nil
		}))
		failed := make(chan error, 1)
		p := provider(t, s)
		go func() {
			_, err := p.Up(context.Background())
			failed <- err
		}()
		var session int64
		require.Eventually(t, func() bool {
			session, err = locksql.Holder(t.Context(), db, name)
			return err == nil && session != 0
		}, 20*time.Second, time.Millisecond)
		require.NoError(t, locksql.Kill(t.Context(), db, session))
		require.Error(t, <-failed)
		_, err = provider(t, s).Up(t.Context())
		// On these servers DDL commits the statements before it.
		if err != nil {
			assert.ErrorContains(t, err, "already exists")
		}
	})
}

// While the migrations run, their connection has a lease of one minute.
// Afterwards it has its own wait_timeout again.
func TestGoose_Lease(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		db := s.open(t)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		waits := func() (seconds int) {
			require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT @@wait_timeout").Scan(&seconds))
			return seconds
		}
		const own = 1234
		_, err = conn.ExecContext(t.Context(), fmt.Sprintf("SET SESSION wait_timeout = %d", own))
		require.NoError(t, err)
		for want, opts := range map[int][]goosenamedlock.Option{
			60:  nil,
			9:   {goosenamedlock.WithOptions(namedlock.WithLease(9 * time.Second))},
			own: {goosenamedlock.WithOptions(namedlock.WithLease(0))},
		} {
			locker, err := goosenamedlock.NewSessionLocker(opts...)
			require.NoError(t, err)
			require.NoError(t, locker.SessionLock(t.Context(), conn))
			assert.Equal(t, want, waits())
			require.NoError(t, locker.SessionUnlock(t.Context(), conn))
			assert.Equal(t, own, waits())
		}
	})
}

// A migrator that vanishes without closing its connection keeps other processes
// from migrating for as long as the lease, not for 8 hours.
func TestGoose_AMigratorVanishes(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		network, err := netfault.Listen(s.Addr())
		require.NoError(t, err)
		defer network.Close()
		conn, err := s.openAt(t, network.Addr()).Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		vanishes, err := goosenamedlock.NewSessionLocker(goosenamedlock.WithOptions(namedlock.WithLease(2 * time.Second)))
		require.NoError(t, err)
		require.NoError(t, vanishes.SessionLock(t.Context(), conn))
		network.Silence()

		results, err := provider(t, s, goosenamedlock.WithTimeout(time.Minute)).Up(t.Context())
		require.NoError(t, err)
		assert.Len(t, results, 2)
		network.Heal()
		require.ErrorIs(t, vanishes.SessionUnlock(t.Context(), conn), namedlock.ErrLost)
	})
}

// A statement of a migration may run for longer than the lease.
func TestGoose_ASlowMigration(t *testing.T) {
	t.Parallel()
	slow := fstest.MapFS{"1_slow.sql": {Data: []byte("-- +goose Up\nSELECT SLEEP(5);\nCREATE TABLE slow (id INT);\n")}}
	onEachServer(t, func(t *testing.T, s server) {
		p := providerOf(t, s, slow, goosenamedlock.WithOptions(namedlock.WithLease(2*time.Second)))
		results, err := p.Up(t.Context())
		require.NoError(t, err)
		assert.Len(t, results, 1)
	})
}
