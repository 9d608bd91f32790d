package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/netfault"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openAs is open for another user. It creates the user, with the given
// privileges.
func (s *server) openAs(t *testing.T, user string, grants []string, params ...string) *sql.DB {
	t.Helper()
	statements := []string{"CREATE USER " + user}
	for _, grant := range grants {
		statements = append(statements, "GRANT "+grant+" TO "+user)
	}
	for _, statement := range statements {
		_, err := s.admin.ExecContext(background, statement)
		require.NoError(t, err)
	}
	t.Cleanup(func() { _, _ = s.admin.ExecContext(background, "DROP USER "+user) })
	cfg, err := mysql.ParseDSN(s.DSN(params...))
	require.NoError(t, err)
	cfg.User, cfg.Passwd, cfg.DBName, cfg.Logger = user, "", "", &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// newUser returns a user name that no other test uses.
func newUser() string { return strings.ReplaceAll(newName("user"), "-", "_") }

// foreignOn is foreign on another pool.
func (s *server) foreignOn(t testing.TB, db *sql.DB) *foreign {
	t.Helper()
	conn, err := db.Conn(background)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	f := &foreign{t: t, conn: conn}
	f.id = f.number("SELECT CONNECTION_ID()")
	return f
}

func requireHolder(t *testing.T, l *locker, name string) namedlock.Holder {
	t.Helper()
	h, held, err := l.Holder(t.Context(), name)
	require.NoError(t, err)
	require.True(t, held, "%q is not held", name)
	return h
}

// Holder finds a foreign session, and returns the same facts about it as the
// process list.
func TestHolder_ForeignSession(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		prefix := newName("holder") + "/"
		l, name := at.locker(t, namedlock.WithNamespace(prefix)), "É'\\%"
		_, held, err := l.Holder(t.Context(), name)
		require.NoError(t, err)
		require.False(t, held)

		f := at.foreignOn(t, at.open(t, "connectionAttributes=program_name:billing,client_host:web-1"))
		f.lock(prefix + name)
		h := requireHolder(t, l, name)
		assert.Equal(t, name, h.Name)
		assert.EqualValues(t, f.id, h.ConnectionID)
		assert.Equal(t, at.User(), h.User)
		assert.Contains(t, []string{"localhost", "127.0.0.1", f.host(t)}, h.Host)
		assert.NotZero(t, h.Port)
		assert.Equal(t, "billing", h.Program)
		assert.Equal(t, os.Getpid(), h.PID)
		assert.Equal(t, "web-1", h.ClientHost)
		assert.Contains(t, h.String(), fmt.Sprintf(" (billing, pid %d on web-1)", os.Getpid()))
		assert.False(t, h.Local)
		eventually(t, func() bool {
			h = requireHolder(t, l, name)
			return h.Command == "Sleep" && h.CommandTime >= time.Second && h.Statement == ""
		}, "the holder sleeps for a second")

		done := inBackground(func() error {
			_, err := f.ask("SELECT SLEEP(60) /* at work */")
			return err
		})
		eventually(t, func() bool {
			h = requireHolder(t, l, name)
			return h.Command == "Query" && strings.Contains(h.Statement, "at work")
		}, "the holder is seen at work")
		at.foreign(t).killQuery(f.id)
		_ = receive(t, done, "the statement ends")
		assert.EqualValues(t, f.id, requireHolder(t, l, name).ConnectionID)

		_, held, err = l.Holder(t.Context(), strings.ToLower(name))
		require.NoError(t, err)
		assert.Equal(t, at.Kind() == servers.MySQL, held, "MySQL has one lock for both spellings, MariaDB two")
		assert.Zero(t, f.holder(prefix+"other"), "asking acquired something")
	})
}

// Texts that other sessions choose, or that a server reports, are escaped in
// errors: they contain no character that ends a line or moves a cursor.
func TestPromise47_TextOfStrangers(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		const forged, escaped = "\n\x1b[2K\u202e", `\n\x1b[2K\u202e`
		at, name, user := setup{srv, byOpen}, newName("strangers"), newUser()
		_, err := srv.admin.ExecContext(background, "CREATE USER '"+user+forged+"'")
		require.NoError(t, err)
		t.Cleanup(func() { _, _ = srv.admin.ExecContext(background, "DROP USER '"+user+forged+"'") })
		openWith := func(change func(cfg *mysql.Config)) *sql.DB {
			cfg, err := mysql.ParseDSN(srv.DSN())
			require.NoError(t, err)
			cfg.Logger = &mysql.NopLogger{}
			change(cfg)
			connector, err := mysql.NewConnector(cfg)
			require.NoError(t, err)
			db := sql.OpenDB(connector)
			t.Cleanup(func() { db.Close() })
			return db
		}
		stranger := at.foreignOn(t, openWith(func(cfg *mysql.Config) {
			cfg.User, cfg.Passwd, cfg.DBName, cfg.ConnectionAttributes = user+forged, "", "", "program_name:billing"+forged+",client_host:web-1"+forged
		}))
		stranger.lock(name)

		l := at.locker(t)
		h := requireHolder(t, l, name)
		assert.Equal(t, "billing"+forged, h.Program, "as it came")
		assert.Equal(t, user+forged, h.User, "as it came")
		eventually(t, func() bool {
			err = l.WithLock(t.Context(), name, time.Second, unexpected(t))
			var e *namedlock.Error
			return errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &e) && e.Holder != nil
		}, "the holder is found in time")
		for _, text := range []string{h.String(), err.Error()} {
			assert.NotContains(t, text, "\n")
			assert.NotContains(t, text, "\x1b")
			assert.Contains(t, text, user+escaped)
			assert.Contains(t, text, fmt.Sprintf("(billing%s, pid %d on web-1%s)", escaped, os.Getpid(), escaped))
		}

		unknown := at.lockerOn(t, openWith(func(cfg *mysql.Config) { cfg.DBName = "none" + forged }))
		err = unknown.Check(t.Context())
		require.ErrorIs(t, err, namedlock.ErrUnavailable)
		assert.Contains(t, err.Error(), `none\n`, "the server's own error")
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), "\x1b", "MariaDB spells it in a way of its own")
	})
}

// Holder also finds a lock of the Locker itself, which stays held. If the
// caller's context ends while Holder asks, the lock is not affected.
func TestHolder_OwnLock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.spied(t), at.foreign(t), newName("own")
		lock, err := l.Acquire(t.Context(), name, 0)
		require.NoError(t, err)
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			asked := inBackground(func() error {
				_, _, err := l.Holder(ctx, name)
				return err
			})
			cancel()
			if err := receive(t, asked, "Holder returns"); err != nil {
				requireError(t, err, context.Canceled, name)
			}
		}
		h := requireHolder(t, l, name)
		assert.EqualValues(t, f.holder(name), h.ConnectionID)
		requireHeld(t, lock.Context())
		require.NoError(t, lock.Release())
	})
}

// A user without privileges learns only which connection holds the lock, and
// nothing false.
func TestHolder_WithoutPrivileges(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		name, own := newName("hidden"), newName("hidden")
		db := at.openAs(t, newUser(), nil, "connectionAttributes=program_name:nobody")
		l, f := at.lockerOn(t, db), at.foreign(t)
		f.lock(name)
		assert.Equal(t, namedlock.Holder{Name: name, ConnectionID: uint64(f.id)}, requireHolder(t, l, name))

		g := at.foreignOn(t, db)
		g.lock(own)
		h := requireHolder(t, l, own)
		assert.EqualValues(t, g.id, h.ConnectionID)
		assert.NotEmpty(t, h.User, "sessions of one's own account are shown to all")
		assert.Equal(t, "nobody", h.Program)
		if at.way == byOpen {
			eventually(t, func() bool {
				err := l.WithLock(t.Context(), name, 300*time.Millisecond, unexpected(t))
				requireError(t, err, namedlock.ErrTimeout, name)
				return err.Error() == fmt.Sprintf("namedlock: acquire %q: not acquired within 300ms: held by connection %d", name, f.id)
			}, "the timeout has the holder's connection, and no more")
		}
	})
}

// If the session has ended, Holder returns an error with New. With Open it uses
// another session.
func TestHolder_GoneConnection(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.locker(t), at.foreign(t), newName("gone")
		lock, err := l.Acquire(t.Context(), name, 0)
		require.NoError(t, err)
		f.kill(f.holder(name))
		<-lock.Context().Done()
		require.ErrorIs(t, lock.Release(), namedlock.ErrLost)
		if at.way == byNew {
			_, held, err := l.Holder(t.Context(), name)
			assert.False(t, held)
			requireError(t, err, namedlock.ErrUnavailable, name)
			return
		}
		// The holder is told when the connection ends. The server may free the lock a
		// moment later.
		eventually(t, func() bool {
			_, held, err := l.Holder(t.Context(), name)
			require.NoError(t, err)
			return !held
		}, "the lock is free")
	})
}

// Many goroutines call Holder, acquire locks and release them at the same time,
// also while the Locker is closed.
func TestHolder_BesideLocks(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, foreign := at.locker(t), at.foreign(t), newName("beside")
		f.lock(foreign)
		var running sync.WaitGroup
		errs := make([]error, 8)
		rounds := make(chan struct{}, 1000)
		for i := range errs {
			name := newName("beside")
			running.Go(func() {
				for errs[i] == nil {
					errs[i] = l.WithLock(background, name, time.Minute, func(ctx context.Context) error {
						for asked, want := range map[string]bool{name: true, foreign: true, name + "-free": false} {
							h, held, err := l.Holder(ctx, asked)
							if err != nil {
								return err
							}
							if held != want || held && h.Name != asked || (asked == foreign) != (int64(h.ConnectionID) == f.id) {
								return fmt.Errorf("%q: %v, %+v", asked, held, h)
							}
						}
						return nil
					})
					rounds <- struct{}{}
				}
			})
		}
		for range 100 {
			receive(t, rounds, "the workers go on")
		}
		require.NoError(t, l.Close())
		go func() {
			for range rounds {
			}
		}()
		running.Wait()
		close(rounds)
		for _, err := range errs {
			require.ErrorIs(t, err, namedlock.ErrClosed)
		}
	})
}

// If the server does not answer, Holder ends with its context, and when the
// Locker is closed.
func TestHolder_SilentServer(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		network := at.network(t)
		l := at.lockerBehind(t, network, nil)
		_, _, err := l.Holder(t.Context(), newName("silent"))
		require.NoError(t, err)
		network.Silence()
		prompt(t, 200*time.Millisecond, "the end of Holder's context", func() time.Duration {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start, name := time.Now(), newName("silent")
			_, _, err := l.Holder(ctx, name)
			requireError(t, err, context.DeadlineExceeded, name)
			return time.Since(start)
		})
		asked := inBackground(func() error {
			_, _, err := l.Holder(background, "silent")
			return err
		})
		require.NoError(t, l.Close())
		requireError(t, receive(t, asked, "Holder ends"), namedlock.ErrClosed, "silent")
	})
}

// onServersThatList is onEachServer, with MariaDB's plugin installed.
func onServersThatList(t *testing.T, test func(t *testing.T, srv *server)) {
	onEachServer(t, func(t *testing.T, srv *server) {
		if srv.Kind() == servers.MariaDB {
			srv = borrow(t, servers.MariaDB)
			srv.mustRun(t, "INSTALL SONAME 'metadata_lock_info'")
		}
		test(t, srv)
	})
}

func namesOf(holders []namedlock.Holder) (names []string) {
	for _, h := range holders {
		names = append(names, h.Name)
	}
	return names
}

// Holders lists locks that are held, not waits. No character of a prefix is a
// pattern.
func TestHeld_Prefixes(t *testing.T) {
	t.Parallel()
	onServersThatList(t, func(t *testing.T, srv *server) {
		for _, way := range []string{byOpen, byNew} {
			t.Run(way, func(t *testing.T) {
				at := setup{srv, way}
				space := newName("ж%_") + "/"
				l, all := at.locker(t, namedlock.WithNamespace(space)), at.locker(t)
				f := at.foreignOn(t, at.open(t, "connectionAttributes=program_name:billing,_pid:7"))
				long := strings.Repeat("漢", 64-len([]rune(space)))
				taken := []string{"a", "a%b", "a_b", "a\\b", "a\\%b", "axb", "a'b", "a\"b", "é", long}
				for _, name := range taken {
					f.lock(space + name)
				}
				f.lock(newName("elsewhere"))
				waited := begin(t, t.Context(), all, space+"axb", namedlock.Forever)
				if way == byOpen {
					at.awaitWaiter(t, space+"axb")
				} else {
					waited.queued(t)
				}
				for prefix, want := range map[string][]string{
					"":      taken,
					"a":     {"a", "a%b", "a_b", "a\\b", "a\\%b", "axb", "a'b", "a\"b"},
					"a%":    {"a%b"},
					"a_":    {"a_b"},
					"a\\":   {"a\\b", "a\\%b"},
					"a\\%":  {"a\\%b"},
					"a'":    {"a'b"},
					"%":     nil,
					"é":     {"é"},
					"e":     nil,
					long:    {long},
					"other": nil,
				} {
					held, err := l.Holders(t.Context(), prefix)
					require.NoError(t, err, "%q", prefix)
					assert.ElementsMatch(t, want, namesOf(held), "%q", prefix)
					for _, h := range held {
						assert.EqualValues(t, f.id, h.ConnectionID)
						assert.Equal(t, "billing", h.Program)
						assert.Equal(t, at.User(), h.User)
					}
				}
				held, err := l.Holders(t.Context(), "É")
				require.NoError(t, err)
				if at.Kind() == servers.MySQL {
					assert.Equal(t, []string{"é"}, namesOf(held))
				} else {
					assert.Empty(t, held)
				}
				held, err = all.Holders(t.Context(), "")
				require.NoError(t, err)
				assert.Subset(t, namesOf(held), []string{space + "a"})
				assert.IsIncreasing(t, namesOf(held))

				f.unlock(space + "axb")
				waited.holds(t)
				waited.release(t)
			})
		}
	})
}

// If a server does not list its locks to the user, the error contains the
// remedy.
func TestHeld_Unsupported(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, says := at.lockerOn(t, at.openAs(t, newUser(), nil)), "GRANT SELECT ON performance_schema.*"
		if at.Kind() == servers.MariaDB {
			l, says = at.locker(t), "INSTALL SONAME 'metadata_lock_info'"
		}
		held, err := l.Holders(t.Context(), "x")
		requireError(t, err, namedlock.ErrUnsupported, "x")
		assert.ErrorContains(t, err, says)
		assert.Nil(t, held)
		requireUsable(t, l)
	})
}

// A user who may read the locks but not the sessions gets the locks. On MySQL
// the result also contains the connection attributes of the clients.
func TestHeld_WithoutProcess(t *testing.T) {
	t.Parallel()
	onServersThatList(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		var grants []string
		if at.Kind() == servers.MySQL {
			grants = []string{"SELECT ON performance_schema.*"}
		}
		l := at.lockerOn(t, at.openAs(t, newUser(), grants))
		f, name := at.foreign(t), newName("shown")
		f.lock(name)
		held, err := l.Holders(t.Context(), name)
		require.NoError(t, err)
		want := namedlock.Holder{Name: name, ConnectionID: uint64(f.id)}
		if at.Kind() == servers.MySQL {
			want.PID = os.Getpid()
		}
		assert.Equal(t, []namedlock.Holder{want}, held)
	})
}

// Without its instrument MySQL's list is empty. Holders then returns an error,
// not an empty list.
func TestHeld_BlindServer(t *testing.T) {
	t.Parallel()
	if !slices.Contains(on().Kinds, servers.MySQL) {
		t.Skip("MariaDB lists its locks in another way")
	}
	const off = "UPDATE performance_schema.setup_instruments SET ENABLED = 'NO' WHERE NAME = 'wait/lock/metadata/sql/mdl'"
	for what, blind := range map[string]func(t *testing.T) *server{
		"--performance-schema=OFF": func(t *testing.T) *server { return startFor(t, servers.MySQL, "--performance-schema=OFF") },
		"--performance-schema-max-metadata-locks=1": func(t *testing.T) *server {
			return startFor(t, servers.MySQL, "--performance-schema-max-metadata-locks=1")
		},
		"the instrument is off": func(t *testing.T) *server {
			srv := borrow(t, servers.MySQL)
			srv.mustRun(t, off)
			return srv
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			at := setup{blind(t), byOpen}
			l, f := at.locker(t), at.foreign(t)
			for range 3 {
				f.lock(newName("blind"))
			}
			_, err := l.Holders(t.Context(), "")
			requireError(t, err, namedlock.ErrUnsupported, "")
			name := newName("blind")
			f.lock(name)
			assert.EqualValues(t, f.id, requireHolder(t, l, name).ConnectionID)
		})
	}
}

// The error of a wait that times out contains the holder.
func TestTimeout_NamesTheHolder(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		prefix := newName("late") + "/"
		l := at.locker(t, namedlock.WithNamespace(prefix))
		f, name := at.foreignOn(t, at.open(t, "connectionAttributes=program_name:billing")), "report"
		f.lock(prefix + name)
		for _, timeout := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, time.Second} {
			var e *namedlock.Error
			attempt := func() bool {
				err := l.WithLock(t.Context(), name, timeout, unexpected(t))
				requireError(t, err, namedlock.ErrTimeout, name)
				require.ErrorAs(t, err, &e)
				return e.Holder != nil
			}
			if at.way == byNew || timeout < 100*time.Millisecond {
				assert.False(t, attempt(), "%v", timeout)
				continue
			}
			eventually(t, attempt, "the answer is there in time")
			assert.Equal(t, name, e.Holder.Name)
			assert.EqualValues(t, f.id, e.Holder.ConnectionID)
			assert.Equal(t, "billing", e.Holder.Program)
			assert.False(t, e.Holder.Local)
			assert.ErrorContains(t, e, fmt.Sprintf("not acquired within %v: held by connection %d, %s@%s (billing, pid %d)", timeout, f.id, at.User(), e.Holder.Host, os.Getpid()))
		}
		if at.way == byOpen { // the error of a request's deadline contains it as well
			var e *namedlock.Error
			eventually(t, func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				err := l.WithLock(ctx, name, namedlock.Forever, unexpected(t))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, namedlock.ErrTimeout)
				require.ErrorAs(t, err, &e)
				return e.Holder != nil
			}, "the answer is there in time")
			assert.EqualValues(t, f.id, e.Holder.ConnectionID)
			assert.ErrorContains(t, e, fmt.Sprintf("context deadline exceeded: held by connection %d", f.id))
		}
		f.unlock(prefix + name)

		require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
			err := l.WithLock(t.Context(), strings.ToUpper(name), 200*time.Millisecond, unexpected(t))
			var e *namedlock.Error
			require.ErrorAs(t, err, &e)
			require.NotNil(t, e.Holder)
			assert.True(t, e.Holder.Local)
			assert.Equal(t, name, e.Holder.Name)
			assert.GreaterOrEqual(t, e.Holder.HeldFor, 200*time.Millisecond)
			assert.ErrorContains(t, err, "held by this process for ")
			return nil
		}))
	})
}

// If many callers time out at about the same time, the server is queried a few
// times, on one additional connection.
func TestTimeout_ManyWaitersAskOnce(t *testing.T) {
	t.Parallel()
	const callers = 1000
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f, name := at.spied(t), at.foreign(t), newName("crowd")
		f.lock(name)
		eventually(t, func() bool {
			l.spy.Reset()
			var running sync.WaitGroup
			errs := make([]error, callers)
			for i := range errs {
				running.Go(func() { errs[i] = l.WithLock(t.Context(), name, 2*time.Second, unexpected(t)) })
			}
			running.Wait()
			told := 0
			for _, err := range errs {
				requireError(t, err, namedlock.ErrTimeout, name)
				var e *namedlock.Error
				require.ErrorAs(t, err, &e)
				if e.Holder != nil {
					told++
					assert.EqualValues(t, f.id, e.Holder.ConnectionID)
				}
			}
			assert.Less(t, l.spy.Count(locksql.IsUsedLock), 20)
			return told == callers
		}, "all are told who holds the lock")
		assert.LessOrEqual(t, l.spy.Most(), 3)
	})
}

// If the query for the holder gets no answer, or no connection, the wait still
// ends on time.
func TestTimeout_AQuestionThatHangsDelaysNothing(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, what := range []string{"connecting", "asking"} {
			t.Run(what, func(t *testing.T) {
				prompt(t, time.Second+100*time.Millisecond, "the end of a wait", func() time.Duration {
					network := srv.network(t)
					l := setup{srv, byOpen}.lockerOn(t, srv.openFirstDirect(t, network))
					f, name := srv.foreign(t), newName("hang")
					requireUsable(t, l)
					if what == "asking" {
						_, _, err := l.Holder(t.Context(), name) // so that the db has an idle connection
						require.NoError(t, err)
					}
					network.Silence()
					f.lock(name)
					start := time.Now()
					err := l.WithLock(t.Context(), name, time.Second, unexpected(t))
					took := time.Since(start)
					assert.EqualError(t, err, fmt.Sprintf("namedlock: acquire %q: not acquired within 1s", name))
					assert.GreaterOrEqual(t, took, time.Second)
					network.Close()
					return took
				})
			})
		}
	})
}

// openFirstDirect is open, but only the first connection leads directly to the
// server. All other connections lead through the network.
func (s *server) openFirstDirect(t *testing.T, network *netfault.Proxy) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(s.DSN())
	require.NoError(t, err)
	cfg.Logger = &mysql.NopLogger{}
	var dials atomic.Int32
	cfg.DialFunc = func(ctx context.Context, how, addr string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			addr = network.Addr()
		}
		return new(net.Dialer).DialContext(ctx, how, addr)
	}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// The query for the holder uses no connection that other code may need. A db of
// two connections has none for it.
func TestTimeout_ASmallDBIsNotAsked(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		at := setup{srv, byOpen}
		l, f, name := at.spied(t), at.foreign(t), newName("small")
		l.db.SetMaxOpenConns(2)
		f.lock(name)
		err := l.WithLock(t.Context(), name, 300*time.Millisecond, unexpected(t))
		assert.EqualError(t, err, fmt.Sprintf("namedlock: acquire %q: not acquired within 300ms", name))
		assert.Equal(t, 1, l.spy.Most())
		assert.EqualValues(t, f.id, requireHolder(t, l, name).ConnectionID, "who asks may have the last one")
		f.unlock(name)
		requireUsable(t, l)
	})
}

// The holder is only queried if the answer is useful.
func TestTimeout_NoQuestionWithoutNeed(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, f, name, own := setup{srv, byOpen}.spied(t), srv.foreign(t), newName("needless"), newName("needless")
		f.lock(name)
		for _, timeout := range []time.Duration{0, time.Millisecond, 99 * time.Millisecond} {
			requireError(t, l.WithLock(t.Context(), name, timeout, unexpected(t)), namedlock.ErrTimeout, name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 99*time.Millisecond)
		defer cancel()
		requireError(t, l.WithLock(ctx, name, 500*time.Millisecond, unexpected(t)), context.DeadlineExceeded, name)
		require.NoError(t, l.WithLock(t.Context(), own, 0, func(context.Context) error {
			requireError(t, l.WithLock(t.Context(), own, 300*time.Millisecond, unexpected(t)), namedlock.ErrTimeout, own)
			return nil
		}))
		assert.Zero(t, l.spy.Count(locksql.IsUsedLock))
	})
}

// Close does not wait for a query that hangs.
func TestTimeout_CloseEndsTheQuestion(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		prompt(t, 500*time.Millisecond, "the end of Close", func() time.Duration {
			network := srv.network(t)
			l := setup{srv, byOpen}.lockerOn(t, srv.openFirstDirect(t, network))
			f, name := srv.foreign(t), newName("close")
			requireUsable(t, l)
			network.Silence()
			f.lock(name)
			var c *call
			eventually(t, func() bool {
				if c == nil || len(c.done) > 0 { // that call was over before it could ask
					c = begin(t, t.Context(), l, name, 500*time.Millisecond)
				}
				return network.Accepted() > 0
			}, "the question is under way")
			start := time.Now()
			require.NoError(t, l.Close())
			took := time.Since(start)
			require.Error(t, c.err(t))
			assert.Zero(t, l.db.Stats().InUse)
			return took
		})
	})
}
