package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/servers"
)

// Starting MySQL takes seconds. A server in its initial state is as good as a
// new one, so tests that change or restart a server borrow one.

// lentAtOnce is how many servers of a kind are lent at the same time.
const lentAtOnce = 2

// A pool has the idle servers of one kind.
type pool struct {
	start func() (*server, error)
	turn  chan struct{} // its capacity is how many are lent at the same time
	mu    sync.Mutex
	idle  []*private
}

var pools = map[servers.Kind]*pool{
	servers.MySQL:   newPool(lentAtOnce, func() (*server, error) { return start(servers.MySQL) }),
	servers.MariaDB: newPool(lentAtOnce, func() (*server, error) { return start(servers.MariaDB) }),
}

// plainMariaDB has a MariaDB as most users have it, which does not list
// waiters. It has a certificate, so TLS is possible.
var plainMariaDB = newPool(1, startPlainMariaDB)

func newPool(atOnce int, start func() (*server, error)) *pool {
	return &pool{start: start, turn: make(chan struct{}, atOnce)}
}

// borrow returns a server in its initial state, which no other test uses until
// this test ends. The test may set global variables, make users and databases,
// install plugins, and kill and restart the server.
func borrow(t *testing.T, kind servers.Kind) *server {
	t.Helper()
	return pools[kind].borrow(t)
}

func (p *pool) borrow(t *testing.T) *server {
	t.Helper()
	p.turn <- struct{}{}
	t.Cleanup(func() { <-p.turn })
	s, err := p.take()
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.Version(), s.Log())
		}
		if why := p.giveBack(s); why != nil {
			t.Logf("%s is not lent again: %v", s.Version(), why)
		}
	})
	return s.server
}

// take returns an idle server, or starts one.
func (p *pool) take() (*private, error) {
	if s := p.takeIdle(); s != nil {
		return s, nil
	}
	s, err := p.start()
	if err != nil {
		return nil, err
	}
	own := &private{server: s}
	if own.began, err = own.state(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return own, nil
}

func (p *pool) takeIdle() *private {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	s := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return s
}

// giveBack restores the server's initial state. If that fails, it stops the
// server and returns the error.
func (p *pool) giveBack(s *private) error {
	if err := s.putRight(); err != nil {
		return errors.Join(err, s.Stop())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, s)
	return nil
}

// stopPools stops all servers that are not lent.
func stopPools() error {
	errs := []error{plainMariaDB.stop()}
	for _, p := range pools {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

func (p *pool) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.idle {
		errs = append(errs, s.Stop())
	}
	p.idle = nil
	return errors.Join(errs...)
}

// A private server is one that can be lent.
type private struct {
	*server
	began state
}

// A state is everything that a test can change on a server, and that can be
// restored.
type state struct {
	variables map[string]string // the global variables
	users     []string
	databases []string
	plugins   []string
	mdl       []string // whether the server lists waiters
}

// unsteady matches variables that change without a SET.
var unsteady = regexp.MustCompile(`^(gtid_|timestamp$|rand_seed|last_insert_id|identity|insert_id|error_count|warning_count|pseudo_thread_id|in_transaction)`)

// state returns the current state of the server.
func (s *private) state() (now state, err error) {
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return now, err
	}
	defer conn.Close()
	return stateBy(ctx, conn)
}

// stateBy is state through a connection.
func stateBy(ctx context.Context, conn *sql.Conn) (now state, err error) {
	now.variables = map[string]string{}
	rows, err := conn.QueryContext(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return now, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return now, err
		}
		if !unsteady.MatchString(name) {
			now.variables[name] = value
		}
	}
	if err := rows.Err(); err != nil {
		return now, err
	}
	for query, into := range map[string]*[]string{
		"SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user":                                       &now.users,
		"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA":                                                &now.databases,
		"SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'":                  &now.plugins,
		"SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'": &now.mdl,
	} {
		if *into, err = texts(ctx, conn, query+" ORDER BY 1"); err != nil {
			return now, err
		}
	}
	return now, nil
}

// texts returns the first column of the query's result.
func texts(ctx context.Context, conn *sql.Conn, query string) (all []string, err error) {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}

// putRight ends all sessions, restores the server's initial state, and checks
// the result.
func (s *private) putRight() error {
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	conn, err := s.admin.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := endSessions(ctx, conn); err != nil {
		return err
	}
	now, err := stateBy(ctx, conn)
	if err != nil {
		return err
	}
	var statements []string
	for name, value := range s.began.variables {
		if now.variables[name] != value {
			statements = append(statements, fmt.Sprintf("SET GLOBAL %s = %s", name, literal(value)))
		}
	}
	for _, user := range without(now.users, s.began.users) {
		statements = append(statements, "DROP USER "+user)
	}
	for _, plugin := range without(now.plugins, s.began.plugins) {
		statements = append(statements, "UNINSTALL PLUGIN "+plugin)
	}
	for _, database := range without(now.databases, s.began.databases) {
		statements = append(statements, "DROP DATABASE `"+database+"`")
	}
	statements = append(statements, "DROP DATABASE IF EXISTS test", "CREATE DATABASE test")
	if !slices.Equal(now.mdl, s.began.mdl) {
		statements = append(statements, fmt.Sprintf("UPDATE performance_schema.setup_instruments SET ENABLED = '%s' WHERE NAME = 'wait/lock/metadata/sql/mdl'", s.began.mdl[0]))
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	if now, err = stateBy(ctx, conn); err != nil {
		return err
	}
	return s.began.differs(now)
}

// literal formats a variable's value for SET.
func literal(value string) string {
	if regexp.MustCompile(`^-?\d+(\.\d+)?$`).MatchString(value) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// without returns the elements of all that are not in known.
func without(all, known []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(one string) bool { return slices.Contains(known, one) })
}

// differs returns an error that lists the differences, or nil.
func (s state) differs(now state) error {
	var in []string
	for _, name := range slices.Sorted(maps.Keys(s.variables)) {
		if was, is := s.variables[name], now.variables[name]; was != is {
			in = append(in, fmt.Sprintf("%s is %q, and was %q", name, is, was))
		}
	}
	for what, both := range map[string][2][]string{
		"users": {s.users, now.users}, "databases": {s.databases, now.databases}, "plugins": {s.plugins, now.plugins}, "instrument": {s.mdl, now.mdl},
	} {
		if !slices.Equal(both[0], both[1]) {
			in = append(in, fmt.Sprintf("%s are %v, and were %v", what, both[1], both[0]))
		}
	}
	if len(in) > 0 {
		return errors.New(strings.Join(in, "; "))
	}
	return nil
}

// endSessions kills all sessions except conn's, and returns when they have
// ended.
func endSessions(ctx context.Context, conn *sql.Conn) error {
	for {
		sessions, err := texts(ctx, conn, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER NOT IN ('system user', 'event_scheduler')")
		if err != nil || len(sessions) == 0 {
			return err
		}
		for _, id := range sessions {
			_, _ = conn.ExecContext(ctx, "KILL "+id) // it may have ended
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A server on which a test has changed everything is restored for the next
// test.
func TestBorrow(t *testing.T) {
	t.Parallel()
	for _, kind := range on().Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := pools[kind]
			p.turn <- struct{}{}
			defer func() { <-p.turn }()
			s, err := p.take()
			if err != nil {
				servers.SkipOrFail(t, err)
			}
			began := s.began
			f, session := s.foreign(t), s.foreign(t)
			f.lock("left")
			s.mustRun(t, "SET GLOBAL read_only = ON", "SET GLOBAL max_connections = 10", "SET GLOBAL wait_timeout = 7",
				"SET GLOBAL init_connect = 'DO \\'1\\''", "SET GLOBAL sql_mode = 'ANSI_QUOTES'", "CREATE USER 'left'@localhost",
				"CREATE DATABASE left_over", "CREATE TABLE test.rest (n INT)", "UPDATE performance_schema.setup_instruments SET ENABLED = 'NO'")
			if kind == servers.MariaDB {
				s.mustRun(t, "INSTALL SONAME 'metadata_lock_info'")
			}
			left, err := s.state()
			require.NoError(t, err)
			require.ErrorContains(t, began.differs(left), "wait_timeout")

			require.NoError(t, s.putRight())
			now, err := s.state()
			require.NoError(t, err)
			require.NoError(t, began.differs(now))
			for _, ended := range []*foreign{f, session} {
				_, err = ended.ask("SELECT 1")
				require.Error(t, err, "the session has ended")
			}
			f = s.foreign(t)
			f.free("left")
			require.Empty(t, s.claims(t))
			require.Zero(t, f.number("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'test'"))

			// A difference that cannot be restored is detected.
			s.began.variables = maps.Clone(began.variables)
			s.began.variables["port"] = "1"
			require.ErrorContains(t, s.putRight(), "port")
			s.began = began
			require.NoError(t, p.giveBack(s))
		})
	}
}
