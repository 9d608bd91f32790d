package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
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
	Observer       Observer // nil: none

	cluster  *clusterCheck
	noInnoDB *atomic.Bool // the server does not know @@innodb_read_only
	hangups  *hangup.Listener
	blind    *atomic.Bool // it has been logged that a session cannot be looked at
	spell    bool // sessions may be short-lived: spare them what pays later
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
	busy      bool // somebody has the turn
	waiting   bool // the one who has the turn waits for a lock with it
	holds     map[Hold]struct{}
	locked    bool        // there is a lock of ours on it, as far as is known
	dead      error       // why the session has gone
	urgent    []chan bool // releases and the like that must have this very session
	idleSince time.Time   // when it was last put back without a lock on it

	// For the watch; times are since epoch.
	due       time.Duration // of the next proof
	proved    time.Duration // when the last proof began, or the first of the locks was granted
	idleLimit time.Duration // the server gives the session up when it hears nothing for so long; 0: not known
	proving   bool
	probing   bool
	unseen    bool // the driver does not let the watch look at it
	hungUp    bool // the kernel has told that the server has closed the connection
}

// epoch makes times numbers that a change of the clock does not touch.
var epoch = time.Now()

// A Pool hands out turns on sessions: the right to run statements, one at a time.
// It opens sessions up to its cap and shares them beyond it.
type Pool struct {
	Config
	db     *sql.DB  // nil: there is the one session only
	single *Session // the one session of such a pool; never replaced

	work sync.WaitGroup // goroutines and timers that Close waits for

	mu       sync.Mutex
	sessions []*Session // those that live
	opening  int        // those to come
	stuck    int        // of them, those that wait for a connection that others have
	waiting  int        // sessions with a wait on them
	pollers  int        // callers who poll because they have no session to wait with
	seekers  []*seeker  // callers who take any session, first come first served
	widened  time.Time  // when Widen last did so
	janitor  *time.Timer
	watching bool
	resting  bool            // the watch does, for longer than a tick
	closing  context.Context // ends when Close begins, under mu
	close    context.CancelFunc
}

// A seeker waits for a turn: on session want, or on any if want is nil.
type seeker struct {
	want    *Session
	turn    chan struct{} // closed when got is set, or when it is time to look again
	got     *Session
	crowded bool // no session will be free before others let go of something
}

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

// A Request says for whom a turn is taken.
type Request struct {
	Home   *Session // of the call chain: where its first lock is; nil if it holds none
	Fresh  bool     // a session has just failed: do not use one that nobody has spoken to for a while
	Caller Caller
}

// A Caller is who waits for a turn.
type Caller interface {
	Context() context.Context // ends when the caller gives up
	Crowded()                 // told before waiting for a connection of the db that others have
}

// Take waits for a turn on the session that suits the chain best: its own, an
// empty one, a new one, and only beyond the cap one that holds others' locks.
//
// The turn must be given back by Put.
func (p *Pool) Take(req Request) (*Session, error) {
	if req.Fresh {
		p.sweep(0)
	}
	for {
		p.mu.Lock()
		s, k, err := p.choose(req.Home)
		p.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case k != nil:
			if k.crowded {
				req.Caller.Crowded()
			}
			ctx := req.Caller.Context()
			select {
			case <-k.turn:
				s = k.got
			case <-ctx.Done():
				p.giveUp(k)
				return nil, ctx.Err()
			}
		case s == nil:
			return p.open(req.Caller.Context(), req.Caller.Crowded)
		}
		if s == nil {
			continue
		}
		switch another, err := p.makeReady(s); {
		case err == nil:
			return s, nil
		case !another:
			return nil, err
		}
	}
}

// TakeIdle is Take for a caller who is in no chain and waits for nobody: it returns
// nil if there is no idle session without locks.
func (p *Pool) TakeIdle() (*Session, error) {
	s := p.chooseIdle()
	if s == nil {
		return nil, nil
	}
	another, err := p.makeReady(s)
	switch {
	case err == nil:
		return s, nil
	case another:
		return nil, nil
	}
	return nil, err
}

func (p *Pool) chooseIdle() *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.idle()
	if s != nil {
		s.busy = true
	}
	return s
}

func (p *Pool) idle() *Session {
	for _, s := range p.sessions {
		if !s.busy && len(s.holds) == 0 {
			return s
		}
	}
	return nil
}

// IdleToWait reports whether there is an idle session without locks that may wait for
// one.
func (p *Pool) IdleToWait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle() != nil && p.mayWait()
}

// Widen opens a session for those who queue for the lock on s, beside all that goes on,
// unless there is no room for one, or another is idle or about to be: one on which nobody
// waits is busy for a moment only. It reports whether it does.
func (p *Pool) Widen(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing.Err() != nil || p.single != nil || p.opening > 0 || time.Since(p.widened) < time.Second || p.exhausted() {
		return false
	}
	if limit, err := p.limit(); err != nil || len(p.sessions) >= limit {
		return false
	}
	if slices.ContainsFunc(p.sessions, func(other *Session) bool {
		return other != s && !other.waiting && (other.busy || len(other.holds) == 0)
	}) {
		return false
	}
	p.opening++
	p.widened = time.Now() // a server that refuses is not asked all the time
	p.work.Go(func() {
		if s, err := p.open(p.closing, func() {}); err == nil {
			p.Put(s)
		}
	})
	return true
}

// makeReady sees to it that s, on which the caller has the turn, is fit for locks. If
// it is not the turn is over, and another session may be fitter, or not.
func (p *Pool) makeReady(s *Session) (another bool, err error) {
	err = p.ready(s)
	if err == nil {
		return false, nil
	}
	another = s.Broken() && s != p.single
	if s != p.single && !prohibits(err) {
		// Not for the next caller either: a new connection may lead to another server.
		_ = s.distrust(err)
	}
	p.Put(s)
	if another {
		p.sweep(0) // those who lay idle beside it may be as dead
	}
	return another, err
}

// choose returns a session whose turn is now the caller's, or a seeker to wait
// as, or neither: then the caller is to open a session, which is counted already.
func (p *Pool) choose(home *Session) (*Session, *seeker, error) {
	if err := p.gone(); err != nil {
		return nil, nil, err
	}
	if home != nil && home.dead == nil {
		if !home.busy {
			home.busy = true
			return home, nil, nil
		}
		// A statement is over soon; a wait may last.
		if !home.waiting {
			return nil, p.seek(home), nil
		}
	}
	var least *Session // of those that are free, the one with the fewest locks
	freeSoon := false
	for _, s := range p.sessions {
		freeSoon = freeSoon || !s.waiting
		if !s.busy && (least == nil || len(s.holds) < len(least.holds)) {
			least = s
		}
	}
	if p.single == nil && (least == nil || len(least.holds) > 0) {
		limit, err := p.limit()
		if err != nil {
			return nil, nil, err
		}
		// Sharing a session beats waiting for a connection.
		if len(p.sessions)+p.opening < limit && !(freeSoon && p.exhausted()) {
			p.opening++
			return nil, nil, nil
		}
	}
	if least != nil {
		least.busy = true
		return least, nil, nil
	}
	k := p.seek(nil)
	k.crowded = p.single == nil && !freeSoon && p.opening == p.stuck
	return nil, k, nil
}

// Gone returns an error if there will never be a session again.
func (p *Pool) Gone() error {
	if p.single == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone()
}

func (p *Pool) gone() error {
	if p.single == nil || p.single.dead == nil {
		return nil
	}
	return fault.Because(fault.ErrUnavailable, "the connection that was given to New is gone", p.single.dead)
}

func (p *Pool) seek(want *Session) *seeker {
	k := &seeker{want: want, turn: make(chan struct{})}
	p.seekers = append(p.seekers, k)
	return k
}

func (p *Pool) giveUp(k *seeker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k.got != nil {
		p.pass(k.got) // the turn came at the same moment: hand it on
		return
	}
	p.seekers = slices.DeleteFunc(p.seekers, func(other *seeker) bool { return other == k })
}

func (k *seeker) wake(s *Session) {
	k.got = s
	close(k.turn)
}

// limit is how many sessions the pool may have now. It leaves one of the db's
// connections to the code under the locks.
func (p *Pool) limit() (int, error) {
	return Limit(p.MaxSessions, p.db.Stats().MaxOpenConnections)
}

// Limit returns how many sessions a db with that many connections (0: no limit)
// is good for, where wanted (0: not said) were asked for.
func Limit(wanted, maxOpen int) (int, error) {
	const unlimited = 16
	switch {
	case maxOpen == 1:
		return 0, fault.Because(fault.ErrUnsupported, "the db allows a single connection (SetMaxOpenConns(1)), so that code under a lock could never query it: "+
			"allow more, give the Locker a db of its own, or use namedlock.New with a *sql.Conn", nil)
	case wanted == 0 && maxOpen == 0:
		return unlimited, nil
	case wanted == 0:
		wanted = max(2, maxOpen/4)
	}
	if maxOpen > 0 {
		wanted = min(wanted, maxOpen-1)
	}
	return wanted, nil
}

// exhausted reports whether the db has no connection to give, so that to borrow
// one is to wait for others.
func (p *Pool) exhausted() bool {
	stats := p.db.Stats()
	return stats.MaxOpenConnections > 0 && stats.InUse >= stats.MaxOpenConnections
}

func (p *Pool) open(ctx context.Context, crowded func()) (*Session, error) {
	begun := time.Now()
	s, err := p.connect(ctx, crowded)
	p.Observer.SessionOpened(time.Since(begun), err)
	p.mu.Lock()
	p.opening--
	closed := p.closing.Err() != nil
	switch {
	case err != nil:
		p.wakeSeekers(anySession) // there is room again
	case !closed:
		s.busy = true
		p.sessions = append(p.sessions, s)
	}
	p.mu.Unlock()
	if err == nil && closed { // after Widen: Close has not seen it
		s.giveBack()
		return nil, errGivenBack
	}
	return s, err
}

// connect borrows a connection and greets it. Where the greeting fails on one
// that had been lying idle in the db, there may be a live one behind it.
func (p *Pool) connect(ctx context.Context, crowded func()) (*Session, error) {
	stale := p.db.Stats().Idle
	left := answerTime // for all of it but the wait for others
	for {
		conn, took, err := p.borrow(ctx, left, crowded)
		left -= took
		if err != nil {
			return nil, err
		}
		bound := left
		if stale > 0 {
			bound = min(left, staleTime)
		}
		s := newSession(conn, &p.Config)
		stop := context.AfterFunc(ctx, s.cancel)
		begun := time.Now()
		err = s.greetBorrowed(bound)
		left -= time.Since(begun)
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err == nil {
			return s, nil
		}
		if prohibits(err) {
			s.giveBack() // there is nothing wrong with the connection
			return nil, err
		}
		_ = s.discard()
		p.Observer.SessionDiscarded(err)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !s.Broken() || stale == 0 || left <= 0 {
			return nil, err
		}
		stale--
	}
}

// borrow takes a connection from the db, and says how long that took. To connect is
// bounded by limit; to wait for one that others have is not, nor does it count: that
// is for the callers to end, who are told by crowded.
func (p *Pool) borrow(ctx context.Context, limit time.Duration, crowded func()) (conn *sql.Conn, took time.Duration, err error) {
	for {
		begun := time.Now()
		limit := limit
		stuck := p.exhausted()
		if stuck {
			p.getStuck(+1)
			crowded()
			limit = math.MaxInt64
		}
		bounded, cancel := context.WithTimeout(ctx, limit)
		conn, err = p.dial(bounded)
		late := bounded.Err() != nil
		cancel()
		if stuck {
			p.getStuck(-1)
		} else {
			took = time.Since(begun)
		}
		switch {
		case err == nil:
			return conn, took, nil
		case ctx.Err() != nil:
			return nil, took, ctx.Err()
		case late && p.exhausted():
			took = 0 // others took the last one meanwhile: that was a wait for them
			continue
		}
		return nil, took, noConnection(err, limit)
	}
}

// dial takes a connection from the db. It returns when ctx ends, also where the dialer,
// which is code of the user's, does not: then nobody waits for its end, and a connection
// that comes later goes back to the db.
func (p *Pool) dial(ctx context.Context) (*sql.Conn, error) {
	type dialed struct {
		conn *sql.Conn
		err  error
	}
	result := make(chan dialed)
	go func() {
		conn, err := p.db.Conn(ctx)
		select {
		case result <- dialed{conn, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	}()
	select {
	case r := <-result:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// noConnection is the error where the db gave no connection within limit.
func noConnection(err error, limit time.Duration) error {
	if isContext(err) {
		return fault.Because(fault.ErrUnavailable, fmt.Sprintf("no connection to the server within %v", limit.Round(time.Millisecond)), nil)
	}
	return fault.Because(fault.ErrUnavailable, "no connection to the server", err)
}

// getStuck counts one more, or less, who waits for a connection that others have.
// Those who wait for a session have to know: it may be their wait, too.
func (p *Pool) getStuck(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck += n
	if n > 0 {
		p.wakeSeekers(anySession)
	}
}

// ready sees to it that s, on which the caller has the turn, has been greeted, and
// that its server was fit for locks an interval ago at most. One that is in
// steady use would not be asked otherwise: neither is it borrowed anew, nor has it
// a lock for long enough to have to prove it.
func (p *Pool) ready(s *Session) error {
	switch {
	case s.server == nil && (p.CheckServer || p.Lease > 0):
		return s.greetBorrowed(answerTime) // the single session, at its first use
	case p.CheckServer && s.locks == 0 && time.Since(epoch)-s.server.checked > s.interval():
		return s.checkAgain()
	}
	return nil
}

// Own waits for a turn on s, ahead of all who do not need this very session. It
// returns an error if the session has gone. It waits no longer than the statement
// that runs there may be silent.
func (p *Pool) Own(s *Session) error {
	p.mu.Lock()
	if s.dead != nil {
		defer p.mu.Unlock()
		return s.dead
	}
	if !s.busy {
		s.busy = true
		p.mu.Unlock()
		return nil
	}
	turn := make(chan bool, 1)
	s.urgent = append(s.urgent, turn)
	p.mu.Unlock()
	return p.awaitTurn(s, turn)
}

func (p *Pool) awaitTurn(s *Session, turn <-chan bool) error {
	if <-turn {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.dead
}

// Yield lets everybody go first who must have this very session. The caller has
// the turn before and, if it returns nil, after.
func (p *Pool) Yield(s *Session) error {
	p.mu.Lock()
	if len(s.urgent) == 0 || s.doubt != nil {
		p.mu.Unlock()
		return nil
	}
	turn := make(chan bool, 1)
	s.urgent = append(s.urgent, turn)
	p.pass(s)
	p.mu.Unlock()
	return p.awaitTurn(s, turn)
}

// Put ends the caller's turn on s. A session in doubt is a dead session: it is
// discarded before Put returns, and every lock on it is lost.
func (p *Pool) Put(s *Session) {
	if s.doubt != nil {
		p.bury(s, s.doubt)
		return
	}
	p.mu.Lock()
	p.pass(s)
	p.mu.Unlock()
}

// pass hands the turn on s to who comes next, or leaves s idle.
func (p *Pool) pass(s *Session) {
	if s.dead != nil {
		return
	}
	if len(s.urgent) > 0 {
		turn := s.urgent[0]
		s.urgent = s.urgent[1:]
		turn <- true
		return
	}
	for i, k := range p.seekers {
		if k.want == nil || k.want == s {
			p.seekers = slices.Delete(p.seekers, i, i+1)
			k.wake(s)
			return
		}
	}
	s.busy = false
	if len(s.holds) == 0 && p.single == nil {
		s.idleSince = time.Now()
		p.armJanitor(idleTime)
	}
}

// bury takes s out of the pool, tells everybody who counted on it, and discards
// its connection.
func (p *Pool) bury(s *Session, cause error) {
	p.mu.Lock()
	if s.dead != nil {
		p.mu.Unlock()
		return
	}
	s.dead = cause
	if s.waiting {
		s.waiting = false
		p.waiting--
	}
	p.sessions = slices.DeleteFunc(p.sessions, func(other *Session) bool { return other == s })
	lost, urgent, locked := s.holds, s.urgent, s.locked
	s.holds, s.urgent = nil, nil
	p.mu.Unlock()

	// Those who hold are told first: a call under a lost lock that waits for a turn had
	// better end for that reason.
	for hold := range lost {
		hold.Lost(cause)
	}
	for _, turn := range urgent {
		turn <- false
	}
	p.mu.Lock()
	p.wakeSeekers(func(k *seeker) bool { return k.want == s || k.want == nil })
	p.mu.Unlock()
	p.discard(s, locked)
	p.Observer.SessionDiscarded(cause)
	switch {
	case len(lost) > 0:
		p.Logger.Error("namedlock: session lost with its locks", "locks", len(lost), "names", someNames(lost), "cause", cause)
	case s.killed.Load():
		// On purpose: nobody wanted what it was waiting for any more.
		p.Logger.Debug("namedlock: connection discarded to end a wait", "cause", cause)
	default:
		p.Logger.Warn("namedlock: connection discarded", "cause", cause)
	}
}

// someNames returns the names of the holds, or the first of very many.
func someNames(holds map[Hold]struct{}) (names []string) {
	const most = 20
	for h := range holds {
		if len(names) == most {
			return append(names, "...")
		}
		names = append(names, h.Name())
	}
	return names
}

// discard closes the connection of s. It waits for that, but not for ever: a statement
// of the user's own on a connection given to New can hold it up.
func (p *Pool) discard(s *Session, locked bool) {
	done := make(chan struct{})
	p.work.Go(func() {
		defer close(done)
		if errors.Is(s.discard(), errConnClosed) && locked {
			s.cut()
		}
	})
	timer := time.NewTimer(p.ReleaseTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		if !s.cut() {
			p.Logger.Warn("namedlock: a broken connection is still in use and cannot be closed yet")
		}
	}
}

func anySession(k *seeker) bool { return k.want == nil }

// wakeSeekers lets those seekers look again.
func (p *Pool) wakeSeekers(which func(*seeker) bool) {
	p.seekers = slices.DeleteFunc(p.seekers, func(k *seeker) bool {
		if !which(k) {
			return false
		}
		k.wake(nil)
		return true
	})
}

// Hold records that a lock is now on s, on which the caller has the turn: the watch
// takes care of it, and it is told if s goes. It returns false if s has gone
// already.
func (p *Pool) Hold(s *Session, h Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead != nil {
		return false
	}
	if s.holds == nil {
		s.holds = make(map[Hold]struct{})
	}
	s.holds[h] = struct{}{}
	s.locked = true
	if len(s.holds) == 1 {
		now := time.Since(epoch)
		s.proved = now
		s.due = now + s.interval() // the clock starts at the grant
		if now-s.call.begun > s.interval() {
			s.due = now // which came after a long wait, or a stop: is it still so?
		}
	}
	s.setIdleLimit()
	p.startWatch()
	if p.resting && p.toBeLookedAt(s) {
		p.resting = false
		p.hangups.Wake()
	}
	return true
}

// Replace records that the one lock on s, on which the caller has the turn, has passed
// from one holder to the next, and ends the turn. It returns false, and the turn goes
// on, if s has gone or holds another lock.
func (p *Pool) Replace(s *Session, from, to Hold) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead != nil || len(s.holds) != 1 {
		return false
	}
	delete(s.holds, from)
	s.holds[to] = struct{}{}
	p.pass(s)
	return true
}

// setIdleLimit lets the watch know what the session, by its greeting, knows.
func (s *Session) setIdleLimit() {
	if s.server != nil {
		s.idleLimit = s.server.idleLimit
	}
}

// Drop records that a lock has been released from s, and ends the caller's turn as
// Put does.
func (p *Pool) Drop(s *Session, h Hold) {
	p.mu.Lock()
	delete(s.holds, h)
	if s.doubt == nil {
		s.locked = len(s.holds) > 0
		p.pass(s)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.bury(s, s.doubt)
}

// Wait asks for leave to block s, on which the caller has the turn, in a wait of a
// chain that holds so many locks on it. It is refused where somebody else's release
// would have to wait for it. The answer is for how long at most; 0 is a refusal, and
// the caller has to poll. Waited must follow a wait.
//
//   - A session without locks waits for a slice.
//   - One whose locks are all the chain's own waits for so short that its
//     silence is noticed in time.
//   - The cap's last session never waits, so that there is always one to try on.
//   - A single session waits so briefly that its other callers hardly notice, and
//     not at all while one of them is there.
func (p *Pool) Wait(s *Session, mine int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.dead != nil || len(s.urgent) > 0 || len(s.holds) != mine {
		return 0
	}
	limit := slice
	if len(s.holds) > 0 {
		limit = min(sliceHolding, s.interval()/2)
	}
	if p.single != nil {
		if len(p.seekers) > 0 || p.pollers > 0 {
			return 0
		}
		limit = min(limit, sliceSingle)
	} else if !p.mayWait() {
		return 0
	}
	s.waiting = true
	p.waiting++
	// Those who wait for a turn on s, or on any if this was the last, had better look
	// again.
	last := p.single == nil && !slices.ContainsFunc(p.sessions, func(s *Session) bool { return !s.waiting })
	p.wakeSeekers(func(k *seeker) bool { return k.want == s || last && k.want == nil })
	return limit
}

// mayWait reports whether one session more may wait: the last of the cap never does.
func (p *Pool) mayWait() bool {
	most, err := p.limit()
	return err == nil && p.waiting+1 < most
}

// No statement blocks for longer than a slice.
const (
	slice        = 30 * time.Second
	sliceHolding = time.Second
	sliceSingle  = 50 * time.Millisecond
)

// Waited says that the wait on s is over. The caller still has the turn.
func (p *Pool) Waited(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.waiting {
		s.waiting = false
		p.waiting--
	}
}

// Expendable reports whether s may be killed to end a wait on it: it holds
// nothing, and there can be another.
func (p *Pool) Expendable(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.single == nil && len(s.holds) == 0
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

// Polling says that one caller more (or, with -1, one less) polls.
func (p *Pool) Polling(n int) {
	p.mu.Lock()
	p.pollers += n
	p.mu.Unlock()
}

var errGivenBack = errors.New("session given back")

// armJanitor sees to it that idle sessions are looked for after d.
func (p *Pool) armJanitor(d time.Duration) {
	if p.janitor != nil || p.closing.Err() != nil {
		return
	}
	p.work.Add(1)
	p.janitor = time.AfterFunc(d, func() {
		defer p.work.Done()
		p.sweep(idleTime)
	})
}

// sweep gives back the sessions that have been idle for so long.
func (p *Pool) sweep(age time.Duration) {
	p.mu.Lock()
	if age > 0 {
		p.janitor = nil
	}
	now := time.Now()
	var idle []*Session
	next := time.Duration(0) // until the youngest of those that stay is due
	p.sessions = slices.DeleteFunc(p.sessions, func(s *Session) bool {
		if s.busy || len(s.holds) > 0 || p.single != nil {
			return false
		}
		if left := age - now.Sub(s.idleSince); left > 0 {
			next = max(next, left)
			return false
		}
		s.dead = errGivenBack
		idle = append(idle, s)
		return true
	})
	if next > 0 {
		p.armJanitor(next)
	}
	p.mu.Unlock()
	for _, s := range idle {
		p.work.Go(s.giveBack) // on a silent network it takes time
	}
}

// giveBack returns the connection, which holds no lock, to its db, as it came.
func (s *Session) giveBack() {
	if err := s.restore(); err != nil {
		_ = s.discard()
		s.config.Observer.SessionDiscarded(err)
		return
	}
	s.letGo()
	_ = s.conn.Close()
}

// Close gives all sessions back. Nobody may have a turn or want one.
func (p *Pool) Close() {
	p.mu.Lock()
	p.close()
	if p.janitor != nil && p.janitor.Stop() {
		p.work.Done()
	}
	sessions := p.sessions
	p.sessions = nil
	p.hangups.Wake()
	p.mu.Unlock()
	for _, s := range sessions {
		p.work.Go(func() {
			if s == p.single {
				s.leave()
			} else {
				s.giveBack()
			}
		})
	}
	p.work.Wait()
}

// leave lets go of the connection that was given to New, as it came but for locks
// that had leaked. Where rows of its owner's are open on it nothing is in doubt, and it
// stays open; but nothing can be sent.
func (s *Session) leave() {
	switch err := s.restore(); {
	case errors.Is(err, errOccupied):
		s.config.Logger.Warn("namedlock: left the connection with the lease for its wait_timeout", "cause", err)
	case err != nil:
		_ = s.discard()
		s.config.Observer.SessionDiscarded(err)
		return
	}
	s.letGo()
}
