package session

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/hangup"
)

// idleTime is how long a session stays without a lock before its connection goes
// back to where it came from.
const idleTime = time.Second

// staleTime is how long a greeting may take on a connection that may have been lying
// idle in the db for too long.
const staleTime = time.Second

// Config says how a pool treats its sessions.
type Config struct {
	MaxSessions    int           // 0: a share of the db's connections
	ReleaseTimeout time.Duration // bounds RELEASE_LOCK
	KeepAlive      time.Duration
	Probe          time.Duration // 0: never
	Lease          time.Duration // 0: none
	CheckServer    bool
	Logger         *slog.Logger // never blocks: see notify.Notifier.Logger
	Observer       Observer     // nil: none

	cluster  *clusterCheck
	noInnoDB *atomic.Bool // the server does not know @@innodb_read_only
	hangups  *hangup.Listener
	blind    *atomic.Bool // it has been logged that a session cannot be looked at
	spell    bool         // sessions may be short-lived: spare them what pays later
}

func (c *Config) setUp() {
	c.cluster, c.noInnoDB, c.blind = new(clusterCheck), new(atomic.Bool), new(atomic.Bool)
	if c.Observer == nil {
		c.Observer = nobody{}
	}
}

// An Observer is told what becomes of connections. It must not block.
type Observer interface {
	SessionOpened(took time.Duration, err error) // taken from the db and greeted, or not
	SessionDiscarded(cause error)                // closed instead of going back
}

type nobody struct{}

func (nobody) SessionOpened(time.Duration, error) {}
func (nobody) SessionDiscarded(error)             {}

// A Hold is a lock on a session, as the session's pool sees it.
type Hold interface {
	Name() string // as the server knows it
	// Lost is called, once and with no mutex held, when the session that the
	// lock was on has gone.
	Lost(cause error)
}

// place is where a session stands in its pool.
type place struct {
	state      state
	deathCause error // set when it is dead
	holds      map[Hold]struct{}
	locked     bool      // there is a lock of ours on it, as far as is known
	idleSince  time.Time // when it was last put back without a lock on it

	// For the watch; times are since epoch.
	due       time.Duration // of the next proof
	proved    time.Duration // when the last proof began, or the first of the locks was granted
	idleLimit time.Duration // the server gives the session up when it hears nothing for so long; 0: not known
	proving   bool
	probing   bool
	unseen    bool // the driver does not let the watch look at it
	hungUp    bool // the kernel has told that the server has closed the connection
}

// A Pool hands out turns on sessions: the right to run statements, one at a time.
// It opens sessions up to its cap and shares them beyond it.
type Pool struct {
	Config
	db     *sql.DB  // nil: there is the one session only
	single *Session // the one session of such a pool; never replaced

	work  sync.WaitGroup // goroutines and timers that Close waits for
	dials sync.WaitGroup // for these it does not wait for long; see awaitDials

	mu       sync.Mutex
	sessions []*Session // those that live
	opening  int        // those to come
	parting  int        // those whose connections are being given back, or closed
	full     time.Time  // when the server last had no connection for us
	stuck    int        // of the opening, those that wait for a connection that others have
	passed   int        // first questions that went ahead of a poll, since the last poll; see next
	pollers  int        // callers who poll because they have no session to wait with
	waiters  []*waiter  // callers who wait for a turn, in the order of their coming
	widened  time.Time  // when Widen last did so
	janitor  *time.Timer
	watching bool
	resting  bool            // the watch does, for longer than a tick
	closing  context.Context // ends when Close begins, under mu
	close    context.CancelFunc
}

// A waiter waits for a turn on a session.
type waiter struct {
	want      *Session // nil: on any
	priority  priority
	turn      chan struct{} // closed when got is set, or when it is time to look again
	got       *Session
	exhausted bool // no session will be free before others let go of a connection
}

// A priority says who has the next turn on a session; see next.
type priority int

const (
	urgent priority = iota // a release, a proof: it must have this very session
	first                  // a first question: most locks are free
	poll                   // one question of many
)

// NewPool returns a pool of connections of db.
func NewPool(db *sql.DB, config Config) *Pool {
	config.setUp()
	config.spell = true
	return newPool(db, config)
}

// NewSingle returns a pool whose one session is conn. Close leaves conn open.
func NewSingle(conn *sql.Conn, config Config) *Pool {
	config.setUp()
	p := newPool(nil, config)
	p.single = newSession(conn, &p.Config)
	p.single.lent = true
	p.sessions = []*Session{p.single}
	return p
}

func newPool(db *sql.DB, config Config) *Pool {
	p := &Pool{Config: config, db: db}
	p.closing, p.close = context.WithCancel(context.Background())
	p.hangups = hangup.New()
	return p
}

// Sessions is how many sessions there are now, those to come included.
func (p *Pool) Sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions) + p.opening
}

// Unwatched is how many of them cannot be looked at.
func (p *Pool) Unwatched() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if s.blind.Load() {
			n++
		}
	}
	return n
}
