package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Proxies and compatible servers understand every statement. GET_LOCK and
// RELEASE_LOCK are each in a SELECT of their own. Only a GET_LOCK that waits is
// combined with variables that show whether the server is still writable.
func TestPromise23_PlainStatements(t *testing.T) {
	t.Parallel()
	plain := regexp.MustCompile(`^(SET STATEMENT max_statement_time=0 FOR )?` +
		`SELECT (/\*\+ MAX_EXECUTION_TIME\(\d+\) \*/ )?(GET_LOCK\(\?, \?\)(, @@read_only, @@innodb_read_only)?|RELEASE_LOCK\(\?\))$`)
	everyWay(t, func(t *testing.T, at setup) {
		l, f, taken := at.spied(t), at.foreign(t), newName("taken")
		f.lock(taken)
		for range 3 {
			require.NoError(t, l.WithLock(t.Context(), newName("é"), 0, func(ctx context.Context) error {
				return l.WithLock(ctx, newName("nested"), 0, nothing)
			}))
			requireError(t, l.WithLock(t.Context(), taken, 120*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, taken)
		}
		locking := 0
		for _, st := range l.spy.Statements() {
			if regexp.MustCompile(`(GET|RELEASE)_LOCK\b`).MatchString(st.Text) {
				locking++
				assert.Regexp(t, plain, st.Text)
			}
			assert.NotRegexp(t, `(?i)coalesce|\bdo\b|locks? \(`, st.Text)
		}
		assert.Positive(t, locking)
	})
}

// The statements of New(conn, WithoutServerCheck()) are exactly these, and
// prepared from their second use.
func TestPromise24_ExactStatements(t *testing.T) {
	t.Parallel()
	const get, release = locksql.SelectGetLock, locksql.SelectReleaseLock
	type sent struct {
		how, text string
		name      any
	}
	onEachServer(t, func(t *testing.T, srv *server) {
		l := setup{srv, byNew}.spied(t, namedlock.WithoutServerCheck(), namedlock.WithNamespace("space/"))
		cycle := func(what string, want ...sent) {
			t.Helper()
			l.spy.Reset()
			name := newName(what)
			require.NoError(t, l.WithLock(t.Context(), name, time.Minute, nothing))
			var got []sent
			for _, st := range l.spy.Statements() {
				got = append(got, sent{how: st.How, text: st.Text})
				if len(st.Args) > 0 {
					got[len(got)-1].name = st.Args[0]
				}
				if st.How != spy.Prepare && st.Text == get {
					assert.EqualValues(t, 0, st.Args[1], "a try")
				}
			}
			for i := range want {
				if want[i].how != spy.Prepare {
					want[i].name = "space/" + name
				}
			}
			assert.Equal(t, want, got)
		}
		cycle("first", sent{how: spy.Query, text: get}, sent{how: spy.Query, text: release})
		cycle("second", sent{how: spy.Prepare, text: get}, sent{how: spy.Run, text: get},
			sent{how: spy.Prepare, text: release}, sent{how: spy.Run, text: release})
		cycle("third", sent{how: spy.Run, text: get}, sent{how: spy.Run, text: release})
		cycle("fourth", sent{how: spy.Run, text: get}, sent{how: spy.Run, text: release})

		// Close closes the prepared statements. The connection stays open for its
		// owner.
		l.spy.Reset()
		require.NoError(t, l.Close())
		for _, st := range l.spy.Statements() {
			assert.Equal(t, spy.Close, st.How)
		}
		assert.Len(t, l.spy.Statements(), 2)
		require.NoError(t, l.conn.PingContext(t.Context()))
	})
}

// The server is checked once in each session, before its first lock.
func TestPromise24_OneGreeting(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l := at.spied(t, namedlock.WithKeepAlive(time.Hour))
		for range 3 {
			requireUsable(t, l)
		}
		sent := l.spy.Sent()
		first := slices.Index(sent, locksql.SelectGetLock)
		assert.Positive(t, first, "a greeting")
		if at.way == byOpen && l.spy.Count(locksql.Version) > 1 {
			return // so slow that the session was returned between two locks
		}
		require.Len(t, sent[first:], 3*2)
		for i, text := range sent[first:] {
			assert.Equal(t, []string{locksql.SelectGetLock, locksql.SelectReleaseLock}[i%2], text)
		}
	})
}

// If a server does not prepare any more statements, they are sent as text, with
// the arguments that the driver inserts.
//
// This test changes global variables, so no other test runs at the same time.
func TestPromise24_ServerThatDoesNotPrepare(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		f := at.foreign(t)
		most := f.number("SELECT @@max_prepared_stmt_count")
		_, err := f.conn.ExecContext(background, "SET GLOBAL max_prepared_stmt_count = 0")
		require.NoError(t, err)
		defer func() {
			_, err := f.conn.ExecContext(background, fmt.Sprintf("SET GLOBAL max_prepared_stmt_count = %d", most))
			require.NoError(t, err)
		}()
		l := at.lockerOn(t, at.open(t, "interpolateParams=true"))
		for range 4 {
			requireUsable(t, l)
		}
	})
}

// A fresh session writes a plain name as a literal. It is the same lock as a
// name that is sent as an argument, under every sql_mode that changes quoting.
// A name that is not plain is not written as a literal.
func TestPromise24_SpeltOutNames(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, mode := range []string{"", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"} {
			t.Run(mode, func(t *testing.T) {
				f := srv.foreign(t)
				cfg, err := mysql.ParseDSN(srv.DSN("sql_mode=" + url.QueryEscape("'"+mode+"'")))
				require.NoError(t, err)
				for _, odd := range []string{"Az09-_.:/@+=", `it's`, `a\b`, `a\'b`, `"q"`, "what?", "é", "`", "100%", "a;b", "/*c*/", "-- d", "tab\t", "a b"} {
					name := newName(odd)
					s, err := spy.New(cfg)
					require.NoError(t, err)
					db := sql.OpenDB(s)
					l := setup{srv, byOpen}.lockerOn(t, db)
					k, err := l.Acquire(background, name, 0)
					require.NoError(t, err, "%q", name)
					assert.False(t, f.get(name, 0), "%q", name)
					require.NoError(t, k.Release(), "%q", name)
					assert.True(t, f.get(name, 0), "%q", name)
					f.unlock(name)

					spelt := 0
					for _, st := range s.Statements() {
						if st.How == spy.Query && strings.Contains(st.Text, "_LOCK('") {
							spelt++
						}
					}
					assert.Equal(t, odd == "Az09-_.:/@+=", spelt == 2, "%q: %v", name, s.Statements())
					require.NoError(t, l.Close())
					db.Close()
				}
			})
		}
	})
}
