package server

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A transaction that has ended under its code never counts as committed,
// whatever ended it. Statements after its end stay in effect.
func TestTx_EndedUnderItsCode(t *testing.T) {
	for _, ending := range []string{"ROLLBACK", "COMMIT", "INSERT victim"} {
		for _, after := range [][]string{nil, {"INSERT after"}} {
			if ending == "INSERT victim" && after == nil {
				continue // an error packet has no flags: the code must return that error
			}
			t.Run(fmt.Sprint(ending, after), func(t *testing.T) {
				inBubble(t, nil, func(b *bubble) {
					b.server.Script(func(st memserver.Statement) *memserver.Reply {
						if st.Text == "INSERT victim" {
							return &memserver.Reply{Number: erDeadlock}
						}
						return nil
					})
					c := b.held("a")
					b.code(b.begin(c), append([]string{"INSERT before", ending}, after...)...)
					require.ErrorIs(b, c.Commit(), fault.ErrTxEnded)
					b.release(c, "a")
					assert.Zero(b, b.alive(), "it may have been LOCK TABLES")
				})
			})
		}
	}
}

// After XA START the flags show a transaction again. It cannot be ended by
// COMMIT or ROLLBACK, which shows that it is another.
func TestTx_EndedByXA(t *testing.T) {
	for _, end := range []func(*Conn) error{(*Conn).Commit, func(c *Conn) error { return c.Rollback(errOwn) }} {
		inBubble(t, nil, func(b *bubble) {
			c := b.held("a")
			b.code(b.begin(c), "INSERT before")
			inXA := &memserver.Reply{Number: erXA}
			b.server.ScriptTexts(map[string]*memserver.Reply{"COMMIT": inXA, "ROLLBACK": inXA})
			require.ErrorIs(b, end(c), fault.ErrTxEnded)
			b.server.Script(nil)
			b.requireLost(c)
		})
	}
}

// On MariaDB 10.5 the flags still show a transaction after a deadlock. A
// savepoint does not, so both are checked.
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
			c := b.held("a")
			c.greeting.version.String = "10.5.29-MariaDB"
			b.code(b.begin(c), "INSERT before", ending, "INSERT after")
			if outcome == nil {
				require.NoError(b, c.Commit())
			} else {
				require.ErrorIs(b, c.Commit(), outcome)
			}
			assert.Len(b, b.server.Sent("SAVEPOINT namedlock"), map[bool]int{true: 1, false: 2}[ending == "COMMIT"])
			b.release(c, "a")
		})
	}
}

// A transaction that the code has rolled back by text is ErrTxEnded, also if
// the library's ROLLBACK follows: statements in between were committed.
func TestTx_EndedByAnotherRollback(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		b.code(b.begin(c), "ROLLBACK", "INSERT after")
		assert.ErrorIs(b, c.Rollback(errOwn), fault.ErrTxEnded)
		b.release(c, "a")
	})
}

// A transaction that stays open until its end costs START TRANSACTION and
// COMMIT, and no other statement.
func TestTx_OpenCostsNoStatement(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		for range 2 {
			tx := b.begin(c)
			begun := b.server.Sent("")
			assert.Equal(b, "START TRANSACTION", begun[len(begun)-1].Text)
			b.code(tx, "INSERT row")
			require.NoError(b, c.Commit())
			sent := b.server.Sent("")
			require.Len(b, sent, len(begun)+2)
			assert.Equal(b, "COMMIT", sent[len(begun)+1].Text)
		}
		assert.Len(b, b.server.Sent("tx_isolation"), 1, "the settings, before the first")
		b.release(c, "a")
		assert.Equal(b, 1, b.alive(), "the session is kept")
	})
}

// The meaning of the answers to COMMIT. A proxy answers with a client's number
// (2000 to 2999) when its server is gone.
func TestTx_AnswersToCommit(t *testing.T) {
	for what, answer := range map[string]struct {
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
				c := b.held("a")
				b.code(b.begin(c), "INSERT row")
				b.server.Once("COMMIT", &answer.reply)
				err := c.Commit()
				require.Error(b, err)
				assert.Equal(b, answer.unknown, errors.Is(err, fault.ErrCommitUnknown), err)
				assert.NotErrorIs(b, err, fault.ErrLost)
				if answer.unknown {
					b.requireLost(c)
					return
				}
				assert.False(b, b.server.InTx(1), "it was rolled back")
				b.release(c, "a")
			})
		})
	}
}

// A session that the server closed before COMMIT was sent is a loss: nothing is
// committed, and the outcome is known.
func TestTx_ClosedBeforeCommit(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		b.code(b.begin(c), "INSERT row")
		b.server.Kill(1)
		err := c.Commit()
		require.ErrorIs(b, err, fault.ErrLost)
		assert.NotErrorIs(b, err, fault.ErrCommitUnknown)
		assert.Empty(b, b.server.Sent("COMMIT"))
		b.requireLost(c)
	})
}

// The library's own COMMIT and ROLLBACK end within the lease on a silent
// network, so that the holder is told before the server gives the lock away.
func TestTx_SilenceUnderItsEnd(t *testing.T) {
	const lease = 4 * time.Second
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		t.Run(end, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Lease = lease }, func(b *bubble) {
				c := b.held("a")
				b.code(b.begin(c), "INSERT row")
				time.Sleep(time.Second) // since the last statement
				b.server.Script(func(memserver.Statement) *memserver.Reply { return hang })
				begun := time.Now()
				if end == "COMMIT" {
					require.Error(b, c.Commit())
				} else {
					_ = c.Rollback(errOwn)
				}
				assert.Less(b, time.Since(begun), lease-time.Second)
				b.requireLost(c)
			})
		})
	}
}

// If the bound passes while a statement of database/sql's ends, the session is
// broken.
func TestTx_ABoundThatPassesAtTheEnd(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		err := c.bounded(time.Second, func() error { time.Sleep(2 * time.Second); return nil })
		require.ErrorIs(b, err, ErrSilent)
		require.Error(b, c.ctx.Err())
		c.broken = err
		b.put(c)
	})
}

// Locks that the code took by hand are free after the release: other names, and
// the lock's own.
func TestCode_LocksByHand(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		for _, name := range []string{"by-hand", "a", "a"} {
			var granted int
			require.NoError(b, tx.QueryRowContext(b.Context(), "SELECT GET_LOCK('"+name+"', 0)").Scan(&granted))
			require.Equal(b, 1, granted)
		}
		require.NoError(b, c.Commit())
		b.release(c, "a")
		assert.Equal(b, -1, b.server.Holder("a"))
		assert.Equal(b, -1, b.server.Holder("by-hand"))
		assert.Equal(b, 1, b.alive(), "the session is kept")
	})
}

// A lock that is released while an outer lock is held is free afterwards,
// however often the code took it by hand.
func TestCode_NestedLocksByHand(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("outer")
		tx := b.begin(c)
		b.lock(c, "inner")
		require.NoError(b, tx.QueryRowContext(b.Context(), "SELECT GET_LOCK('inner', 0)").Scan(new(int)))
		require.NoError(b, c.ReleaseLock("inner"))
		assert.Equal(b, -1, b.server.Holder("inner"))
		assert.Equal(b, 1, b.server.Holder("outer"))
		require.NoError(b, c.Commit())
		b.release(c, "outer")
	})
}

// A session whose settings the code changed is closed with the release.
func TestCode_Settings(t *testing.T) {
	for _, change := range []string{
		"SET NAMES latin1", "SET SESSION wait_timeout = 1", "SET sql_select_limit = 0", "SET autocommit = 0",
		"SET SESSION tx_isolation = 'SERIALIZABLE'", "SET SESSION idle_write_transaction_timeout = 1",
	} {
		t.Run(change, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("a")
				b.code(b.begin(c), change, "INSERT row")
				_ = c.Commit()
				b.release(c, "a")
				assert.Zero(b, b.alive())
			})
			// The settings of one that was given to New are set back.
			inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
				c := b.held("a")
				b.code(b.begin(c), change, "INSERT row")
				_ = c.Commit()
				b.release(c, "a")
				var charset, limit, autocommit string
				var timeout int
				require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@character_set_client, @@sql_select_limit, @@autocommit, @@wait_timeout").
					Scan(&charset, &limit, &autocommit, &timeout))
				assert.Equal(b, []any{"utf8mb4", "18446744073709551615", "1", 60}, []any{charset, limit, autocommit, timeout})
			})
		})
	}
}

// MariaDB sends numbers in character_set_results. If the code has set that to
// UTF-16, for example, a statement as text still has a readable answer: a
// proof, a nested lock, and the release.
func TestCode_NumbersInUTF16(t *testing.T) {
	for _, before := range []int{0, 2} { // from its second use on the release is prepared
		inBubble(t, nil, func(b *bubble) {
			c := b.use()
			for range before {
				b.lock(c, "a")
				b.code(b.begin(c), "INSERT row")
				require.NoError(b, c.Commit())
				require.NoError(b, c.ReleaseLock("a"))
			}
			b.lock(c, "a")
			b.code(b.begin(c), "SET character_set_results = ucs2", "INSERT row")
			require.NoError(b, c.Prove([]string{"a"}))
			b.lock(c, "inner")
			require.NoError(b, c.ReleaseLock("inner"))
			require.NoError(b, c.Commit())
			require.NoError(b, c.ReleaseLock("a"))
			assert.True(b, c.Broken(), "the session is closed")
			b.put(c)
		})
	}
}

// Settings that could not be read before the first transaction are not read
// before the second one: the code may have changed them.
func TestCode_SettingsAreNotReadAfterCode(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		b.server.Once("@@collation_connection", refused)
		b.code(b.begin(c), "SET NAMES latin1")
		require.NoError(b, c.Commit())
		b.begin(c)
		require.NoError(b, c.Commit())
		b.release(c, "a")
		assert.Zero(b, b.alive(), "the session is closed")
	})
}

// A server that was interrupted while it read the settings has them: no
// transaction begins, and the settings are read before the next one.
func TestCode_SettingsAreInterrupted(t *testing.T) {
	for _, number := range []uint16{erQueryInterrupted, erQueryTimeout, erStatementTimeout} {
		inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
			c := b.held("a")
			b.server.Once("@@collation_connection", &memserver.Reply{Number: number})
			_, err := c.Begin(nil)
			require.ErrorIs(b, err, fault.ErrUnavailable)
			assert.Empty(b, b.server.Sent("START TRANSACTION"))
			b.code(b.begin(c), "SET NAMES latin1")
			require.NoError(b, c.Commit())
			b.release(c, "a")
			var charset string
			require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@character_set_client").Scan(&charset))
			assert.Equal(b, "utf8mb4", charset)
		})
	}
}

// The first Check can come while a lock is held on the only session. It must
// not send RELEASE_ALL_LOCKS.
func TestCheck_UnderALock(t *testing.T) {
	change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
	inBubbleOfOne(t, change, func(b *bubble, _ *sql.Conn) {
		c := b.held("a")
		require.Empty(b, b.server.Sent("VERSION()"), "not greeted")
		require.NoError(b, c.Check())
		assert.Positive(b, b.server.Holder("a"))
		assert.Empty(b, b.server.Sent("RELEASE_ALL_LOCKS"))
		b.release(c, "a")
	})
}
