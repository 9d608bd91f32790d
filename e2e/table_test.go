package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every fault at every statement of a lock's life has the outcome of the table.
// Two tests share the cells of the table, and read the same rows:
//
//	                                              real servers                 in memory
//	a KILL                                        WithLock and Acquire         –
//	the server carries the statement out, and     WithLock                     Acquire
//	  the client does not get the answer
//	the server gets nothing                       WithLock, with Open, one     WithLock and Acquire
//	                                                fault of a kind per row
//
// Real servers show what they do with a lock that was granted without the
// client's knowledge, and when they free it. They also show that the server in
// memory is correct, since both must reach the outcome of the row. For faults
// that never reach a server, one of each kind is enough for that. The server in
// memory takes no real time.
//
// The statements of a WithSlot are those of a lock under another lock.
// Therefore real servers get one fault of each kind there, unless it is a KILL.
// All other faults run on the server in memory. So do the faults at a wait for
// a slot, which takes only 40 ms.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, r := range faultTable {
			seen := map[string]bool{}
			r.each(at.Kind(), at.way, func(f fault, want *outcome) {
				once := !f.reachesServer() || r.step.slots && !f.kills
				if once && (r.step.brief || seen[f.kind()] || at.way == byNew && r.open != notHere) {
					return
				}
				seen[f.kind()] = true
				t.Run(r.step.is+": "+f.is, func(t *testing.T) {
					t.Parallel()
					if want.slow && testing.Short() {
						t.Skip("takes 5 s")
					}
					for what, use := range uses {
						if r.step.usedBy(what) && (what != "Acquire" || f.kills) {
							t.Run(what, func(t *testing.T) { requireOutcome(t, onServer(at), r.step, f, want, use) })
						}
					}
				})
			})
		}
	})
}

// The same on a server in memory. The real driver connects to it, with the real
// protocol. Each case is in a bubble of testing/synctest.
func TestFaultTable_InMemory(t *testing.T) {
	t.Parallel()
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		for _, way := range []string{byOpen, byNew} {
			t.Run(string(kind)+"/"+way, func(t *testing.T) {
				t.Parallel()
				for _, r := range faultTable {
					r.each(kind, way, func(f fault, want *outcome) {
						if f.kills {
							return
						}
						for what, use := range uses {
							if !r.step.usedBy(what) || f.sends && what == "WithLock" {
								continue // TestFaultTable has those faults
							}
							t.Run(r.step.is+": "+f.is+"/"+what, func(t *testing.T) {
								synctest.Test(t, func(t *testing.T) {
									requireOutcome(t, inMemory(t, kind, way), r.step, f, want, use)
								})
							})
						}
					})
				}
			})
		}
	}
}

// each calls do for each fault of the row that can happen on this kind of
// server with a Locker that was made in this way.
func (r row) each(kind servers.Kind, way string, do func(f fault, want *outcome)) {
	want := r.open
	if way == byNew {
		want = r.new
	}
	if want == notHere || r.step.only != "" && r.step.only != kind {
		return
	}
	for _, f := range r.faults {
		do(f, want)
	}
}

// A ground is a server for fault cases, real or in memory, and the way to make
// a Locker on it.
type ground struct {
	setup  // a server in memory has only the admin
	kind   servers.Kind
	config func(t *testing.T) *mysql.Config
	alive  func(f *foreign, session int64) (bool, error)
}

// onServer returns the ground of a real server.
func onServer(at setup) ground {
	return ground{
		setup: at,
		kind:  at.Kind(),
		config: func(t *testing.T) *mysql.Config {
			cfg, err := mysql.ParseDSN(at.DSN())
			require.NoError(t, err)
			cfg.Logger = &mysql.NopLogger{}
			return cfg
		},
		alive: func(f *foreign, session int64) (bool, error) {
			n, err := f.ask("SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = ?", session)
			return n > 0, err
		},
	}
}

// inMemory returns the ground of a server in memory, which lives until the
// current bubble ends.
func inMemory(t *testing.T, kind servers.Kind, way string) ground {
	mem := memserver.New()
	mem.SetPrepares()
	if kind == servers.MySQL {
		mem.SetMySQL()
	}
	admin := mem.Open()
	// A session ends when it is closed, together with its locks.
	admin.SetMaxIdleConns(-1)
	t.Cleanup(func() { admin.Close() })
	return ground{
		setup:  setup{&server{admin: admin}, way},
		kind:   kind,
		config: func(*testing.T) *mysql.Config { return mem.Config() },
		alive:  func(_ *foreign, session int64) (bool, error) { return mem.Alive(int(session)), nil },
	}
}

// A faultCase is one fault at one step.
type faultCase struct {
	t      *testing.T
	on     ground
	step   *step
	fault  fault
	want   *outcome
	l      *locker
	name   string
	holder *foreign // holds the lock until the fault; nil: the step is not a wait
	killer *foreign
	unlock func() // by the holder
	hit    chan struct{}
}

// A sight is the observed result of a call.
type sight struct {
	err       error
	ran       bool
	ended     error // the cause with which the context under the lock ended
	discarded int
}

// deadlineOfSilence ends calls that otherwise end late.
const deadlineOfSilence = 500 * time.Millisecond

// pollEvery is the interval of polls for an event.
const pollEvery = 2 * time.Millisecond

func requireOutcome(t *testing.T, on ground, st *step, f fault, want *outcome, use use) {
	for range 3 {
		c := &faultCase{t: t, on: on, step: st, fault: f, want: want, name: newName("fault"), hit: make(chan struct{})}
		if c.run(use) {
			return
		}
		// The machine is so slow that sessions are returned, or deadlines pass,
		// between two statements.
	}
	require.FailNow(t, "the statement did not come")
}

// run makes the call, and checks all its effects. It returns false if the fault
// did not happen.
func (c *faultCase) run(use use) bool {
	t := c.t
	c.l, c.killer = c.on.lockerFor(t, c.step), c.on.foreign(t)
	c.l.db.SetMaxIdleConns(10)
	if c.step.ready != nil {
		c.step.ready(c)
	}
	c.unlock = func() {}
	if c.step.contended {
		c.holder = c.on.foreign(t)
		for _, name := range c.wanted() {
			c.holder.lock(name)
		}
		c.unlock = sync.OnceFunc(func() {
			for _, name := range c.wanted() {
				c.holder.unlock(name)
			}
		})
	}
	c.arm()

	saw := c.call(use)
	if !c.wasHit() && !c.atClose() {
		return false
	}
	c.unlock()
	// A server may need a moment to end a session, so the names become free soon.
	free := c.wanted()
	if c.step.slots {
		free = append(free, names.Gate(c.name))
	}
	for _, name := range free {
		c.killer.lockSoon(name)
		c.killer.unlock(name)
	}
	if !c.atClose() {
		c.l.spy.Forgive()
		c.requireGoesOn()
	}
	require.True(t, endsWithin(inBackground(c.l.Close), patience), "Close returns")
	if !c.wasHit() {
		return false
	}
	if c.l.conn != nil {
		_ = c.l.conn.Close()
	}
	require.Zero(t, c.l.db.Stats().InUse, "connections in use")
	saw.discarded = c.l.spy.Closed()
	require.NoError(t, c.l.db.Close())
	assert.Equal(t, c.l.spy.Opened(), c.l.spy.Closed(), "connections opened and closed")
	c.judge(saw)
	return true
}

// wanted returns the locks of which the call needs one.
func (c *faultCase) wanted() (wanted []string) {
	if !c.step.slots {
		return []string{c.name}
	}
	for i := range slotsOfCase {
		wanted = append(wanted, names.Slot(c.name, i))
	}
	return wanted
}

// atClose reports whether the statement is only sent when the session is
// returned.
func (c *faultCase) atClose() bool { return c.step == leaseBack || c.step == statementClose }

// arm sets the fault. The foreign session releases the lock when the fault has
// happened.
func (c *faultCase) arm() {
	f := c.fault.make(c)
	if c.step.once && c.fault.sends {
		f = c.untilEnded(f)
	}
	come := sync.OnceFunc(func() { close(c.hit) })
	armed := func(ctx context.Context, send func() error) error {
		come()
		if c.fault.sends {
			c.unlock()
		}
		defer c.unlock()
		return f(ctx, send)
	}
	text, ok := c.step.text[c.on.kind]
	if !ok {
		text = c.step.text[""]
	}
	times := max(c.fault.times, 1)
	if c.fault.every {
		times = -1
	}
	c.l.spy.OnSome(c.step.how, max(c.step.nth, 1), times, text, armed)
}

func (c *faultCase) wasHit() bool {
	select {
	case <-c.hit:
		return true
	default:
		return false
	}
}

func (c *faultCase) call(use use) (saw sight) {
	ctx := c.t.Context()
	if c.fault.quiet && !c.step.during && !c.step.finally {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deadlineOfSilence)
		defer cancel()
	}
	var mu sync.Mutex
	called := inBackground(func() error {
		timeout := patience
		if c.step.once {
			timeout = 0
		}
		return use(ctx, c.l, c.name, timeout, func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			saw.ran = true
			c.under(ctx)
			saw.ended = context.Cause(ctx)
			return nil
		})
	})
	err := receive(c.t, called, "the call returns")
	mu.Lock()
	defer mu.Unlock()
	saw.err = err
	return saw
}

// under is the code under the lock. It returns when the expected effect has
// happened.
func (c *faultCase) under(ctx context.Context) {
	end := time.After(patience)
	switch {
	case c.want.ends:
		select {
		case <-ctx.Done():
		case <-end:
		}
	case c.step.during:
		select {
		case <-c.hit:
		case <-ctx.Done():
		case <-end:
		}
		seen := c.l.spy.Count(locksql.IsUsedLock)
		assert.Eventually(c.t, func() bool {
			return ctx.Err() != nil || c.l.spy.Count(locksql.IsUsedLock) >= seen+2
		}, patience, pollEvery, "two more proofs")
	}
}

// requireGoesOn checks that a Locker from Open still works, and one from New if
// its connection is alive.
func (c *faultCase) requireGoesOn() {
	c.t.Helper()
	if c.on.way == byNew && c.want.discarded > 0 {
		requireError(c.t, c.l.WithLock(c.t.Context(), c.name, 0, unexpected(c.t)), namedlock.ErrUnavailable, c.name)
		return
	}
	requireUsable(c.t, c.l)
}

func (c *faultCase) judge(saw sight) {
	t := c.t
	assert.Equal(t, c.want.runs, saw.ran, "the code under the lock has run: %v", saw.err)
	if c.want.returns == nil {
		assert.NoError(t, saw.err)
	} else {
		requireError(t, saw.err, c.want.returns, c.name)
		var e *namedlock.Error
		require.ErrorAs(t, saw.err, &e)
		if c.want.runs {
			assert.Equal(t, "release", e.Op)
		} else {
			assert.Equal(t, "acquire", e.Op)
		}
	}
	if c.want.ends {
		assert.ErrorIs(t, saw.ended, namedlock.ErrLost, "the context under the lock")
	} else {
		assert.NoError(t, saw.ended, "the context under the lock")
	}
	assert.Equal(t, c.want.discarded, saw.discarded, "connections discarded: %v", saw.err)
	if t.Failed() {
		var sent []string
		for _, st := range c.l.spy.Statements() {
			sent = append(sent, st.How+" "+st.Text)
		}
		t.Logf("sent:\n\t%s", strings.Join(sent, "\n\t"))
	}
}
