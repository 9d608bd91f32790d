package pool

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/internal/server"
)

var refusal = &memserver.Reply{Number: 1142}

// What Check finds at the session that New was given, and on one of its own.
func TestCheck_Fails(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		b.server.ScriptTexts(map[string]*memserver.Reply{"VERSION()": refusal})
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnavailable)
		b.server.Script(nil)
		require.NoError(b, b.pool.Check(b.Context(), nil))
		b.server.SetReadOnly(true)
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnsupported, "it was greeted before")
		b.server.SetReadOnly(false)

		s := b.take(Request{})
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		err := b.pool.Check(ctx, nil)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.ErrorContains(b, err, "stayed busy until the deadline")
		b.pool.GiveUp(s, errors.New("given up"))
		b.pool.Put(s)
		assert.ErrorIs(b, b.pool.Inspect(b.Context(), nil, nil), fault.ErrUnavailable, "it has gone")
	})
	inBubble(t, nil, func(b *bubble) {
		b.server.ScriptTexts(map[string]*memserver.Reply{"SELECT @@wait_timeout": refusal})
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnavailable)
	})
}

// The one session of New counts for what it is.
func TestLent_Numbers(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		assert.Contains(b, b.pool.Numbers(), "the connection given to New")
		assert.Equal(b, 1, b.pool.Cap())
		assert.False(b, b.pool.Spare())
		s, h := b.held("a")
		b.requireNoSpare(s)
		b.release(s, h)

		s = b.take(Request{})
		require.Positive(b, b.pool.BeginWait(s, 0, 0), "a wait, whose caller may have gone")
		assert.Contains(b, b.pool.Numbers(), "a statement of another call is using it")
		b.pool.EndWait(s)
		b.pool.Put(s)
		s, h = b.owned("a")
		assert.Contains(b, b.pool.Numbers(), "a transaction or a term is using it")
		b.release(s, h)
	})
}

// The owner closes the connection under a lock: the look at the socket finds
// it.
func TestLent_ClosedUnderALock(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		_, h := b.held("a")
		require.NoError(b, conn.Close())
		b.awaitLoss(h)
		assert.ErrorIs(b, h.why, server.ErrReturned)
		synctest.Wait()                                  // until the connection is closed
		_, _ = b.db.ExecContext(b.Context(), "SELECT 1") // finds that the connection has ended
		require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT 1").Scan(new(int)), "the db goes on with another")
	})
}

// Check needs a connection of its own, but all connections of the db are in
// use.
func TestCheck_NoConnection(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(2)
		var taken []*sql.Conn
		for range 2 {
			conn, err := b.db.Conn(b.Context())
			require.NoError(b, err)
			taken = append(taken, conn)
		}
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrNoSession)
		for _, conn := range taken {
			require.NoError(b, conn.Close())
		}
		b.server.ScriptTexts(map[string]*memserver.Reply{"RELEASE_ALL_LOCKS": refusal})
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnavailable, "fit for questions, not for locks")
		b.server.Script(nil)
		s, h := b.owned("a")
		assert.Contains(b, b.pool.Numbers(), "1 sessions, 1 of them for transactions and terms")
		b.release(s, h)
	})
}

// A transaction whose context has ended in the middle of a statement is cut
// off. Its lock is not reported as lost, but the cause is.
func TestWatch_CutOff(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		b.server.Once("INSERT slow", &memserver.Reply{Hang: true})
		ctx, cancel := context.WithCancel(b.Context())
		ended := begin(func() error { _, err := tx.ExecContext(ctx, "INSERT slow"); return err })
		cancel()
		require.ErrorIs(b, <-ended, context.Canceled)
		b.awaitLoss(h)
		assert.ErrorIs(b, h.why, server.ErrCutOff)
	})
}

// If a probe cannot look at the socket, it shows only what the driver has done.
// So the watch rests, and probes at the end of a rest.
func TestWatch_CutOffUnwatched(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.pool.Close()
		require.NoError(b, b.server.Close(b.db))
		b.db = b.server.Open(func(c *mysql.Config) { c.CheckConnLiveness = false })
		b.pool = NewPool(b.db, b.config)
		s, h := b.owned("a")
		tx := b.begin(s)
		time.Sleep(time.Second)
		b.pool.mu.Lock()
		assert.Equal(b, resting, b.pool.pace)
		b.pool.mu.Unlock()
		b.server.Once("INSERT slow", &memserver.Reply{Hang: true})
		ctx, cancel := context.WithCancel(b.Context())
		ended := begin(func() error { _, err := tx.ExecContext(ctx, "INSERT slow"); return err })
		cancel()
		require.ErrorIs(b, <-ended, context.Canceled)
		begun := time.Now()
		assert.LessOrEqual(b, b.awaitLoss(h).Sub(begun), restTick)
		assert.ErrorIs(b, h.why, server.ErrCutOff)
	})
}

// While rows of a transaction are open, no proof is sent, and nothing is lost.
func TestWatch_RowsOpen(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		rows, err := tx.QueryContext(context.Background(), "SELECT 1")
		require.NoError(b, err)
		sent := len(b.server.Sent(""))
		time.Sleep(12 * time.Second) // two proofs are due
		assert.Len(b, b.server.Sent(""), sent)
		b.requireHeld(h)
		require.NoError(b, rows.Close())
		time.Sleep(6 * time.Second)
		assert.NotEmpty(b, b.server.Sent(proof))
		b.onTurn(s, func() { require.NoError(b, s.Commit()) })
		b.release(s, h)
	})
}

// Between two queries whose rows are open for most of the time, a lock that has
// gone is noticed.
func TestWatch_BetweenRows(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		b.server.Steal("a")
		begun := time.Now()
		for len(h.lost) == 0 && time.Since(begun) < time.Minute {
			rows, err := tx.QueryContext(context.Background(), "SELECT 1")
			if err != nil {
				break
			}
			time.Sleep(600 * time.Millisecond)
			_ = rows.Close()
			time.Sleep(2 * watchTick)
		}
		assert.LessOrEqual(b, b.awaitLoss(h).Sub(begun), 2*b.config.KeepAlive)
	})
}

// Rows that were open for longer than the lease, and the COMMIT after them, are
// answers. The session is not overdue before RELEASE_LOCK is answered.
func TestWatch_RowsOpenForLong(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.owned("a")
		tx := b.begin(s)
		rows, err := tx.QueryContext(context.Background(), "SELECT 1")
		require.NoError(b, err)
		time.Sleep(s.IdleLimit() + time.Second)
		b.requireHeld(h)
		require.NoError(b, b.pool.TakeUrgent(s))
		require.NoError(b, rows.Close())
		require.NoError(b, s.Commit())
		time.Sleep(restTick) // the next statement takes a moment
		b.requireHeld(h)
		b.pool.Put(s)
		b.release(s, h)
	})
}
