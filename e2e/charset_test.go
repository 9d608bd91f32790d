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

// charsetNames are names that some character set makes others of, or says with other bytes.
var charsetNames = []string{"plain", "user@example.org", "[a]{b}|~^`", `back\slash`, "it's", "café", "漢"}

// charsets returns the DSN parameters that set one of a session's character sets to one of the server's, for all
// of both.
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

// settable reports whether a session can have the parameter: a client cannot speak UTF-16.
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

// In every character set that a server has, a name is the same lock as in UTF-8, from the first question over
// the proofs to the release.
func TestPromise21_EveryCharacterSet(t *testing.T) {
	t.Parallel()
	const keepAlive = 8 * time.Second // many sessions prove their locks; a busy machine has as long for an answer as by default
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		var held []*namedlock.Lock
		defer func() { // also when the test has failed: Close waits for them
			for _, lock := range held {
				_ = lock.Release()
			}
		}()
		tried := 0
		for i, param := range at.charsets(t) {
			if !at.settable(t, param) {
				continue
			}
			tried++
			params := []string{param, fmt.Sprint("interpolateParams=", i%2 == 0)}
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
				if at.way == byNew || j == i%len(charsetNames) { // by Open each has a session of its own
					held = append(held, lock)
					continue
				}
				require.NoError(t, lock.Release(), "%s: %q", param, name)
				f.free(name)
			}
			busy := newName("busy@example")
			f.lock(busy)
			err := l.WithLock(t.Context(), busy, 10*time.Millisecond, unexpected(t))
			require.ErrorIs(t, err, namedlock.ErrTimeout, param)
			f.unlock(busy)
		}
		require.Greater(t, tried, 100, "parameters")
		<-time.After(keepAlive + keepAlive/2) // the proofs
		for _, lock := range held {
			require.NoError(t, context.Cause(lock.Context()), lock.Name())
			require.NoError(t, lock.Release(), lock.Name())
			f.free(lock.Name())
		}
	})
}

// What the server has every session begin with.
func TestPromise21_InitConnect(t *testing.T) {
	t.Parallel()
	onServersWith(t, nil, func(t *testing.T, srv *server) {
		srv.mustRun(t, "SET GLOBAL init_connect = 'SET character_set_results=utf16, character_set_connection=ucs2'")
		db := srv.openAs(t, newUser(), nil) // what every session begins with is not for root
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

// A Locker whose session has locks by the names of one spelling keeps to it: WithoutServerCheck lets the
// character set be known only later, by the first wait or keep-alive.
func TestPromise21_SpellingStays(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byNew}
		l := at.lockerOn(t, at.open(t, "character_set_client=swe7"), namedlock.WithoutServerCheck(), namedlock.WithKeepAlive(often()))
		name := newName("user@example.org")
		require.NoError(t, l.WithLock(t.Context(), name, 0, func(ctx context.Context) error {
			<-time.After(3 * often())
			return context.Cause(ctx)
		}))
	})
}

// A list of locks has their names whatever the session's character sets.
func TestHolders_EveryCharacterSet(t *testing.T) {
	t.Parallel()
	onServersThatList(t, func(t *testing.T, srv *server) {
		f, prefix := srv.foreign(t), newName("é@")
		f.lock(prefix + "漢")
		for _, param := range srv.charsets(t) {
			if !srv.settable(t, param) {
				continue
			}
			for _, way := range []string{byOpen, byNew} {
				l := setup{srv, way}.lockerOn(t, srv.open(t, param))
				for _, p := range []string{prefix, ""} {
					holders, err := l.Holders(t.Context(), p)
					require.NoError(t, err, "%s, %s", param, way)
					assert.Contains(t, namesOf(holders), prefix+"漢", "%s, %s, prefix %q", param, way, p)
				}
			}
		}
	})
}
