package memserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/locktable"
)

// A Server itself need not be closed: its sessions end with their clients.
type Server struct {
	locks   *locktable.Table[*session]
	foreign *locktable.Session[*session] // of no client, for Lock

	mu       sync.Mutex // guards all that follows, and the sessions' dead
	sessions []*session // all that there have been; the first is number 1
	sent     []Statement
	script   func(Statement) *Reply
	readOnly bool
	mySQL    bool          // it is a MySQL; false: a MariaDB
	prepares bool          // it prepares statements; false: it refuses to, as a server whose limit is reached
	dialing  time.Duration // that it takes to connect
	closing  func()        // called by the client's end of a connection before it closes; nil: nothing
}

// A Statement is a statement that a session received.
type Statement struct {
	Session int
	Text    string
}

// A Reply is an answer that the server would not give by itself.
type Reply struct {
	Run      bool   // carry the statement out first
	Row      []any  // nil values are NULL
	Affected byte   // rows, where there is no Row
	Number   uint16 // of an error; 1213 rolls back, too
	Hang     bool   // say nothing, until the client goes
	Drop     bool   // close the connection
}

// New returns a server without sessions.
func New() *Server {
	// foo and FOO are two locks, as on MariaDB.
	locks := locktable.New(func(name string) string { return name }, func(*session) {})
	return &Server{locks: locks, foreign: locks.Session(nil)}
}

// Open returns a pool of connections to the server, whose driver is configured
// by change.
func (s *Server) Open(change ...func(*mysql.Config)) *sql.DB {
	return sql.OpenDB(s.Connector(change...))
}

// Connector makes the connections that Open pools.
func (s *Server) Connector(change ...func(*mysql.Config)) driver.Connector {
	connector, err := mysql.NewConnector(s.Config(change...))
	if err != nil {
		panic(err)
	}
	return connector
}

// OpenWrapped is Open with connections that wrap has wrapped.
func (s *Server) OpenWrapped(wrap func(driver.Conn) driver.Conn) *sql.DB {
	return sql.OpenDB(wrapping{s.Connector(), wrap})
}

// A wrapping wraps the connections of a Connector.
type wrapping struct {
	driver.Connector
	wrap func(driver.Conn) driver.Conn
}

func (w wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := w.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return w.wrap(conn), nil
}

// Config returns what a driver needs to connect to the server, changed by
// change.
func (s *Server) Config(change ...func(*mysql.Config)) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.InterpolateParams = true
	for _, change := range change {
		change(cfg)
	}
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		s.mu.Lock()
		dialing := s.dialing
		s.mu.Unlock()
		time.Sleep(dialing)
		client, server := net.Pipe()
		return socket{client, s.accept(server)}, nil
	}
	return cfg
}

// Serve serves clients at l until l is closed, and returns the error of Accept.
// Sessions continue until their clients disconnect.
func (s *Server) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		s.accept(conn)
	}
}

// Close closes db, whose connections lead to s and are all idle. It returns the
// error of db.Close, unless a session that Kill has ended caused it.
//
// When a connection is closed, the driver sends COM_QUIT. That fails if the
// server has ended the session while the connection was idle in db, for example
// just after the release of its lock. If db is used again, it discards such a
// connection. If the client itself has closed the socket of an idle connection,
// Close returns the error.
func (s *Server) Close(db *sql.DB) error {
	s.mu.Lock()
	killed := slices.ContainsFunc(s.sessions, func(c *session) bool { return c.killed && !c.left })
	s.mu.Unlock()
	err := db.Close()
	if err != nil && killed && err.Error() == "bad connection" { // the driver does not export it
		return nil
	}
	return err
}

// Script calls f for every statement. f may delay the statement, and may return
// the answer; if it returns nil, the server answers.
func (s *Server) Script(f func(Statement) *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// ScriptTexts scripts each statement that contains one of the texts.
func (s *Server) ScriptTexts(replies map[string]*Reply) {
	s.Script(func(st Statement) *Reply {
		for text, reply := range replies {
			if strings.Contains(st.Text, text) {
				return reply
			}
		}
		return nil
	})
}

// Once scripts the next statement that contains text.
func (s *Server) Once(text string, reply *Reply) {
	var once sync.Once
	s.Script(func(st Statement) (r *Reply) {
		if strings.Contains(st.Text, text) {
			once.Do(func() { r = reply })
		}
		return r
	})
}

// Sent returns the statements so far that contain text.
func (s *Server) Sent(text string) (sent []Statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.sent {
		if strings.Contains(st.Text, text) {
			sent = append(sent, st)
		}
	}
	return sent
}

// Sessions returns the number of sessions so far, and the number of those that
// are alive.
func (s *Server) Sessions() (all, alive int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sessions {
		if !c.dead {
			alive++
		}
	}
	return len(s.sessions), alive
}

// Alive reports whether the session has not ended.
func (s *Server) Alive(session int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.sessions[session-1].dead
}

// Kill ends a session, and its locks with it.
func (s *Server) Kill(session int) {
	s.mu.Lock()
	c := s.sessions[session-1]
	c.killed = true
	s.mu.Unlock()
	_ = c.net.Close()
	s.end(c)
}

// SetDialing sets how long connecting takes.
func (s *Server) SetDialing(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing = d
}

// SetClosing sets a function that is called before a client closes its end of a
// connection, like the Close of a user's dialer.
func (s *Server) SetClosing(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = f
}

// SetReadOnly makes the server a replica, or a primary again.
func (s *Server) SetReadOnly(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = is
}

// SetMySQL makes the server a MySQL, for sessions to come. It then has MySQL's
// version and variables, rounds the timeout of GET_LOCK to whole seconds, and
// follows the MAX_EXECUTION_TIME hint.
func (s *Server) SetMySQL() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mySQL = true
}

// SetPrepares makes the server prepare statements.
func (s *Server) SetPrepares() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepares = true
}

func (s *Server) isReadOnly() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readOnly
}

// foreignID is the connection id of the session of Lock.
const foreignID = 1_000_000

// Lock acquires a free lock for a foreign session.
func (s *Server) Lock(name string) {
	if s.Holder(name) >= 0 {
		panic(fmt.Sprintf("memserver: %q is not free", name))
	}
	_, _ = s.foreign.Get(context.Background(), name, 0)
}

// Unlock undoes Lock.
func (s *Server) Unlock(name string) { s.foreign.Release(name) }

// Holder returns the session that holds the lock: -1 for none, 0 for a foreign
// session.
func (s *Server) Holder(name string) int {
	switch c, held := s.locks.Holder(name); {
	case !held:
		return -1
	case c == nil:
		return 0
	default:
		return c.id
	}
}

// Steal takes a lock away from a session, which stays alive.
func (s *Server) Steal(name string) { s.locks.Steal(name) }

// Jump makes a session that waits for the lock the first in the queue.
func (s *Server) Jump(name string, session int) {
	s.mu.Lock()
	c := s.sessions[session-1]
	s.mu.Unlock()
	c.locks.Next(name)
}

// InTx reports whether the session has a transaction open.
func (s *Server) InTx(session int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[session-1].inTx
}

// end frees the locks of a session.
func (s *Server) end(c *session) {
	s.mu.Lock()
	c.dead, c.inTx = true, false
	s.mu.Unlock()
	c.locks.End()
}
