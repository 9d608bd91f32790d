package server

import (
	"context"
	"database/sql"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// If the code has called tx.Commit or tx.Rollback, the result is sql.ErrTxDone.
// If the server refused that statement, or the ones that follow, the next
// transaction commits nothing of it.
func TestTx_EndedByItsCode(t *testing.T) {
	for what, tc := range map[string]struct {
		replies map[string]*memserver.Reply
		broken  bool
	}{
		"clean":                 {},
		"COMMIT refused":        {map[string]*memserver.Reply{"COMMIT": refused}, false},
		"and ROLLBACK":          {map[string]*memserver.Reply{"COMMIT": refused, "ROLLBACK": refused}, true},
		"UNLOCK TABLES refused": {map[string]*memserver.Reply{"UNLOCK": refused}, true},
	} {
		for _, fails := range []bool{false, true} {
			t.Run(what, func(t *testing.T) {
				inBubble(t, nil, func(b *bubble) {
					c := b.held("a")
					tx := b.begin(c)
					b.code(tx, "INSERT row")
					b.server.ScriptTexts(tc.replies)
					_ = tx.Commit()
					if fails {
						assert.Equal(b, sql.ErrTxDone, c.Rollback(errOwn))
					} else {
						assert.Equal(b, sql.ErrTxDone, c.Commit())
					}
					assert.Equal(b, tc.broken, c.Broken())
					b.server.Script(nil)
					if tc.broken {
						b.requireLost(c)
						return
					}
					assert.False(b, b.server.InTx(1))
					b.release(c, "a")
				})
			})
		}
	}
}

// A goroutine that the code left behind may still be in tx.Commit or
// tx.Rollback. The session is not used before that call returns. Open rows take
// its place here: they also use the connection.
func TestTx_EndedByAGoroutineLeftBehind(t *testing.T) {
	for took, broken := range map[time.Duration]bool{time.Second: false, time.Minute: true} {
		inBubble(t, nil, func(b *bubble) {
			c := b.held("a")
			require.NoError(b, b.begin(c).Rollback())
			rows, err := c.conn.QueryContext(context.Background(), "SELECT @@wait_timeout")
			require.NoError(b, err)
			closed := make(chan error)
			time.AfterFunc(took, func() { closed <- rows.Close() })
			began := time.Now()
			assert.Equal(b, sql.ErrTxDone, c.Commit())
			assert.Equal(b, broken, c.Broken())
			assert.LessOrEqual(b, time.Since(began), c.patience()+time.Millisecond)
			require.NoError(b, <-closed) // before Discard, which would wait for the rows
			if broken {
				b.requireLost(c)
				return
			}
			b.release(c, "a")
		})
	}
}

// A goroutine that the code left behind may call tx.Commit or tx.Rollback after
// Commit or Rollback has begun. Then the code has ended the transaction, and no
// statement has. It is not known to be rolled back.
func TestTx_EndedByItsCodeLate(t *testing.T) {
	over := &memserver.Reply{Number: erNoSuchFunction}
	for what, tc := range map[string]struct {
		strays func(*sql.Tx) error
		answer *memserver.Reply
		end    func(*Conn) error
	}{
		"before the flags are read, Commit":   {(*sql.Tx).Rollback, over, (*Conn).Commit},
		"before the flags are read, Rollback": {(*sql.Tx).Commit, over, func(c *Conn) error { return c.Rollback(errOwn) }},
		"after, Commit":                       {(*sql.Tx).Rollback, nil, (*Conn).Commit},
		"after, Rollback":                     {(*sql.Tx).Commit, nil, func(c *Conn) error { return c.Rollback(errOwn) }},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("a")
				c.greeting.version.String = "10.5.29-MariaDB" // its flags do not show every end, so a savepoint is set
				tx := b.begin(c)
				left := make(chan error, 1)
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					if st.Text != "RELEASE "+savepoint {
						return nil
					}
					go func() { left <- tc.strays(tx) }() // waits until the connection is free
					for !peek.IsDone(tx) {
						runtime.Gosched()
					}
					return tc.answer
				})
				assert.Equal(b, sql.ErrTxDone, tc.end(c))
				require.NoError(b, <-left)
				assert.Nil(b, c.tx.Load())
				b.release(c, "a")
			})
		})
	}
}

// A session may be lost after Rollback has found it alive. The result is that
// of TxEnded: the transaction is not known to be rolled back.
func TestTx_LostDuringRollback(t *testing.T) {
	t.Run("before the savepoint is released", func(t *testing.T) {
		defer peek.Hide("status")()
		inBubble(t, nil, func(b *bubble) {
			c := b.held("a")
			b.code(b.begin(c), "INSERT row", "COMMIT")
			b.server.Once("RELEASE "+savepoint, drop)
			assert.Equal(b, fault.ErrTxUnseen, c.Rollback(errOwn))
			b.requireLost(c)
		})
	})
	t.Run("after a Commit of the code", func(t *testing.T) {
		inBubble(t, nil, func(b *bubble) {
			c := b.held("a")
			tx := b.begin(c)
			require.NoError(b, tx.Commit())
			c.BreakOff()
			assert.Equal(b, sql.ErrTxDone, c.rollback(tx))
			b.requireLost(c)
		})
	})
}

// A context may end during a statement of a goroutine that the code left
// behind, after Commit or Rollback has found the session alive. Then COMMIT is
// not sent, and the lock is not lost.
func TestTx_CutOffLate(t *testing.T) {
	for what, end := range map[string]func(*Conn) error{
		"Commit":   (*Conn).Commit,
		"Rollback": func(c *Conn) error { return c.Rollback(errOwn) },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("a")
				c.greeting.version.String = "10.5.29-MariaDB" // a savepoint is set, which delays the end
				tx := b.begin(c)
				ctx, cancel := context.WithCancel(context.Background())
				left := make(chan error, 1)
				b.server.Script(func(st memserver.Statement) *memserver.Reply {
					switch st.Text {
					case "RELEASE " + savepoint:
						go func() { // waits until the connection is free
							_, err := tx.ExecContext(ctx, "INSERT stray")
							left <- err
						}()
						for !peek.RowsOpen(tx) {
							runtime.Gosched()
						}
					case "INSERT stray":
						cancel()
						return hang
					}
					return nil
				})
				err := end(c)
				require.ErrorIs(b, <-left, context.Canceled)
				assert.NotErrorIs(b, err, fault.ErrCommitUnknown)
				assert.ErrorIs(b, c.BrokenBy(), ErrCutOff)
				assert.Empty(b, b.server.Sent("COMMIT"))
				b.requireLost(c)
			})
		})
	}
}

// If the server refuses COMMIT, a ROLLBACK follows, even if a goroutine that
// the code left behind is about to use the transaction.
func TestTx_RefusedWhileInUse(t *testing.T) {
	defer peek.Hide("status")() // nothing shows whether a transaction is open
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		b.begin(c)
		show := func() {}
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Text != "COMMIT" {
				return nil
			}
			show = peek.Hide("closemu") // rows count as open
			return refused
		})
		err := c.Commit()
		show()
		require.True(b, declined(err))
		assert.Len(b, b.server.Sent("ROLLBACK"), 1)
		b.release(c, "a")
	})
}

// While rows of the code are open, no proof is sent. If the code then ends the
// transaction itself, the session does not count as idle for all that time.
func TestTx_EndedByItsCodeAfterLongRows(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		rows, err := tx.QueryContext(context.Background(), "SELECT @@wait_timeout")
		require.NoError(b, err)
		time.Sleep(2 * c.IdleLimit())
		require.NoError(b, rows.Close())
		require.NoError(b, tx.Commit())
		var idle time.Duration
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			if st.Text == "UNLOCK TABLES" {
				require.False(b, c.UsedByCode())
				idle = clock.Now() - c.AnsweredAt()
			}
			return nil
		})
		require.Equal(b, sql.ErrTxDone, c.Commit())
		assert.Less(b, idle, c.IdleLimit())
		b.release(c, "a")
	})
}

// The owner of a connection given to New may close it during a transaction.
// Then the state of the transaction cannot be read any more. The state that was
// read before may be older than a COMMIT of the code.
func TestTx_EndedBeforeItsConnIsClosed(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.held("a")
		tx := b.begin(c)
		require.Equal(b, Open, c.Probe())
		b.code(tx, "COMMIT")
		closed := make(chan error, 1)
		go func() { closed <- conn.Close() }() // waits for the end of tx
		for conn.PingContext(context.Background()) == nil {
			runtime.Gosched()
		}
		assert.Equal(b, fault.ErrTxUnseen, c.Rollback(errOwn))
		b.requireLost(c)
		require.NoError(b, <-closed)
	})
}

// A logHook runs a function at each line of the log.
type logHook struct {
	slog.Handler
	line func()
}

func (l logHook) Handle(context.Context, slog.Record) error {
	l.line()
	return nil
}

// The owner of a connection given to New may begin a transaction while Begin
// prepares the session. Then START TRANSACTION is not sent: it would commit the
// owner's.
func TestBegin_WhileTheOwnerBegins(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.held("a")
		c.greeting.leaseUnread = true // Begin logs that it is not in force
		var owners *sql.Tx
		c.server.Lease = time.Second
		c.server.Logger = slog.New(logHook{slog.Default().Handler(), func() {
			var err error
			owners, err = conn.BeginTx(context.Background(), nil)
			require.NoError(b, err)
		}})
		_, err := c.Begin(nil)
		assert.ErrorIs(b, err, fault.ErrInTransaction)
		require.NotNil(b, owners)
		assert.Len(b, b.server.Sent("START TRANSACTION"), 1)
		require.NoError(b, owners.Commit())
		b.release(c, "a")
	})
}

// COMMIT under completion_type=CHAIN begins another transaction, which must be
// ended.
func TestTx_Chain(t *testing.T) {
	for what, end := range map[string]*memserver.Reply{"ended": nothing, "not ended": refused} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("a")
				b.code(b.begin(c), "INSERT row")
				b.server.ScriptTexts(map[string]*memserver.Reply{"COMMIT": nothing, "ROLLBACK AND NO CHAIN": end})
				require.NoError(b, c.Commit(), "it is committed")
				assert.Len(b, b.server.Sent("ROLLBACK AND NO CHAIN"), 1)
				b.server.Script(nil)
				if end == refused {
					b.requireLost(c)
					return
				}
				b.release(c, "a")
			})
		})
	}
}

// The isolation level for a transaction that does not begin does not apply to
// the next transaction.
func TestTx_IsolationIsForgotten(t *testing.T) {
	opts := &sql.TxOptions{Isolation: sql.LevelSerializable}
	for what, tc := range map[string]struct {
		replies map[string]*memserver.Reply
		kept    int
	}{
		"set back":              {map[string]*memserver.Reply{"START": refused}, 1},
		"not to be set back":    {map[string]*memserver.Reply{"START": refused, "SET SESSION TRANSACTION": refused}, 0},
		"settings do not show":  {map[string]*memserver.Reply{"START": refused, "@@tx_isolation": refused}, 0},
		"settings are cut off":  {map[string]*memserver.Reply{"@@tx_isolation": drop}, 0},
		"the session is closed": {map[string]*memserver.Reply{"START": drop}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				c := b.held("a")
				b.server.ScriptTexts(tc.replies)
				_, err := c.Begin(opts)
				require.ErrorIs(b, err, fault.ErrUnavailable)
				b.server.Script(nil)
				if c.Broken() {
					b.put(c)
				} else {
					b.release(c, "a")
				}
				assert.Equal(b, tc.kept, b.alive())
			})
		})
	}
	// A connection given to New whose settings cannot be read stays open for
	// its owner, unless an isolation level is pending.
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		c := b.held("a")
		b.server.ScriptTexts(map[string]*memserver.Reply{"@@tx_isolation": refused})
		b.code(b.begin(c), "INSERT row")
		require.NoError(b, c.Commit())
		b.release(c, "a")
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT 1").Scan(new(int)))
	})
}

// A context that ends during a statement of the transaction closes the session.
// The outcome of COMMIT is known, and it is not a loss.
func TestTx_CutOff(t *testing.T) {
	for what, end := range map[string]func(b *bubble, c *Conn){
		"Commit":   func(b *bubble, c *Conn) { assert.ErrorIs(b, c.Commit(), ErrCutOff) },
		"Rollback": func(b *bubble, c *Conn) { assert.NoError(b, c.Rollback(errOwn)) },
		"a nested question": func(b *bubble, c *Conn) {
			_, err := c.GetLock("inner", 0)
			assert.ErrorIs(b, err, ErrCutOff)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Probe = 0 }, func(b *bubble) {
				c := b.held("a")
				tx := b.begin(c)
				b.server.Once("INSERT slow", &memserver.Reply{Hang: true})
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan error, 1)
				go func() { _, err := tx.ExecContext(ctx, "INSERT slow"); ended <- err }()
				synctest.Wait()
				cancel()
				require.ErrorIs(b, <-ended, context.Canceled)
				end(b, c)
				_ = c.MarkBroken(c.Probe().Cause()) // as the watch does
				assert.ErrorIs(b, c.BrokenBy(), ErrCutOff)
				b.put(c)
			})
		})
	}
}

// While rows of the transaction are open, nothing is sent: neither COMMIT, nor
// a proof, nor another question.
func TestTx_RowsOpen(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		tx := b.begin(c)
		rows, err := tx.QueryContext(context.Background(), "SELECT 1")
		require.NoError(b, err)
		sent := len(b.server.Sent(""))
		_, err = c.GetLock("inner", 0)
		assert.ErrorIs(b, err, fault.ErrUnavailable)
		assert.ErrorIs(b, c.Prove([]string{"a"}), ErrOccupied)
		assert.False(b, c.Broken())
		assert.Len(b, b.server.Sent(""), sent)
		require.NoError(b, rows.Close())
		require.NoError(b, c.Prove([]string{"a"}))
		require.NoError(b, c.Commit())
		b.release(c, "a")
	})
}

// Settings that the code changed on a connection given to New are set back. If
// that fails, the connection is closed.
func TestCode_PutBack(t *testing.T) {
	for what, tc := range map[string]struct {
		change  string
		replies map[string]*memserver.Reply
		alive   int
	}{
		"nothing":         {"INSERT row", nil, 1},
		"completion type": {"SET SESSION completion_type = 'CHAIN'", map[string]*memserver.Reply{"NO CHAIN": nothing}, 1},
		"refused":         {"SET sql_select_limit = 0", map[string]*memserver.Reply{"SESSION sql_select_limit": refused}, 0},
	} {
		t.Run(what, func(t *testing.T) {
			inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
				c := b.held("a")
				b.code(b.begin(c), tc.change)
				require.NoError(b, c.Commit())
				b.server.ScriptTexts(tc.replies)
				require.NoError(b, c.ReleaseLock("a"))
				if tc.alive == 0 {
					assert.ErrorContains(b, c.broken, "its settings could not be restored")
				}
				b.put(c)
				b.server.Script(nil)
				assert.Equal(b, tc.alive, b.alive())
				if tc.alive > 0 {
					var completion string
					require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@completion_type").Scan(&completion))
					assert.Equal(b, "NO_CHAIN", completion)
				}
			})
		})
	}
}

// A refused release after code of the user's is a loss, like any other. So is a
// nested release that never ends.
func TestCode_ReleaseFails(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.held("a")
		b.code(b.begin(c), "INSERT row")
		require.NoError(b, c.Commit())
		b.server.ScriptTexts(map[string]*memserver.Reply{"RELEASE_LOCK": refused})
		assert.ErrorIs(b, c.ReleaseLock("a"), fault.ErrLost)
		b.put(c)
		b.server.Script(nil)
	})
	inBubble(t, nil, func(b *bubble) {
		c := b.held("outer")
		b.code(b.begin(c), "INSERT row")
		b.lock(c, "inner")
		b.server.ScriptTexts(map[string]*memserver.Reply{"RELEASE_LOCK": yes(1, 1)})
		assert.ErrorContains(b, c.ReleaseLock("inner"), "more than 1000 times")
		b.put(c)
		b.server.Script(nil)
	})
}

// MariaDB's limits for a session that is idle in a transaction: a limit above
// the lease is set to the lease, and restored. A limit below the lease shortens
// the interval of the proofs. A proof, which reads wait_timeout, does not
// change that.
func TestCode_IdleLimits(t *testing.T) {
	for what, tc := range map[string]struct {
		limit    string
		replies  map[string]*memserver.Reply
		interval time.Duration
		left     string // on the connection that goes back; "": it is closed
	}{
		"above":    {"1000", nil, 5 * time.Second, "1000"},
		"below":    {"6", nil, 2 * time.Second, "6"},
		"refused":  {"1000", map[string]*memserver.Reply{"idle_write_transaction_timeout = 60": refused}, 0, ""},
		"not back": {"1000", map[string]*memserver.Reply{"idle_write_transaction_timeout = 1000": refused}, 5 * time.Second, ""},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				_, err := b.db.ExecContext(b.Context(), "SET SESSION idle_write_transaction_timeout = "+tc.limit)
				require.NoError(b, err)
				c := b.held("a")
				b.server.ScriptTexts(tc.replies)
				if tc.interval == 0 {
					_, err = c.Begin(nil)
					require.ErrorIs(b, err, fault.ErrUnavailable)
					b.server.Script(nil)
					b.begin(c)
					assert.Len(b, b.server.Sent("idle_write_transaction_timeout = 60"), 2, "the next transaction has the limit")
					require.NoError(b, c.Commit())
					b.release(c, "a")
					return
				}
				b.code(b.begin(c), "INSERT row")
				for range 2 {
					assert.Equal(b, tc.interval, c.Interval())
					require.NoError(b, c.Prove([]string{"a"}))
				}
				require.NoError(b, c.Commit())
				b.release(c, "a")
				b.server.Script(nil)
				if tc.left == "" {
					assert.Zero(b, b.alive())
					return
				}
				var limit string
				require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT @@idle_write_transaction_timeout").Scan(&limit))
				assert.Equal(b, tc.left, limit)
			})
		})
	}
}

// The session is gone after the code had ended the transaction: not all of it
// is undone.
func TestTx_EndedBeforeItsSession(t *testing.T) {
	inBubble(t, func(c *Config) { c.Probe = 0 }, func(b *bubble) {
		c := b.held("a")
		b.code(b.begin(c), "INSERT row", "COMMIT")
		b.server.Kill(1)
		synctest.Wait()
		assert.ErrorIs(b, c.Rollback(errOwn), fault.ErrTxEnded)
		_ = c.MarkBroken(ErrClosed)
		b.requireLost(c)
	})
}
