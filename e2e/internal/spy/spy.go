// Package spy puts itself between database/sql and the MySQL driver. It records
// what is sent on which connection, counts connections, and lets chosen
// statements fail or wait.
package spy

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

// How a statement was sent.
const (
	Query   = "query"   // as text
	Exec    = "exec"    // as text, without a result
	Prepare = "prepare" // nothing is run yet
	Run     = "run"     // what was prepared
	Close   = "close"   // forgets what was prepared
	Connect = "connect" // opens the connection; it is not recorded
)

// A Statement is one thing said to the server.
type Statement struct {
	Conn int // the first connection is 1
	How  string
	Text string
	Args []any
	ctx  context.Context
}

// A Fault decides what happens to one statement on its way to the server. It
// may send the statement or not, return an error of its own or that of send,
// and take any time.
type Fault func(ctx context.Context, send func() error) error

// FailBefore returns err and sends nothing.
func FailBefore(err error) Fault {
	return func(context.Context, func() error) error { return err }
}

// FailAfter sends the statement, forgets the answer and returns err.
func FailAfter(err error) Fault {
	return func(_ context.Context, send func() error) error {
		_ = send()
		return err
	}
}

// Replace sends the statement, and answers by one row with value in each
// column.
func Replace(value driver.Value) Fault {
	return func(_ context.Context, send func() error) error {
		_ = send()
		return &forged{value: value, count: 1}
	}
}

// Instead answers by one row with value, and sends nothing.
func Instead(value driver.Value) Fault {
	return func(context.Context, func() error) error { return &forged{value: value, count: 1} }
}

// NoRows sends the statement and answers by no row.
func NoRows() Fault {
	return func(_ context.Context, send func() error) error {
		_ = send()
		return &forged{}
	}
}

// Silence sends the statement, and then nothing is heard until the client gives
// up.
func Silence() Fault {
	return func(ctx context.Context, send func() error) error {
		_ = send()
		<-ctx.Done()
		return ctx.Err()
	}
}

// Unheard is silence: the statement does not reach the server.
func Unheard() Fault {
	return func(ctx context.Context, _ func() error) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// First runs another statement on the same connection, and then sends the
// statement.
func First(text string) Fault {
	return func(ctx context.Context, send func() error) error {
		c, ok := ctx.Value(connKey{}).(*conn)
		if !ok {
			return errNoSession
		}
		if err := c.run(context.Background(), text); err != nil {
			return err
		}
		return send()
	}
}

var errNoSession = errors.New("no session yet")

type connKey struct{}

// Session returns the server's id of the session whose statement a Fault
// handles. ctx is the one that the Fault received.
func Session(ctx context.Context) (int64, error) {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok {
		return 0, errNoSession
	}
	return c.session()
}

// A Gate holds one answer up until it is opened.
type Gate struct {
	reached, open chan struct{}
	held          atomic.Bool
	release       sync.Once
}

// NewGate returns a closed gate.
func NewGate() *Gate {
	return &Gate{reached: make(chan struct{}), open: make(chan struct{})}
}

// Reached is closed when a statement or an answer has reached the gate.
func (g *Gate) Reached() <-chan struct{} { return g.reached }

// Open lets it through.
func (g *Gate) Open() { g.release.Do(func() { close(g.open) }) }

// HoldAnswer returns a Fault that sends the statement and calls which. For the
// first statement for which which returns true, it holds the answer until the
// gate is opened. Like a network, it ignores the context.
func (g *Gate) HoldAnswer(which func() bool) Fault {
	return func(_ context.Context, send func() error) error {
		err := send()
		if which() && g.held.CompareAndSwap(false, true) {
			close(g.reached)
			<-g.open
		}
		return err
	}
}

type rule struct {
	how   string // empty: whatever runs a statement
	text  string
	skip  int // matches that go through first
	left  int // matches that it is for; negative: all
	fault Fault
}

// A Spy is a driver.Connector.
type Spy struct {
	connector    driver.Connector
	interpolates bool // arguments are sent as text

	mu             sync.Mutex
	statements     []Statement
	rules          []*rule
	connecting     func(context.Context) error
	opened, closed int
	most           int
	forgetful      bool // a reset frees the session's locks
	resets         int
}

// New returns a spy on the connections that cfg describes.
func New(cfg *mysql.Config) (*Spy, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return &Spy{connector: connector, interpolates: cfg.InterpolateParams}, nil
}

// Statements returns what has been sent, in order.
func (s *Spy) Statements() []Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statements)
}

// Sent returns the texts of what the server was asked to run, in order, whether
// as text or prepared.
func (s *Spy) Sent() []string {
	var sent []string
	for _, st := range s.Statements() {
		if st.How == Query || st.How == Exec || st.How == Run {
			sent = append(sent, st.Text)
		}
	}
	return sent
}

// Count returns how many of Sent contain text.
func (s *Spy) Count(text string) (n int) {
	for _, sent := range s.Sent() {
		if strings.Contains(sent, text) {
			n++
		}
	}
	return n
}

// Reset forgets the statements so far, not the connections.
func (s *Spy) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statements = nil
}

// Opened and Closed return how many connections there have been, and how many
// have ended.
func (s *Spy) Opened() int { s.mu.Lock(); defer s.mu.Unlock(); return s.opened }
func (s *Spy) Closed() int { s.mu.Lock(); defer s.mu.Unlock(); return s.closed }

// Most returns how many connections there have been at the same time, at most.
func (s *Spy) Most() int { s.mu.Lock(); defer s.mu.Unlock(); return s.most }

// ForgetOnReset makes ResetSession free the locks of the session, as it may
// with a driver that is not go-sql-driver. Resets returns how often it was
// called since then.
func (s *Spy) ForgetOnReset() { s.mu.Lock(); defer s.mu.Unlock(); s.forgetful = true }
func (s *Spy) Resets() int    { s.mu.Lock(); defer s.mu.Unlock(); return s.resets }

func (s *Spy) recordReset() (forgets bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgetful {
		s.resets++
	}
	return s.forgetful
}

// Once lets f handle the next statement that contains text, when it is run.
func (s *Spy) Once(text string, f Fault) { s.add(&rule{text: text, left: 1, fault: f}) }

// Nth is Once for the n-th statement from now that contains text; 1 is the
// next.
func (s *Spy) Nth(n int, text string, f Fault) {
	s.add(&rule{text: text, skip: n - 1, left: 1, fault: f})
}

// Always lets f handle every statement that contains text.
func (s *Spy) Always(text string, f Fault) { s.add(&rule{text: text, left: -1, fault: f}) }

// On is Nth for what is sent in one way, be it to prepare or to close a
// statement or to connect.
func (s *Spy) On(how string, n int, text string, f Fault) {
	s.add(&rule{how: how, text: text, skip: n - 1, left: 1, fault: f})
}

// OnSome is On for so many from the n-th; negative: for all.
func (s *Spy) OnSome(how string, n, times int, text string, f Fault) {
	s.add(&rule{how: how, text: text, skip: n - 1, left: times, fault: f})
}

func (s *Spy) add(r *rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, r)
}

// Forgive drops all faults that are still to come.
func (s *Spy) Forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// OnConnect has f called before every new connection, which fails with f's
// error.
func (s *Spy) OnConnect(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connecting = f
}

// Connect implements driver.Connector.
func (s *Spy) Connect(ctx context.Context) (driver.Conn, error) {
	s.mu.Lock()
	connecting := s.connecting
	s.mu.Unlock()
	if connecting != nil {
		if err := connecting(ctx); err != nil {
			return nil, err
		}
	}
	var c driver.Conn
	err := s.pass(s.faultFor(Connect, ""), ctx, nil, func() (err error) {
		c, err = s.connector.Connect(ctx)
		return err
	})
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	s.most = max(s.most, s.opened-s.closed)
	return &conn{inner: c, spy: s, id: s.opened}, nil
}

// Driver implements driver.Connector.
func (s *Spy) Driver() driver.Driver { return s.connector.Driver() }

// record notes the statement; what is run goes through the fault that is set
// for it.
func (s *Spy) record(c *conn, st Statement, send func() error) error {
	s.mu.Lock()
	s.statements = append(s.statements, st)
	s.mu.Unlock()
	return s.pass(s.faultFor(st.How, st.Text), st.ctx, c, send)
}

func (s *Spy) pass(fault Fault, ctx context.Context, c *conn, send func() error) error {
	if fault == nil {
		return send()
	}
	if c != nil {
		ctx = context.WithValue(ctx, connKey{}, c)
	}
	return fault(ctx, send)
}

// faultFor returns the fault that is set for what comes now, nil if there is
// none.
func (s *Spy) faultFor(how, text string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := how == Query || how == Exec || how == Run
	for _, r := range s.rules {
		if r.left == 0 || r.how != how && !(r.how == "" && runs) || !strings.Contains(text, r.text) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		r.left--
		return r.fault
	}
	return nil
}

func (s *Spy) recordClosed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

func values(args []driver.NamedValue) []any {
	var v []any
	for _, arg := range args {
		v = append(v, arg.Value)
	}
	return v
}
