package pool

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// Config says how a pool treats its sessions.
type Config struct {
	server.Config
	MaxSessions int      // 0: a share of the db's connections
	Observer    Observer // nil: none
}

// An Observer is told of connections. It must not block.
type Observer interface {
	// SessionOpened reports that a connection was taken from the db and greeted,
	// or that this failed.
	SessionOpened(took time.Duration, err error)
	// SessionDiscarded reports that a connection was closed instead of going back.
	SessionDiscarded(cause error)
}

type nobody struct{}

func (nobody) SessionOpened(time.Duration, error) {}
func (nobody) SessionDiscarded(error)             {}

// A Hold is a lock on a session, as the session's pool sees it.
type Hold interface {
	Name() string // as it was sent to the server
	// Lost is called once, with no mutex held, when the session of the lock has
	// gone. It reports whether that is a loss.
	Lost(cause error) bool
	// OwnSession reports whether no other call chain may use the session as long
	// as it has locks.
	OwnSession() bool
}

// A Session is a connection in its pool. The Conn belongs to the caller that
// has the turn.
type Session struct {
	*server.Conn
	ended chan struct{} // closed when its connection is closed, or has gone back

	// Guarded by Pool.mu.
	status    status
	closedBy  error // why it is closing
	claim     claim
	leads     bool // it is a leader's, or of a call that waits to lead
	blocked   bool // it is opening, and all connections of the db are in use
	killed    bool // to end its wait
	holds     map[Hold]struct{}
	idleSince time.Time // when it was last put back without a lock on it

	// For the watch, also guarded by Pool.mu. Times are those of package clock.
	due       time.Duration // of the next proof
	proofSent time.Duration // when the last proof began, or the first of the locks was granted
	checking  bool          // a goroutine proves its locks, or probes it
	hungUp    bool          // the kernel has reported that the server has closed the connection
}

// A Pool hands out turns on sessions: the right to run statements, one at a
// time. Its sessions are connections of a db, up to a cap, beyond which they
// are shared. Or there is one, on the connection that New was given.
type Pool struct {
	*server.Server // with its Config
	MaxSessions    int
	Observer       Observer
	db             *sql.DB // nil: New was given the one session
	share          *share  // of the db; nil: there is no db
	lent           *Session
	work           sync.WaitGroup // goroutines and timers that Close waits for
	calls          sync.WaitGroup // of the dialer or the driver that may hang: see Close

	mu           sync.Mutex
	sessions     []*Session
	gone         error           // why there will never be a session again; nil: there may be one
	waiters      []*waiter       // callers that wait for a turn, in the order in which they came
	passed       int             // first questions that have had a turn since the last poll; see nextLocked
	madeRoom     time.Time       // when it last gave a session back for another pool
	full         time.Time       // when the server last had no connection for us
	misses       int             // calls of TakeSpare without a session, since one was opened for them
	spareFailed  time.Time       // when a session could last not be opened for them
	timer        *time.Timer     // see lookAgain; nil: it does not run
	pace         pace            // of the watch
	closing      context.Context // ends when Close begins, under mu
	beginClosing context.CancelFunc
}

// NewPool returns a pool of connections of db.
func NewPool(db *sql.DB, config Config) *Pool {
	p := newPool(config, true)
	p.db, p.share = db, shareOf(db)
	p.share.join(p)
	return p
}

// NewLent returns a pool whose one session is conn. Its owner may use conn too,
// and Close leaves conn open.
func NewLent(conn *sql.Conn, config Config) *Pool {
	p := newPool(config, false)
	p.lent = &Session{Conn: p.Use(conn, true), ended: make(chan struct{}), status: idle}
	p.sessions = []*Session{p.lent}
	return p
}

// newPool returns a pool without sessions. brief says that its connections may
// be short-lived.
func newPool(config Config, brief bool) *Pool {
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	p := &Pool{Server: server.New(config.Config, brief), MaxSessions: config.MaxSessions, Observer: config.Observer}
	p.closing, p.beginClosing = context.WithCancel(context.Background())
	return p
}

// countLocked is how many sessions are such.
func (p *Pool) countLocked(such func(*Session) bool) (n int) {
	for _, s := range p.sessions {
		if such(s) {
			n++
		}
	}
	return n
}

// Sessions is how many sessions there are, those that are being opened
// included, and of how many no look shows that the server has closed them.
func (p *Pool) Sessions() (all, unwatched int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all = p.countLocked(func(s *Session) bool { return s.status != closing })
	return all, p.countLocked(func(s *Session) bool { return s.live() && s.Unwatched() })
}

// Gone returns an error if there will never be a session again.
func (p *Pool) Gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}
