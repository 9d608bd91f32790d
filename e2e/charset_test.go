package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// charsetNames are names that some character sets change, or encode in other
// bytes.
var charsetNames = []string{"plain", "user@example.org", "[a]{b}|~^`", `back\slash`, "it's", "café", "漢"}

// charsets returns DSN parameters. Each sets one of the three character sets of
// a session to one of the server's character sets.
func (s *server) charsets(t *testing.T) (params []string) {
	t.Helper()
	rows, err := s.admin.QueryContext(t.Context(), "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var charset string
		require.NoError(t, rows.Scan(&charset))
		for _, variable := range []string{"character_set_client", "character_set_connection", "character_set_results"} {
			params = append(params, variable+"="+charset)
		}
	}
	require.NoError(t, rows.Err())
	return append(params, "character_set_results=NULL", "collation_connection=ucs2_general_ci", "sql_mode='NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
}

// settable reports whether a session can have the parameter. A client cannot
// use UTF-16, for example.
func (s *server) settable(t *testing.T, param string) bool {
	t.Helper()
	db := s.open(t, param)
	db.SetMaxIdleConns(-1)
	err := db.PingContext(t.Context())
	if e := (*mysql.MySQLError)(nil); errors.As(err, &e) && e.Number == 1231 {
		return false
	}
	require.NoError(t, err)
	return true
}

// In every character set of a server, a name is the same lock as in UTF-8. That
// holds for GET_LOCK, the checks of a keep-alive, the release, and the list of
// locks.
func TestPromise21_EveryCharacterSet(t *testing.T) {
	t.Parallel()
	onServersThatList(t, func(t *testing.T, srv *server) {
		keepAlive := paced(4 * time.Second) // many sessions check their locks
		f := srv.foreign(t)
		var held []*namedlock.Lock
		defer func() { // if the test has failed, Close waits for the releases
			for _, lock := range held {
				_ = lock.Release()
			}
		}()
		listed := newName("é@") + "漢"
		f.lock(listed)
		tried := 0
		for i, param := range srv.charsets(t) {
			if !srv.settable(t, param) {
				continue
			}
			tried++
			// Each variable is set to each character set once. Each way, and each manner
			// of sending arguments, is combined with some of them.
			at := setup{srv, []string{byOpen, byNew}[i%2]}
			params := []string{param, fmt.Sprint("interpolateParams=", i/2%2 == 0)}
			l := at.lockerOn(t, at.open(t, params...), namedlock.WithKeepAlive(keepAlive))
			for j, about := range charsetNames {
				name := newName(about)
				if len([]rune(name)) > 64 {
					require.FailNow(t, "too long", name)
				}
				lock, err := l.Acquire(t.Context(), name, 0)
				require.NoError(t, err, "%s: %q", param, name)
				require.NotZero(t, f.holder(name), "%s: the server has another name than %q", param, name)
				h := requireHolder(t, l, name)
				require.EqualValues(t, f.holder(name), h.ConnectionID, "%s: %q", param, name)
				require.Equal(t, at.User(), h.User, param)
				// With Open, each lock has a session of its own.
				if at.way == byNew || j == i%len(charsetNames) {
					held = append(held, lock)
					continue
				}
				require.NoError(t, lock.Release(), "%s: %q", param, name)
				f.free(name)
			}
			holders, err := l.Holders(t.Context(), listed[:len(listed)-len("漢")])
			require.NoError(t, err, param)
			assert.Equal(t, []string{listed}, namesOf(holders), param)
			holders, err = l.Holders(t.Context(), "")
			require.NoError(t, err, param)
			assert.Contains(t, namesOf(holders), listed, param)

			busy := newName("busy@example")
			f.lock(busy)
			err = l.WithLock(t.Context(), busy, 10*time.Millisecond, unexpected(t))
			require.ErrorIs(t, err, namedlock.ErrTimeout, param)
			f.unlock(busy)
		}
		require.Greater(t, tried, 100, "parameters")
		<-time.After(keepAlive + keepAlive/2) // for the keep-alives
		for _, lock := range held {
			require.NoError(t, context.Cause(lock.Context()), lock.Name())
			require.NoError(t, lock.Release(), lock.Name())
			f.free(lock.Name())
		}
	})
}

// The server's init_connect changes the character sets of every session.
func TestPromise21_InitConnect(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		srv.mustRun(t, "SET GLOBAL init_connect = 'SET character_set_results=utf16, character_set_connection=ucs2'")
		// The server does not run init_connect for root.
		db := srv.openAs(t, newUser(), nil)
		for _, way := range []string{byOpen, byNew} {
			l, f := setup{srv, way}.lockerOn(t, db), srv.foreign(t)
			name := newName("user@example")
			require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
				assert.NotZero(t, f.holder(name))
				return nil
			}), way)
		}
	})
}

// If a session holds locks, the Locker does not change how it sends names. With
// WithoutServerCheck it learns the character set later, by the first wait or
// keep-alive.
func TestPromise21_SpellingStays(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byNew}
		l := at.lockerOn(t, at.open(t, "character_set_client=swe7"), namedlock.WithoutServerCheck(), namedlock.WithKeepAlive(calm()))
		name := newName("user@example.org")
		require.NoError(t, l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			afterKeepAlive()
			return context.Cause(ctx)
		}))
	})
}
