package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// begin runs START TRANSACTION on s.
func (b *bubble) begin(s *Session) *sql.Tx {
	b.Helper()
	require.NoError(b, b.pool.TakeUrgent(s))
	defer b.pool.Put(s)
	tx, err := s.Begin(nil)
	require.NoError(b, err)
	return tx
}

// commit runs COMMIT on s.
func (b *bubble) commit(s *Session) error {
	b.Helper()
	require.NoError(b, b.pool.TakeUrgent(s))
	defer b.pool.Put(s)
	return s.Commit()
}

// code runs statements of the code under a lock. An error in answer to one is swallowed.
func (b *bubble) code(tx *sql.Tx, statements ...string) {
	for _, st := range statements {
		_, _ = tx.ExecContext(context.Background(), st)
	}
}

// owned is a lock whose chain has its session alone.
func (b *bubble) owned(name string) (*Session, *hold) {
	b.Helper()
	s := b.take(Request{Own: true})
	return s, b.lock(s, name)
}

// A transaction that has ended under its code never counts as committed, whatever ended
// it; what came after it stays.
func TestTx_EndedUnderItsCode(t *testing.T) {
	for _, ending := range []string{"ROLLBACK", "COMMIT", "INSERT victim"} {
		for _, after := range [][]string{nil, {"INSERT after"}} {
			if ending == "INSERT victim" && after == nil {
				continue // an error has no flags: that one is for the code to return
			}
			t.Run(fmt.Sprint(ending, after), func(t *testing.T) {
				inBubble(t, nil, func(b *bubble) {
					b.server.Script(func(st memserver.Statement) *memserver.Reply {
						if st.Text == "INSERT victim" {
							return &memserver.Reply{Number: erDeadlock}
						}
						return nil
					})
					s, h := b.owned("a")
					b.code(b.begin(s), append([]string{"INSERT before", ending}, after...)...)
					require.ErrorIs(b, b.commit(s), fault.ErrTxEnded)
					b.requireHeld(h)
					b.release(s, h)
					synctest.Wait()
					_, alive := b.server.Sessions()
					assert.Zero(b, alive, "it may have been LOCK TABLES")
				})
			})
		}
	}
}

// On MariaDB 10.5 the flags still show a transaction after a deadlock. A savepoint does
// not, and the flags are read beside it.
func TestTx_DeadlockThatTheFlagsHide(t *testing.T) {
	for ending, outcome := range map[string]error{"INSERT victim": fault.ErrTxEnded, "COMMIT": fault.ErrTxEnded, "INSERT": nil} {
		inBubble(t, nil, func(b *bubble) {
			victim := false
			b.server.Script(func(st memserver.Statement) *memserver.Reply {
				switch {
				case st.Text == "INSERT victim":
					victim = true
				case victim && st.Text == "RELEASE "+savepoint:
					return &memserver.Reply{Number: erNoSuchFunction}
				}
				return nil
			})
			s, h := b.owned("a")
			s.server.version.String = "10.5.29-MariaDB"
			b.code(b.begin(s), "INSERT before", ending, "INSERT after")
			if outcome == nil {
				require.NoError(b, b.commit(s))
			} else {
				require.ErrorIs(b, b.commit(s), outcome)
			}
			assert.Len(b, b.server.Sent("SAVEPOINT namedlock"), map[bool]int{true: 1, false: 2}[ending == "COMMIT"])
			b.requireHeld(h)
			b.release(s, h)
		})
	}
}

// The code's own rollback that the server then carries out says so, too.
func TestTx_EndedByAnotherRollback(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		b.code(b.begin(s), "ROLLBACK", "INSERT after")
		require.NoError(b, b.pool.TakeUrgent(s))
		assert.ErrorIs(b, s.Rollback(errors.New("own")), fault.ErrTxEnded)
		b.pool.Put(s)
		b.release(s, h)
	})
}

// A transaction that is open costs START TRANSACTION and COMMIT, and nothing besides.
func TestTx_OpenCostsNoStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		for range 2 {
			tx := b.begin(s)
			begun := b.server.Sent("")
			assert.Equal(b, "START TRANSACTION", begun[len(begun)-1].Text)
			b.code(tx, "INSERT row")
			require.NoError(b, b.commit(s))
			sent := b.server.Sent("")
			require.Len(b, sent, len(begun)+2)
			assert.Equal(b, "COMMIT", sent[len(begun)+1].Text)
		}
		assert.Len(b, b.server.Sent("tx_isolation"), 1, "the settings, before the first")
		b.release(s, h)
		synctest.Wait()
		_, alive := b.server.Sessions()
		assert.Equal(b, 1, alive, "the session is kept")
	})
}

// What the answer to COMMIT means. A number of a client is a proxy's, for a server that has
// gone.
func TestTx_AnswersToCommit(t *testing.T) {
	for what, c := range map[string]struct {
		reply   memserver.Reply
		unknown bool
	}{
		"2006":       {memserver.Reply{Number: 2006}, true},
		"2013":       {memserver.Reply{Number: 2013}, true},
		"shutdown":   {memserver.Reply{Number: erServerShutdown}, true},
		"no answer":  {memserver.Reply{Hang: true}, true},
		"the end":    {memserver.Reply{Drop: true}, true},
		"read-only":  {memserver.Reply{Number: 1290}, false},
		"a deadlock": {memserver.Reply{Number: erDeadlock}, false},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s, h := b.owned("a")
				b.code(b.begin(s), "INSERT row")
				b.server.Once("COMMIT", &c.reply)
				err := b.commit(s)
				require.Error(b, err)
				assert.Equal(b, c.unknown, errors.Is(err, fault.ErrCommitUnknown), err)
				assert.NotErrorIs(b, err, fault.ErrLost)
				if c.unknown {
					b.awaitLoss(h)
					return
				}
				assert.False(b, b.server.InTx(1), "it was rolled back")
				b.release(s, h)
			})
		})
	}
}

// A session that the server has closed before COMMIT is sent is a loss: nothing is committed,
// and nothing in doubt.
func TestTx_ClosedBeforeCommit(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		b.code(b.begin(s), "INSERT row")
		b.server.Kill(1)
		err := b.commit(s)
		require.ErrorIs(b, err, fault.ErrLost)
		assert.NotErrorIs(b, err, fault.ErrCommitUnknown)
		assert.Empty(b, b.server.Sent("COMMIT"))
		b.awaitLoss(h)
	})
}

// The library's own COMMIT and ROLLBACK end within the lease on a silent network, and the
// holder is told before the server gives the lock away.
func TestTx_SilenceUnderItsEnd(t *testing.T) {
	const lease = 4 * time.Second
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		t.Run(end, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Lease = lease }, func(b *bubble) {
				s, h := b.owned("a")
				b.code(b.begin(s), "INSERT row")
				// The server has heard of it a second ago. The watch looks at another moment: one that waited
				// for the connection's mutex would stop the bubble's clock.
				time.Sleep(time.Second + watchTick/2)
				synctest.Wait()
				b.server.Script(func(memserver.Statement) *memserver.Reply { return &memserver.Reply{Hang: true} })
				begun := time.Now()
				require.NoError(b, b.pool.TakeUrgent(s))
				if end == "COMMIT" {
					require.Error(b, s.Commit())
				} else {
					_ = s.Rollback(errors.New("own"))
				}
				b.pool.Put(s)
				assert.Less(b, b.awaitLoss(h).Sub(begun), lease-time.Second)
			})
		})
	}
}

// A bound that passes while the statement of database/sql's ends has ended the session.
func TestTx_ABoundThatPassesAtTheEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		err := s.bounded(time.Second, func() error { time.Sleep(2 * time.Second); return nil })
		require.ErrorIs(b, err, errSilent)
		require.Error(b, s.ctx.Err())
		s.broken = err
		b.pool.Put(s)
	})
}

// Locks that the code has taken by hand, others and the same again, are free after the
// release.
func TestCode_LocksByHand(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		for _, name := range []string{"by-hand", "a", "a"} {
			var granted int
			require.NoError(b, tx.QueryRowContext(b.Context(), "SELECT GET_LOCK('"+name+"', 0)").Scan(&granted))
			require.Equal(b, 1, granted)
		}
		require.NoError(b, b.commit(s))
		b.release(s, h)
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Equal(b, -1, b.server.Holder("by-hand"))
		_, alive := b.server.Sessions()
		assert.Equal(b, 1, alive, "the session is kept")
	})
}

// A lock that is released under another is free, however often the code has taken it by hand.
func TestCode_NestedLocksByHand(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, outer := b.owned("outer")
		tx := b.begin(s)
		inner := b.lock(b.take(Request{Home: s, Mine: 1}), "inner")
		require.NoError(b, tx.QueryRowContext(b.Context(), "SELECT GET_LOCK('inner', 0)").Scan(new(int)))
		b.release(s, inner)
		assert.Equal(b, -1, b.server.Holder("inner"))
		assert.Equal(b, 1, b.server.Holder("outer"))
		require.NoError(b, b.commit(s))
		b.release(s, outer)
	})
}

// A session whose code has changed what the library relies on is closed with the release.
func TestCode_Settings(t *testing.T) {
	for _, change := range []string{
		"SET NAMES latin1", "SET SESSION wait_timeout = 1", "SET sql_select_limit = 0", "SET autocommit = 0",
		"SET SESSION tx_isolation = 'SERIALIZABLE'", "SET SESSION idle_write_transaction_timeout = 1",
	} {
		t.Run(change, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s, h := b.owned("a")
				b.code(b.begin(s), change, "INSERT row")
				_ = b.commit(s)
				b.release(s, h)
				synctest.Wait()
				_, alive := b.server.Sessions()
				assert.Zero(b, alive)
			})
			// One that was given to New is put right.
			inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
				s, h := b.owned("a")
				b.code(b.begin(s), change, "INSERT row")
				_ = b.commit(s)
				b.release(s, h)
				var charset, limit, autocommit string
				var timeout int
				require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@character_set_client, @@sql_select_limit, @@autocommit, @@wait_timeout").
					Scan(&charset, &limit, &autocommit, &timeout))
				assert.Equal(b, []any{"utf8mb4", "18446744073709551615", "1", 60}, []any{charset, limit, autocommit, timeout})
			})
		})
	}
}

// The first Check may come under a lock that is held, on the one session there is.
func TestCheck_UnderALock(t *testing.T) {
	change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
	inBubbleOfOne(t, change, func(b *bubble, _ *sql.Conn) {
		s, h := b.held("a")
		require.Empty(b, b.server.Sent("VERSION()"), "not greeted")
		require.NoError(b, b.pool.Check(b.Context(), nil))
		assert.Positive(b, b.server.Holder("a"))
		assert.Empty(b, b.server.Sent("RELEASE_ALL_LOCKS"))
		time.Sleep(10 * time.Second)
		b.requireHeld(h)
		b.release(s, h)
	})
}

// Proofs that the driver does not send in one packet go in several, and each is one.
func TestWatch_ProofsThatFitThePacket(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.pool.Close()
		require.NoError(b, b.db.Close())
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
