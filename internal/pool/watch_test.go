package pool

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

const proof = "IS_USED_LOCK("

// A lock is proved an interval after the grant, and every interval from then
// on. The interval is that of the keep-alive, or a third of the lease, or of
// wait_timeout.
func TestWatch_ProofsAreDue(t *testing.T) {
	for _, c := range []struct{ keepAlive, lease, interval time.Duration }{
		{5 * time.Second, time.Minute, 5 * time.Second},
		{5 * time.Second, 9 * time.Second, 3 * time.Second},
		{5 * time.Second, time.Second, time.Second / 3},
		{200 * time.Millisecond, time.Minute, 200 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			change := func(conf *Config) { conf.KeepAlive, conf.Lease = c.keepAlive, c.lease }
			inBubble(t, change, func(b *bubble) {
				var proofs []time.Time
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					if strings.Contains(st.Text, proof) {
						proofs = append(proofs, time.Now())
					}
					return nil
				})
				last := time.Now() // the grant
				s, h := b.held("a")
				tick := min(watchTick, c.keepAlive/4)
				time.Sleep(5 * (c.interval + tick))
				b.requireHeld(h)
				require.Len(b, proofs, 5)
				for _, at := range proofs {
					assert.GreaterOrEqual(b, at.Sub(last), c.interval)
					assert.LessOrEqual(b, at.Sub(last), c.interval+tick)
					last = at
				}
				b.release(s, h)
				time.Sleep(5 * c.interval)
				synctest.Wait()
				assert.Len(b, proofs, 5, "nothing is asked without a lock")
				b.pool.mu.Lock()
				assert.Equal(b, noWatch, b.pool.pace, "nor is there a watch")
				b.pool.mu.Unlock()
			})
		})
	}
}

// A network falls silent at any moment: the holder learns of it within two
// intervals, and before the server has waited for as long as its idle limit.
func TestWatch_SilenceIsNoticedInTime(t *testing.T) {
	for _, lease := range []time.Duration{0, time.Second, 4 * time.Second, time.Minute} {
		for _, part := range []time.Duration{1, 250, 500, 740, 760, 990, 999} { // thousandths of the interval
			t.Run(fmt.Sprint(lease, " at ", int64(part)), func(t *testing.T) {
				inBubble(t, func(c *Config) { c.Lease = lease }, func(b *bubble) {
					s, h := b.held("a")
					interval := s.Interval()
					time.Sleep(interval + 2*watchTick) // the first proof is through
					synctest.Wait()
					require.Len(b, b.server.Sent(proof), 1)
					b.pool.mu.Lock()
					begun := s.due - interval
					b.pool.mu.Unlock()
					time.Sleep(begun + part*interval/1000 - clock.Now())
					fallen := clock.Now()
					heard := begun
					b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
					b.awaitLoss(h)
					lost := clock.Now()
					assert.Less(b, lost-fallen, 2*interval)
					assert.Less(b, lost-heard, 2*interval)
					assert.Less(b, lost-heard, s.IdleLimit())
				})
			})
		}
	}
}

// The same where another statement has the turn when the proof is due.
func TestWatch_SilenceBehindAStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		interval := s.Interval()
		time.Sleep(interval - time.Millisecond)
		require.NoError(b, b.pool.TakeUrgent(s))
		b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
		begun := time.Now()
		_, err := s.GetLock("b", 0) // an inner lock
		require.Error(b, err)
		assert.Equal(b, interval*3/4, time.Since(begun))
		b.pool.Put(s)
		at := b.awaitLoss(h)
		assert.Less(b, at.Sub(begun.Add(-interval)), 2*interval)
	})
}

// A proof that fails for any other reason than the lock's is asked for once
// more. One that answers anything but yes is a loss.
func TestWatch_WrongAnswers(t *testing.T) {
	for what, c := range map[string]struct {
		reply *memserver.Reply
		says  string
	}{
		"not ours":            {&memserver.Reply{Row: []any{0, 0}}, "no longer holds"},
		"nobody's":            {&memserver.Reply{Row: []any{nil, 0}}, "no longer holds"},
		"read-only":           {&memserver.Reply{Row: []any{1, 1}}, "read-only"},
		"writable, who knows": {&memserver.Reply{Row: []any{1, nil}}, "read-only"},
		"innodb-read-only":    {&memserver.Reply{Row: []any{1, 0, 1}}, "innodb_read_only"},
		"half an answer":      {&memserver.Reply{Row: []any{1}}, "read-only"},
		"more than was asked": {&memserver.Reply{Row: []any{1, 0, 0, 60, 0}}, "columns"},
		"text":                {&memserver.Reply{Row: []any{"yes!", 0}}, "convert"},
		"no row":              {&memserver.Reply{}, "no rows"},
		"the end":             {&memserver.Reply{Drop: true}, "invalid connection"},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				_, h := b.held("a")
				b.server.Once(proof, c.reply)
				granted := time.Now()
				at := b.awaitLoss(h)
				assert.ErrorContains(b, h.why, c.says)
				assert.LessOrEqual(b, at.Sub(granted), 5*time.Second+watchTick)
				synctest.Wait()
				assert.Equal(b, -1, b.server.Holder("a"), "the session is closed")
			})
		})
	}
	t.Run("an error once", func(t *testing.T) {
		inBubble(t, nil, func(b *bubble) {
			s, h := b.held("a")
			b.server.Once(proof, &memserver.Reply{Number: 1317})
			time.Sleep(6 * time.Second)
			b.requireHeld(h)
			assert.Len(b, b.server.Sent(proof), 2)
			b.release(s, h)
		})
	})
	t.Run("an error that stays for a while", func(t *testing.T) {
		inBubble(t, nil, func(b *bubble) {
			s, h := b.held("a")
			granted := time.Now()
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if strings.Contains(st.Text, proof) && time.Since(granted) < s.Interval()*3/2 {
					return &memserver.Reply{Number: 1317}
				}
				return nil
			})
			time.Sleep(5 * s.Interval())
			b.requireHeld(h)
			b.release(s, h)
		})
	})
	t.Run("an error that stays", func(t *testing.T) {
		inBubble(t, nil, func(b *bubble) {
			s, h := b.held("a")
			granted := time.Now()
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				if strings.Contains(st.Text, proof) {
					return &memserver.Reply{Number: 1317}
				}
				return nil
			})
			at := b.awaitLoss(h)
			assert.Less(b, at.Sub(granted), 2*s.Interval())
			assert.Greater(b, at.Sub(granted), s.Interval()*3/2)
		})
	})
}

// A lock that has gone from a living session is a loss, as is a server that has
// become a replica: a ping would see neither.
func TestWatch_LivingSessionWithoutItsLock(t *testing.T) {
	for what, lose := range map[string]func(*memserver.Server){
		"stolen":    func(s *memserver.Server) { s.Steal("a") },
		"read-only": func(s *memserver.Server) { s.SetReadOnly(true) },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				_, h := b.held("a")
				lose(b.server)
				begun := time.Now()
				at := b.awaitLoss(h)
				assert.LessOrEqual(b, at.Sub(begun), 5*time.Second+watchTick)
			})
		})
	}
}

// One statement asks about 64 locks, and about none that has been released.
func TestWatch_ManyLocksOnASession(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		var s *Session
		var holds []*hold
		for i := range 2*proofsAtOnce + 2 {
			var h *hold
			s, h = b.held(fmt.Sprint("lock", i))
			holds = append(holds, h)
		}
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if len(b.server.Sent(proof)) == 1 && st.Text[:12] == "SELECT IS_US" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		time.Sleep(5*time.Second + watchTick)
		synctest.Wait()
		require.Len(b, b.server.Sent(proof), 1)
		// While the first proof is under way all of its locks may go, and most
		// others.
		for _, h := range holds[:len(holds)-1] {
			b.release(s, h)
		}
		time.Sleep(time.Second)
		b.requireHeld(holds[len(holds)-1])
		assert.LessOrEqual(b, len(b.server.Sent(proof)), 3)
		b.release(s, holds[len(holds)-1])
	})
}

// However many locks are on a session, each is proved.
func TestWatch_EveryOneOfManyLocks(t *testing.T) {
	for _, stolen := range []int{0, proofsAtOnce - 1, proofsAtOnce, 2 * proofsAtOnce} {
		inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
			var holds []*hold
			for i := range 2*proofsAtOnce + 1 {
				_, h := b.held(fmt.Sprint("lock", i))
				holds = append(holds, h)
			}
			b.server.Steal(holds[stolen].name)
			begun := time.Now()
			for _, h := range holds {
				assert.LessOrEqual(b, (b.awaitLoss(h)).Sub(begun), 5*time.Second+watchTick)
			}
		})
	}
}

// A session that has not answered for as long as the server keeps it is lost.
// No statement confirms that, because this process may have been stopped.
func TestWatch_Overdue(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		require.NoError(b, b.pool.TakeUrgent(s)) // and never lets go
		granted := time.Now()
		at := b.awaitLoss(h)
		assert.Equal(b, errOverdue, h.why)
		assert.InDelta(b, time.Minute, at.Sub(granted), float64(watchTick))
	})
}

// The lease does not run while the session is busy with a statement of the code
// under its lock, or of its owner. The server has that statement, so it does
// not count the session as idle.
func TestWatch_SharedIsNotOverdue(t *testing.T) {
	overdue := func(b *bubble, s *Session) {
		b.pool.mu.Lock()
		s.checking = true // the proof waits for the statement
		b.pool.mu.Unlock()
		time.Sleep(s.IdleLimit() + restTick)
		synctest.Wait()
	}
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s, h := b.held("a")
		overdue(b, s)
		b.requireHeld(h)
		b.release(s, h)
	})
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		overdue(b, s)
		b.requireHeld(h)
		_, err := tx.ExecContext(b.Context(), "INSERT row")
		require.NoError(b, err)
		b.onTurn(s, func() { require.NoError(b, s.Commit()) })
		overdue(b, s)
		assert.Len(b, h.lost, 1, "the transaction is over")
	})
}

// A session that the server has closed is noticed by the look at the socket,
// within a probe; without one, by the next proof.
func TestWatch_Probe(t *testing.T) {
	for what, c := range map[string]struct {
		probe  time.Duration
		within time.Duration
	}{
		"usual": {25 * time.Millisecond, 25 * time.Millisecond},
		"fast":  {time.Millisecond, time.Millisecond},
		"slow":  {time.Second, time.Second},
		"off":   {0, 5*time.Second + watchTick},
	} {
		change := func(conf *Config) { conf.Probe = c.probe }
		check := func(b *bubble, h *hold) {
			time.Sleep(2*time.Second + 300*time.Microsecond)
			b.requireHeld(h)
			begun := time.Now()
			b.server.Kill(1)
			took := (b.awaitLoss(h)).Sub(begun)
			assert.LessOrEqual(b, took, c.within)
			if c.probe == 0 {
				assert.Greater(b, took, 2*time.Second, "nobody was to look")
			} else {
				assert.Equal(b, server.ErrClosed, h.why)
			}
		}
		t.Run(what+"/Open", func(t *testing.T) {
			inBubble(t, change, func(b *bubble) {
				_, h := b.held("a")
				check(b, h)
			})
		})
		t.Run(what+"/New", func(t *testing.T) {
			inBubbleOfOne(t, change, func(b *bubble, _ *sql.Conn) {
				_, h := b.held("a")
				check(b, h)
			})
		})
	}
}

// A lock that was granted after a long wait is proved at once: the process may
// have been stopped after the grant.
func TestWatch_LateGrantIsProvedAtOnce(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.server.Lock("a")
		s := b.take(Request{})
		time.AfterFunc(20*time.Second, func() { b.server.Unlock("a") })
		granted, err := s.GetLock("a", 30*time.Second)
		require.NoError(b, err)
		require.True(b, granted)
		h := &hold{name: "a", lost: make(chan time.Time, 1)}
		require.True(b, b.pool.Hold(s, h))
		b.pool.Put(s)
		time.Sleep(watchTick)
		synctest.Wait()
		assert.Len(b, b.server.Sent(proof), 1)
		b.requireHeld(h)
		b.release(s, h)
	})
}

// A lock is handed to the next holder only on a session that lives and has no
// other.
func TestPool_Replace(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		successor := &hold{name: "a", lost: make(chan time.Time, 1)}
		require.NoError(b, b.pool.TakeUrgent(s))
		require.True(b, b.pool.Replace(s, h, successor))
		b.server.Kill(1)
		b.awaitLoss(successor)
		assert.Empty(b, h.lost, "it is no holder any more")

		s, h = b.held("a")
		inner := b.lock(b.take(Request{Home: s}), "b")
		require.NoError(b, b.pool.TakeUrgent(s))
		assert.False(b, b.pool.Replace(s, h, successor), "there is another lock on it")
		b.pool.Put(s)
		b.release(s, inner)
		b.release(s, h)
	})
}

// A watch that rests is woken for a session that it must probe. The kernel
// reported its end before it had a lock, or does not report it.
func TestWatch_IsWokenToLook(t *testing.T) {
	for what, line := range map[string]int32{"told before the grant": 2, "not told": 0} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				a, first := b.held("a")
				a.PretendHangupID(1) // as if the kernel told of it
				time.Sleep(1030 * time.Millisecond)
				b.pool.mu.Lock()
				require.Equal(b, resting, b.pool.pace)
				b.pool.mu.Unlock()

				s := b.take(Request{})
				s.PretendHangupID(line)
				_, err := s.GetLock("b", 0)
				require.NoError(b, err)
				all, _ := b.server.Sessions()
				kill := func() time.Time {
					b.server.Kill(all)
					if line != 0 {
						b.pool.holding([]int32{line}, watchTick)
					}
					return time.Now()
				}
				h := &hold{name: "b", lost: make(chan time.Time, 1)}
				var killed time.Time
				if line != 0 {
					killed = kill()
				}
				require.True(b, b.pool.Hold(s, h))
				b.pool.Put(s)
				if line == 0 {
					killed = kill()
				}
				assert.LessOrEqual(b, (b.awaitLoss(h)).Sub(killed), 2*watchTick)
				s.PretendHangupID(0)
				a.PretendHangupID(0)
				b.release(a, first)
			})
		})
	}
}

// The watch does not harm rows of the owner's on a connection that was given to
// New, even where the driver puts arguments into text.
func TestWatch_LeavesTheOwnersRowsAlone(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s, h := b.held("a")
		rows, err := conn.QueryContext(context.Background(), "SELECT VERSION()")
		require.NoError(b, err)
		time.Sleep(100 * time.Millisecond)
		n := 0
		for rows.Next() {
			n++
		}
		require.NoError(b, rows.Err())
		require.NoError(b, rows.Close())
		assert.Equal(b, 1, n)
		b.requireHeld(h)
		b.release(s, h)
	})
}

// The machine was suspended for longer than the lease, and the clock of package
// time stood still. The holder is told at the first tick, without a statement.
func TestWatch_SuspendedMachine(t *testing.T) {
	for what, c := range map[string]struct {
		slept time.Duration
		lost  bool
	}{"for longer than the lease": {2 * time.Minute, true}, "for a moment": {time.Second, false}} {
		t.Run(what, func(t *testing.T) {
			var slept atomic.Int64
			defer clock.Suspend(func() time.Duration { return time.Duration(slept.Load()) })()
			inBubble(t, func(c *Config) { c.Lease = time.Minute }, func(b *bubble) {
				s, h := b.held("a")
				b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
				time.Sleep(time.Second)
				slept.Store(int64(c.slept))
				woken := time.Now()
				if c.lost {
					at := b.awaitLoss(h)
					assert.LessOrEqual(b, at.Sub(woken), restTick+watchTick)
					assert.ErrorIs(b, h.why, errOverdue)
					assert.Empty(b, b.server.Sent(proof))
					return
				}
				time.Sleep(time.Second)
				b.requireHeld(h)
				b.server.Script(nil)
				b.release(s, h)
			})
		})
	}
}

// Proofs that the driver does not send in one packet go in several, and each is
// one.
func TestWatch_ProofsThatFitThePacket(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.pool.Close()
		require.NoError(b, b.server.Close(b.db))
		b.db = b.server.Open(func(c *mysql.Config) { c.MaxAllowedPacket = 4096 })
		c := config()
		c.MaxSessions = 1
		b.pool = NewPool(b.db, c)
		var holds []*hold
		for i := range proofsAtOnce + 6 {
			_, h := b.held(fmt.Sprintf("%060d", i))
			holds = append(holds, h)
		}
		time.Sleep(c.KeepAlive + watchTick)
		for _, h := range holds {
			b.requireHeld(h)
		}
		proofs := 0
		for _, st := range b.server.Sent(proof) {
			proofs += strings.Count(st.Text, proof)
		}
		assert.Equal(b, len(holds), proofs)
		b.server.Steal(holds[len(holds)-1].name)
		b.awaitLoss(holds[0])
	})
}
