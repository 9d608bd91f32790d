package e2e

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every fault at every statement of a lock's life has the outcome that the table says.
func TestFaultTable(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, r := range faultTable {
			want := r.open
			if at.way == byNew {
				want = r.new
			}
			if want == notHere || r.step.only != "" && r.step.only != at.Kind() {
				continue
			}
			for _, f := range r.faults {
				t.Run(r.step.is+": "+f.is, func(t *testing.T) {
					t.Parallel()
					if want.slow && testing.Short() {
						t.Skip("takes 5 s")
					}
					for what, use := range uses {
						if what == "WithLock" || !want.slow {
							t.Run(what, func(t *testing.T) { requireOutcome(t, at, r.step, f, want, use) })
						}
					}
				})
			}
		}
	})
}

// A faultCase is one fault at one step.
type faultCase struct {
	t      *testing.T
	at     setup
	step   *step
	fault  fault
	want   *outcome
	l      *locker
	name   string
	holder *foreign // has the lock until the fault, if the step is one of a wait
	killer *foreign
	unlock func() // by the holder
	hit    chan struct{}
}

// A sight is what a call has seen.
type sight struct {
	err       error
	ran       bool
	ended     error // the cause with which the context under the lock ended
	discarded int
}

// deadlineOfSilence ends the calls that nothing else would end soon.
const deadlineOfSilence = 500 * time.Millisecond

// pollEvery is how often tests look for what is to happen.
const pollEvery = 2 * time.Millisecond

func requireOutcome(t *testing.T, at setup, st *step, f fault, want *outcome, use use) {
	for range 3 {
		c := &faultCase{t: t, at: at, step: st, fault: f, want: want, name: newName("fault"), hit: make(chan struct{})}
		if c.run(use) {
			return
		}
		// On a machine so slow that sessions go back, or deadlines pass, between two lines.
	}
	require.FailNow(t, "the statement did not come")
}

// run makes the call, and checks everything. It returns false if the fault had no occasion.
func (c *faultCase) run(use use) bool {
	t := c.t
	c.l, c.holder, c.killer = c.at.lockerFor(t, c.step), c.at.foreign(t), c.at.foreign(t)
	c.l.db.SetMaxIdleConns(10)
	if c.step.ready != nil {
		c.step.ready(c)
	}
	c.unlock = func() {}
	if c.step.contended {
		c.holder.lock(c.name)
		c.unlock = sync.OnceFunc(func() { c.holder.unlock(c.name) })
	}
	c.arm()

	saw := c.call(use)
	if !c.wasHit() && !c.atClose() {
		return false
	}
	c.unlock()
	c.killer.lockSoon(c.name) // free, or soon: a server may take a moment to end a session
	c.killer.unlock(c.name)
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

// atClose reports whether the statement comes only when the session goes back.
func (c *faultCase) atClose() bool { return c.step == leaseBack || c.step == statementClose }

// arm sets the fault. The foreign session lets go of the lock when the fault has come.
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
	text, ok := c.step.text[c.at.Kind()]
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

// under is the code under the lock: it stays until it can see what it is to see.
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
		seen := c.l.spy.Count("IS_USED_LOCK(")
		assert.Eventually(c.t, func() bool {
			return ctx.Err() != nil || c.l.spy.Count("IS_USED_LOCK(") >= seen+2
		}, patience, pollEvery, "two more proofs")
	}
}

// requireGoesOn: whatever has happened, a Locker from Open goes on, and one from New as long as its
// connection lives.
func (c *faultCase) requireGoesOn() {
	c.t.Helper()
	if c.at.way == byNew && c.want.discarded > 0 {
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
