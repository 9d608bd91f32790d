package session

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// onTurn runs f on a turn on s.
func (b *bubble) onTurn(s *Session, f func()) {
	b.Helper()
	require.NoError(b, b.pool.TakeUrgent(s))
	defer b.pool.Put(s)
	f()
}

// Code that has called tx.Commit or tx.Rollback is told sql.ErrTxDone, whatever it returns. Where the server refused that, or what
// comes after it, nothing of it is committed by the next transaction.
func TestTx_EndedByItsCode(t *testing.T) {
	for what, c := range map[string]struct {
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
					s, h := b.owned("a")
					tx := b.begin(s)
					b.code(tx, "INSERT row")
					b.script(c.replies)
					_ = tx.Commit()
					b.onTurn(s, func() {
						if fails {
							assert.Equal(b, sql.ErrTxDone, s.Rollback(errors.New("own")))
						} else {
							assert.Equal(b, sql.ErrTxDone, s.Commit())
						}
						assert.Equal(b, c.broken, s.Broken())
					})
					b.server.Script(nil)
					synctest.Wait()
					if c.broken {
						b.awaitLoss(h)
						return
					}
					assert.False(b, b.server.InTx(1))
					b.release(s, h)
				})
			})
		}
	}
}

// COMMIT under a completion_type of CHAIN begins the next transaction, which is ended.
func TestTx_Chain(t *testing.T) {
	for what, end := range map[string]*memserver.Reply{"ended": nothing, "not ended": refused} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s, h := b.owned("a")
				b.code(b.begin(s), "INSERT row")
				b.script(map[string]*memserver.Reply{"COMMIT": nothing, "ROLLBACK AND NO CHAIN": end})
				require.NoError(b, b.commit(s), "it is committed")
				assert.Len(b, b.server.Sent("ROLLBACK AND NO CHAIN"), 1)
				b.server.Script(nil)
				if end == refused {
					b.awaitLoss(h)
					return
				}
				b.release(s, h)
			})
		})
	}
}

// An isolation level for a transaction that does not begin is not left for the next.
func TestTx_IsolationIsForgotten(t *testing.T) {
	opts := &sql.TxOptions{Isolation: sql.LevelSerializable}
	for what, c := range map[string]struct {
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
				s, h := b.owned("a")
				b.script(c.replies)
				broken := false
				b.onTurn(s, func() {
					_, err := s.Begin(opts)
					require.ErrorIs(b, err, fault.ErrUnavailable)
					broken = s.Broken()
				})
				b.server.Script(nil)
				if broken {
					b.awaitLoss(h)
				} else {
					b.release(s, h)
				}
				synctest.Wait()
				_, alive := b.server.Sessions()
				assert.Equal(b, c.kept, alive)
			})
		})
	}
	// With New a session whose settings do not show stays its owner's, but for what is pending there.
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		s, h := b.owned("a")
		b.script(map[string]*memserver.Reply{"@@tx_isolation": refused})
		b.code(b.begin(s), "INSERT row")
		require.NoError(b, b.commit(s))
		b.release(s, h)
		require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT 1").Scan(new(int)))
	})
}

// A context that ends in the middle of a statement of the transaction closes the session. That is no doubt about COMMIT, and no loss.
func TestTx_CutOff(t *testing.T) {
	for what, end := range map[string]func(b *bubble, s *Session){
		"Commit":   func(b *bubble, s *Session) { assert.ErrorIs(b, s.Commit(), ErrCutOff) },
		"Rollback": func(b *bubble, s *Session) { assert.NoError(b, s.Rollback(errors.New("own"))) },
		"a nested question": func(b *bubble, s *Session) {
			_, err := s.GetLock("inner", 0)
			assert.ErrorIs(b, err, ErrCutOff)
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Probe = 0 }, func(b *bubble) {
				s, h := b.owned("a")
				tx := b.begin(s)
				b.server.Once("INSERT slow", &memserver.Reply{Hang: true})
				ctx, cancel := context.WithCancel(b.Context())
				ended := begin(func() error { _, err := tx.ExecContext(ctx, "INSERT slow"); return err })
				cancel()
				require.ErrorIs(b, <-ended, context.Canceled)
				b.onTurn(s, func() { end(b, s) })
				b.awaitLoss(h)
				assert.ErrorIs(b, h.why, ErrCutOff)
			})
		})
	}
}

// While rows of the transaction are open nothing is sent: no COMMIT, no proof, no question.
func TestTx_RowsOpen(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		rows, err := tx.QueryContext(context.Background(), "SELECT 1")
		require.NoError(b, err)
		sent := len(b.server.Sent(""))
		b.onTurn(s, func() {
			_, err := s.GetLock("inner", 0)
			assert.ErrorIs(b, err, fault.ErrUnavailable)
			assert.False(b, s.Broken())
		})
		time.Sleep(12 * time.Second) // two proofs are due
		assert.Len(b, b.server.Sent(""), sent)
		b.requireHeld(h)
		require.NoError(b, rows.Close())
		time.Sleep(6 * time.Second)
		assert.NotEmpty(b, b.server.Sent(proof))
		require.NoError(b, b.commit(s))
		b.release(s, h)
	})
}

// What the code has changed on a connection that was given to New is set back; where that fails the connection is closed.
func TestCode_PutBack(t *testing.T) {
	for what, c := range map[string]struct {
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
				s, h := b.owned("a")
				b.code(b.begin(s), c.change)
				require.NoError(b, b.commit(s))
				b.script(c.replies)
				require.NoError(b, b.pool.TakeUrgent(s))
				require.NoError(b, s.ReleaseLock("a"))
				if c.alive == 0 {
					assert.ErrorContains(b, s.broken, "its settings could not be restored")
				}
				b.pool.Drop(s, h)
				b.server.Script(nil)
				synctest.Wait()
				_, alive := b.server.Sessions()
				assert.Equal(b, c.alive, alive)
				if c.alive > 0 {
					var completion string
					require.NoError(b, conn.QueryRowContext(b.Context(), "SELECT @@completion_type").Scan(&completion))
					assert.Equal(b, "NO_CHAIN", completion)
				}
			})
		})
	}
}

// A release after code of the user's that is refused is a loss, as any other; a nested one that never ends is, too.
func TestCode_ReleaseFails(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, _ := b.owned("a")
		b.code(b.begin(s), "INSERT row")
		require.NoError(b, b.commit(s))
		b.script(map[string]*memserver.Reply{"RELEASE_LOCK": refused})
		b.onTurn(s, func() { assert.ErrorIs(b, s.ReleaseLock("a"), fault.ErrLost) })
		b.server.Script(nil)
	})
	inBubble(t, nil, func(b *bubble) {
		s, _ := b.owned("outer")
		b.code(b.begin(s), "INSERT row")
		b.lock(b.take(Request{Home: s, Mine: 1}), "inner")
		b.script(map[string]*memserver.Reply{"RELEASE_LOCK": yes(1, 1)})
		b.onTurn(s, func() { assert.ErrorContains(b, s.ReleaseLock("inner"), "more than 1000 times") })
		b.server.Script(nil)
	})
}

// MariaDB's limits for a session that is idle in a transaction: one above the lease is set to it, and set back; one below shortens the
// interval of the proofs.
func TestCode_IdleLimits(t *testing.T) {
	for what, c := range map[string]struct {
		limit    string
		replies  map[string]*memserver.Reply
		interval time.Duration
		left     string // of the connection that goes back; "": it is closed
	}{
		"above":    {"1000", nil, 5 * time.Second, "1000"},
		"below":    {"6", nil, 2 * time.Second, "6"},
		"refused":  {"1000", map[string]*memserver.Reply{"idle_write_transaction_timeout = 60": refused}, 0, ""},
		"not back": {"1000", map[string]*memserver.Reply{"idle_write_transaction_timeout = 1000": refused}, 5 * time.Second, ""},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				_, err := b.db.ExecContext(b.Context(), "SET SESSION idle_write_transaction_timeout = "+c.limit)
				require.NoError(b, err)
				s, h := b.owned("a")
				b.script(c.replies)
				if c.interval == 0 {
					b.onTurn(s, func() { _, err = s.Begin(nil) })
					require.ErrorIs(b, err, fault.ErrUnavailable)
					b.server.Script(nil)
					b.release(s, h)
					return
				}
				b.code(b.begin(s), "INSERT row")
				assert.Equal(b, c.interval, s.interval())
				require.NoError(b, b.commit(s))
				b.release(s, h)
				time.Sleep(2 * idleTime)
				b.server.Script(nil)
				_, alive := b.server.Sessions()
				if c.left == "" {
					assert.Zero(b, alive)
					return
				}
				var limit string
				require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT @@idle_write_transaction_timeout").Scan(&limit))
				assert.Equal(b, c.left, limit)
			})
		})
	}
}

// What database/sql has no more counts as not known: rows as open, a transaction as not done.
func TestTx_UnknownFields(t *testing.T) {
	assert.Nil(t, txField[int](new(sql.Tx), nil))
	assert.False(t, rowsOpen(new(sql.Tx)))
}

// A session that has gone after its code had ended the transaction: not all of it is undone.
func TestTx_EndedBeforeItsSession(t *testing.T) {
	inBubble(t, func(c *Config) { c.Probe = 0 }, func(b *bubble) {
		s, h := b.owned("a")
		b.code(b.begin(s), "INSERT row", "COMMIT")
		b.server.Kill(1)
		b.onTurn(s, func() { assert.ErrorIs(b, s.Rollback(errors.New("own")), fault.ErrTxEnded) })
		b.awaitLoss(h)
	})
}
