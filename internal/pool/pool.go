package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/server"
)

// idleTime is how long a session stays without a lock before its connection goes
// back to where it came from.
const idleTime = time.Second

// staleTime is how long a greeting may take on a connection that may have been lying
// idle in the db for too long.
const staleTime = time.Second

// Config says how a pool treats its sessions.
type Config struct {
	server.Config
	MaxSessions int      // 0: a share of the db's connections
	Observer    Observer // nil: none
}

// An Observer is told what becomes of connections. It must not block.
type Observer interface {
	SessionOpened(took time.Duration, err error) // taken from the db and greeted, or not
	SessionDiscarded(cause error)                // closed instead of going back
}

type nobody struct{}

func (nobody) SessionOpened(time.Duration, error) {}
func (nobody) SessionDiscarded(error)             {}

// A Session is a connection in its pool.
type Session struct {
	*server.Conn
	killed    atomic.Bool   // by Pool.Kill
	discarded chan struct{} // closed when its connection is closed
	place                   // guarded by Pool.mu
}

func newSession(conn *server.Conn) *Session {
	return &Session{Conn: conn, discarded: make(chan struct{})}
}

// Kill breaks the statement that runs on s, if any, and makes every later one
// fail. It does not wait for that, and may be called with mutexes held. The pool
// must not be closed.
func (p *Pool) Kill(s *Session) {
	s.killed.Store(true)
	if s.Conn.Kill() {
		p.work.Go(s.BreakOff)
	}
}

// A Hold is a lock on a session, as the session's pool sees it.
type Hold interface {
	Name() string // as the server knows it
	// Lost is called, once and with no mutex held, when the session that the
	// lock was on has gone. It reports whether that is a loss.
	Lost(cause error) bool
	// OwnSession reports whether no other call chain may use the session meanwhile.
	OwnSession() bool
}

// place is where a session stands in its pool.
type place struct {
	state      state
	deathCause error // set when it is dead
	holds      map[Hold]struct{}
	locked     bool      // there is a lock of ours on it, as far as is known
	reserved   bool      // who has the turn wants it for its call chain alone
	owned      bool      // its locks are of one call chain, which has it alone until it is empty
	leads      bool      // and that leads, or stands for leader
	idleSince  time.Time // when it was last put back without a lock on it

	// For the watch; times are since epoch.
	due       time.Duration // of the next proof
	proved    time.Duration // when the last proof began, or the first of the locks was granted
	idleLimit time.Duration // the server gives the session up when it hears nothing for so long; 0: not known
	proving   bool
	probing   bool
	hungUp    bool // the kernel has told that the server has closed the connection
}

// A Pool hands out turns on sessions: the right to run statements, one at a time.
type Pool struct {
	*server.Server // with its Config
	MaxSessions    int
	Observer       Observer
	source         source
	work           sync.WaitGroup // goroutines and timers that Close waits for

	mu         sync.Mutex
	sessions   []*Session // those that live
	opening    int        // those to come
	openingOwn int        // of these, those that are to be one call chain's own
	parting    int        // those whose connections are being given back, or closed
	partedAt   time.Time  // when it last parted with a session for another pool
	passed     int        // first questions that went ahead of a poll, since the last poll; see nextLocked
	waiters    []*waiter  // callers who wait for a turn, in the order of their coming
	janitor    *time.Timer
	watching   bool
	resting    bool            // the watch does, for longer than a tick
	closing    context.Context // ends when Close begins, under mu
	close      context.CancelFunc
}

// A waiter waits for a turn on a session.
type waiter struct {
	want      *Session // nil: on any
	own       *Request // it must be its call chain's own; nil: it need not
	priority  priority
	nested    bool          // its chain has a lock already
	turn      chan struct{} // closed when got is set, or when it is time to look again
	got       *Session
	exhausted bool // no session will be free before others let go of a connection
}

// A priority says who has the next turn on a session; see nextLocked.
type priority int

const (
	urgent priority = iota // a release, a proof: it must have this very session
	first                  // a first question: most locks are free
	poll                   // one question of many
)

// A source is where a pool's sessions come from. There are two: the db that Open was given
// (pooled), and the connection that New was given (lent). The pool's mu must be held for
// those whose names say so.
type source interface {
	// goneLocked returns an error if there will never be a session again.
	goneLocked() error
	// refusalLocked returns an error if no session may be taken now.
	refusalLocked() error
	// lead counts a call that has a session for as long as it lasts, or returns an error if
	// there can be none for it. resign undoes it.
	lead() error
	resign()
	// growLocked decides what to do for a caller who may share a session.
	growLocked(all survey) (growth, error)
	// growOwnLocked decides it for a caller who is to have a session alone, and for whom there is
	// no idle one; freeSoon says that there may be one soon.
	growOwnLocked(req Request, freeSoon bool) (growth, error)
	// drainsLocked returns the session that nobody may join, since a caller waits for one to
	// itself, and it will be this one; nil: none.
	drainsLocked() *Session
	// mayShareLocked reports whether s, whose turn has just ended, may go to a caller who shares.
	mayShareLocked(s *Session) bool
	// capLocked and numbersLocked are for those who ask: see Pool.Cap and Pool.Numbers.
	capLocked() int
	numbersLocked() string
	// awaitRoom is called before a caller waits for any session.
	awaitRoom()
	// wanted reports whether others wait for what the pool does not use.
	wanted() bool
	// giveRoom is called when a session has gone.
	giveRoom()
	// open opens the session for which growLocked has made room.
	open(req Request) (*Session, error)
	// openAnother opens a session beside s if that is of use and there is room, and reports
	// whether it does.
	openAnother(s *Session) bool
	// waitLocked returns for how long a wait may block s at most (nil: one without locks), while
	// so many others poll; 0: not at all.
	waitLocked(s *Session, polling int) time.Duration

	// spare reports whether there is a connection for a question beside the locks.
	spare() bool
	// inspect has ask run, beside the locks if possible, and else on home where the caller's chain has that.
	inspect(ctx context.Context, home *Session, ask func(*server.Conn) error) error
	// settle waits for what may still be under way when all sessions are closed.
	settle()
}

// A growth is what a pool does for a caller.
type growth int

const (
	growNot      growth = iota // the next session that is free is the best
	growUseEmpty               // the idle session without locks
	growShare                  // the idle session with the fewest locks
	growByOne                  // a session is to be opened; there is room for it, and opening counts it
	growBlocked                // nothing will be free before others let go of a session
)

// Lead counts a call that has a session of its own for as long as it lasts, or returns an
// error that matches fault.ErrUnsupported if there can be none for it. Resign undoes it.
func (p *Pool) Lead() error { return p.source.lead() }

// Resign is the end of such a call.
func (p *Pool) Resign() { p.source.resign() }

// newPool returns a pool without a source. brief says that its connections may be
// short-lived.
func newPool(config Config, brief bool) *Pool {
	if config.Observer == nil {
		config.Observer = nobody{}
	}
	p := &Pool{Server: server.New(config.Config, brief), MaxSessions: config.MaxSessions, Observer: config.Observer}
	p.closing, p.close = context.WithCancel(context.Background())
	return p
}

// Cap is how many sessions may be used by locks whose code needs a connection beside them.
func (p *Pool) Cap() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.source.capLocked()
}

// Numbers says how many sessions there are and may be, for an error.
func (p *Pool) Numbers() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.source.numbersLocked()
}

// Sessions is how many sessions there are now, those to come included, and how many of them
// cannot be looked at.
func (p *Pool) Sessions() (all, unwatched int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if s.Unwatched() {
			unwatched++
		}
	}
	return len(p.sessions) + p.opening, unwatched
}
