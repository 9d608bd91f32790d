// Package adapters tests the modules that fit named locks into other libraries, on real servers.
package adapters

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/goosenamedlock"
)

func onEachServer(t *testing.T, test func(t *testing.T, server *servers.Server)) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, servers.ForTest(t, kind))
		})
	}
}

// A migration that takes its time, and fails where two run it at once.
var migrations = fstest.MapFS{
	"1_one.sql": {Data: []byte("-- +goose Up\nCREATE TABLE one (id INT);\nSELECT SLEEP(0.3);\nINSERT INTO one VALUES (1);\n")},
	"2_two.sql": {Data: []byte("-- +goose Up\nINSERT INTO one VALUES (2);\nSELECT SLEEP(0.3);\nCREATE TABLE two (id INT);\n")},
}

func provider(t *testing.T, server *servers.Server, opts ...goosenamedlock.Option) *goose.Provider {
	t.Helper()
	locker, err := goosenamedlock.NewSessionLocker(opts...)
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectMySQL, server.Open(t, "parseTime=true"), migrations, goose.WithSessionLocker(locker))
	require.NoError(t, err)
	return p
}

func count(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(query, args...).Scan(&n))
	return n
}

// However many processes migrate at once, each migration runs once.
func TestGoose_OneMigrates(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		var all sync.WaitGroup
		var mu sync.Mutex
		applied := 0
		// goose makes its version table before it asks for the lock, in two steps: see the package goosenamedlock.
		_, err := provider(t, server).GetDBVersion(t.Context())
		require.NoError(t, err)
		for range 4 {
			p := provider(t, server)
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
		db := server.Open(t)
		assert.Equal(t, 2, count(t, db, "SELECT COUNT(*) FROM one"))
		assert.Zero(t, count(t, db, "SELECT COALESCE(IS_USED_LOCK(?), 0)", namedlock.SafeName("goose", "test")))
	})
}

// Who cannot have the lock does not migrate; nor does who loses it go on.
func TestGoose_WithoutTheLock(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		db, name := server.Open(t), namedlock.SafeName("goose", "test")
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		defer locker.Close()
		require.NoError(t, locker.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			_, err := provider(t, server, goosenamedlock.WithTimeout(0)).Up(ctx)
			require.ErrorIs(t, err, namedlock.ErrTimeout)
			return nil
		}))
		failed := make(chan error, 1)
		p := provider(t, server)
		go func() {
			_, err := p.Up(context.Background())
			failed <- err
		}()
		var session int64
		require.Eventually(t, func() bool {
			return db.QueryRow("SELECT IS_USED_LOCK(?)", name).Scan(&session) == nil && session != 0
		}, 20*time.Second, time.Millisecond)
		_, err = db.Exec(fmt.Sprintf("KILL %d", session))
		require.NoError(t, err)
		require.Error(t, <-failed)
		_, err = provider(t, server).Up(t.Context())
		if err != nil { // DDL has committed what came before it, as it does on these servers
			assert.ErrorContains(t, err, "already exists")
		}
	})
}
