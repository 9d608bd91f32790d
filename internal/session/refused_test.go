package session

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
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

// script has statements that contain a text answered by a reply, from now on.
func (b *bubble) script(replies map[string]*memserver.Reply) {
	b.server.Script(func(st memserver.Statement) *memserver.Reply {
		for text, reply := range replies {
			if strings.Contains(st.Text, text) {
				return reply
			}
		}
		return nil
	})
}

var (
	yes     = func(row ...any) *memserver.Reply { return &memserver.Reply{Row: row} }
	refused = &memserver.Reply{Number: 1142}
	drop    = &memserver.Reply{Drop: true}
	nothing = new(memserver.Reply)
)

// A node of a Galera cluster is one among others, alone, or not to be told from either.
func TestCheck_Galera(t *testing.T) {
	for what, c := range map[string]struct {
		on, size *memserver.Reply
		want     error
	}{
		"off":            {yes("OFF"), nil, nil},
		"not known":      {refused, nil, nil},
		"interrupted":    {&memserver.Reply{Number: erQueryInterrupted}, nil, fault.ErrInterrupted},
		"alone":          {yes("ON"), yes("wsrep_cluster_size", "1"), nil},
		"in no cluster":  {yes("ON"), nothing, nil},
		"two":            {yes("ON"), yes("wsrep_cluster_size", "2"), fault.ErrUnsupported},
		"size refused":   {yes("ON"), refused, fault.ErrUnavailable},
		"size cut off":   {yes("ON"), drop, fault.ErrUnavailable},
		"switch cut off": {drop, nil, fault.ErrUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s := b.take(Request{})
				b.script(map[string]*memserver.Reply{"SELECT @@wsrep_on": c.on, "wsrep_cluster_size": c.size})
				assert.ErrorIs(b, s.checkGalera(), c.want)
				b.pool.Put(s)
			})
		})
	}
}

// A member of a replication group may be one of several primaries.
func TestCheck_Group(t *testing.T) {
	for what, c := range map[string]struct {
		single, primaries *memserver.Reply
		want              error
	}{
		"single":    {yes("ON"), nil, nil},
		"one":       {yes("OFF"), yes(1), nil},
		"two":       {yes("OFF"), yes(2), fault.ErrUnsupported},
		"not shown": {yes("OFF"), refused, fault.ErrUnsupported},
		"cut off":   {yes("OFF"), drop, fault.ErrUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s := b.take(Request{})
				b.script(map[string]*memserver.Reply{"single_primary_mode": c.single, "group_members": c.primaries})
				assert.ErrorIs(b, s.checkGroup(), c.want)
				b.pool.Put(s)
			})
		})
	}
}

// The greeting finds a node of a cluster, and a server that does not allow lock functions: neither gets a lock.
func TestCheck_TheGreetingRefuses(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.script(map[string]*memserver.Reply{"RELEASE_ALL_LOCKS": {Number: erNotSupportedYet}})
		_, err := b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnsupported)
		b.script(map[string]*memserver.Reply{
			"VERSION()":          yes("10.11.0-MariaDB", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 1),
			"SELECT @@wsrep_on":  yes("ON"),
			"wsrep_cluster_size": yes("wsrep_cluster_size", "3"),
		})
		_, err = b.pool.Take(Request{Caller: anybody()})
		require.ErrorIs(b, err, fault.ErrUnsupported)
		assert.ErrorContains(b, err, "one of 3 Galera nodes")
	})
}

// Locks that other code has left on a connection are dropped, and the log says so.
func TestGreeting_LeakedLocks(t *testing.T) {
	log := new(bytes.Buffer)
	inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble) {
		require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT GET_LOCK('leaked', 0)").Scan(new(int)))
		b.pool.Put(b.take(Request{}))
		assert.Equal(b, -1, b.server.Holder("leaked"))
		assert.Contains(b, log.String(), "released locks that other code left")
	})
}

// What GET_LOCK may answer, and what a RELEASE_LOCK in case has left behind.
func TestGetLock_OddAnswers(t *testing.T) {
	for what, c := range map[string]struct {
		reply  *memserver.Reply
		want   error
		broken bool
	}{
		"no number of it":  {yes(7), fault.ErrUnavailable, true},
		"refused":          {&memserver.Reply{Number: erLockWaitTimeout}, fault.ErrUnavailable, false},
		"the name is none": {&memserver.Reply{Number: erUserLockWrongName}, fault.ErrInvalidName, false},
		"too long":         {&memserver.Reply{Number: erTooLongIdent}, fault.ErrInvalidName, false},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s := b.take(Request{})
				b.server.Once("GET_LOCK", c.reply)
				_, err := s.GetLock("a", 0)
				assert.ErrorIs(b, err, c.want)
				assert.Equal(b, c.broken, s.Broken())
				b.pool.Put(s)
			})
		})
	}
}

// Where neither GET_LOCK nor the RELEASE_LOCK in case is even looked at, nothing is in doubt.
func TestGetLock_BothRefused(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s := b.take(Request{})
		b.script(map[string]*memserver.Reply{"_LOCK(": {Number: erUserLockWrongName}})
		_, err := s.GetLock("a", 0)
		require.ErrorIs(b, err, fault.ErrInvalidName)
		assert.Empty(b, s.leftovers)
		b.pool.Put(s)
	})
}

// A RELEASE_LOCK in case that is refused is sent again before the next lock, and before the connection is left.
func TestGetLock_Leftovers(t *testing.T) {
	for what, end := range map[string]*memserver.Reply{"released": nil, "refused again": refused, "cut off": drop} {
		t.Run(what, func(t *testing.T) {
			inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
				s := b.take(Request{})
				b.script(map[string]*memserver.Reply{"GET_LOCK": {Run: true, Number: erLockWaitTimeout}, "RELEASE_LOCK": {Number: erLockWaitTimeout}})
				_, err := s.GetLock("left", 0)
				require.ErrorIs(b, err, fault.ErrUnavailable)
				require.False(b, s.Broken())
				_, err = s.GetLock("Left", 0)
				assert.ErrorContains(b, err, "may have left", "to ask again would enter the lock twice")
				b.script(map[string]*memserver.Reply{"RELEASE_LOCK": end})
				granted, err := s.GetLock("another", 0)
				switch what {
				case "released":
					require.NoError(b, err)
					assert.Equal(b, -1, b.server.Holder("left"))
					require.NoError(b, s.ReleaseLock("another"))
				case "refused again":
					require.NoError(b, err)
					require.True(b, granted, "another name is no matter of it")
					b.server.Script(nil)
					require.NoError(b, s.ReleaseLock("another"))
					b.script(map[string]*memserver.Reply{"RELEASE_LOCK": end})
				default:
					require.ErrorIs(b, err, fault.ErrUnavailable)
					assert.True(b, s.Broken())
				}
				b.pool.Put(s)
				b.pool.Close()
				synctest.Wait()
				_, alive := b.server.Sessions()
				assert.Equal(b, what == "released", alive > 0, "a session that may have a lock is closed")
			})
		})
	}
}

// A limit for statements that cuts off even the try, and then the release in case.
func TestGetLock_TheTryIsCutOff(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s := b.take(Request{})
		b.script(map[string]*memserver.Reply{"GET_LOCK": {Number: erStatementTimeout}, "RELEASE_LOCK": drop})
		_, err := s.GetLock("a", 0)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.True(b, s.Broken())
		b.pool.Put(s)
	})
}

// A session that was not greeted is, before what needs to know the server; where that fails nothing else is asked.
func TestGreeting_FailsWhereItIsNeeded(t *testing.T) {
	ask := map[string]func(s *Session) error{
		"a name outside ASCII": func(s *Session) error { _, err := s.GetLock("é", 0); return err },
		"a wait":               func(s *Session) error { _, err := s.GetLock("a", time.Second); return err },
		"Holder":               func(s *Session) error { _, _, err := s.Holder("a"); return err },
		"Holders":              func(s *Session) error { _, err := s.Holders("a"); return err },
		"a transaction":        func(s *Session) error { _, err := s.Begin(nil); return err },
	}
	for what, ask := range ask {
		t.Run(what, func(t *testing.T) {
			change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
			inBubbleOfOne(t, change, func(b *bubble, _ *sql.Conn) {
				s := b.take(Request{})
				b.script(map[string]*memserver.Reply{"VERSION()": refused})
				assert.ErrorIs(b, ask(s), fault.ErrUnavailable)
				assert.Empty(b, b.server.Sent("GET_LOCK"))
				assert.Empty(b, b.server.Sent("l.ID"))
				assert.Empty(b, b.server.Sent("START"))
				b.pool.Put(s)
			})
		})
	}
}

// What Check finds at the session that New was given, and on one of its own.
func TestCheck_Fails(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		b.script(map[string]*memserver.Reply{"VERSION()": refused})
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
		b.script(map[string]*memserver.Reply{"SELECT @@wait_timeout": refused})
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnavailable)
	})
}

// The one session of New counts for what it is.
func TestLent_Numbers(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		assert.Contains(b, b.pool.Numbers(), "the connection given to New")
		assert.Equal(b, 1, b.pool.Cap())
		assert.False(b, b.pool.Spare())
		s, err := b.pool.TakeIdle()
		require.NoError(b, err)
		require.NotNil(b, s, "it is idle")
		assert.False(b, b.pool.OpenAnother(s))
		another, err := b.pool.TakeIdle()
		assert.NoError(b, err)
		assert.Nil(b, another)
		b.pool.Put(s)
	})
}

// MariaDB sends its numbers in character_set_results, which may be UTF-16: they are asked for as bytes.
func TestSpell_ReadAsBytes(t *testing.T) {
	utf16 := func(text string) (wide string) {
		for _, r := range text {
			wide += "\x00" + string(r)
		}
		return wide
	}
	inBubbleOfOne(t, func(c *Config) { c.Lease = 0 }, func(b *bubble, _ *sql.Conn) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			switch {
			case strings.Contains(st.Text, "CAST(VERSION()"):
				return yes(utf16("10.11.0-MariaDB"), "", "utf8mb4", "utf8mb4", 28800, utf16("utf16"))
			case strings.Contains(st.Text, "_LOCK"):
				return yes(1)
			}
			return nil
		})
		s := b.pool.source.(*lent).session
		s.readAsBytes()
		require.NoError(b, s.greet())
		assert.Equal(b, "utf16", s.server.resultsCharset.String)
		granted, err := s.GetLock("a", 0)
		require.NoError(b, err)
		require.True(b, granted)
		require.NoError(b, s.ReleaseLock("a"))
		assert.True(b, s.server.mariaDB())
		assert.Len(b, b.server.Sent("CAST(GET_LOCK("), 1)
		assert.Len(b, b.server.Sent("CAST(RELEASE_LOCK("), 1)
	})
}

// Nothing but a number and a name is ever an argument; a host may be anything.
func TestSpell_Odd(t *testing.T) {
	assert.Panics(t, func() { new(Session).spellOut("?", []driver.Value{true}) })
	assert.Equal(t, "NULL", literal(nil))
	assert.Equal(t, "7", literal(int64(7)))
	host, port := splitHost("socket:none")
	assert.Equal(t, "socket:none", host)
	assert.Zero(t, port)
}

// A server that is demoted during a wait gives the lock back, where other locks or their owner need the session.
func TestConfirm_Demoted(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		s := b.take(Request{})
		granted, err := s.GetLock("a", 0)
		require.NoError(b, err)
		require.True(b, granted)
		b.server.SetReadOnly(true)
		require.ErrorIs(b, s.Confirm("a"), fault.ErrUnsupported)
		assert.False(b, s.Broken())
		assert.Equal(b, -1, b.server.Holder("a"))
		b.server.SetReadOnly(false)
		b.pool.Put(s)
	})
}

// Rows of the owner's that are open on a connection given to New: no transaction begins, and Close leaves the connection with the lease.
func TestLent_RowsOpen(t *testing.T) {
	log := new(bytes.Buffer)
	inBubbleOfOne(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble, conn *sql.Conn) {
		b.pool.Put(b.take(Request{}))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		rows, err := conn.QueryContext(ctx, "SELECT 1")
		require.NoError(b, err)
		s := b.take(Request{})
		_, err = s.Begin(nil)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.False(b, s.Broken())
		b.pool.Put(s)
		b.pool.Close()
		assert.Contains(b, log.String(), "could not restore wait_timeout on the connection given to New")
		require.NoError(b, rows.Close())
	})
}

// The owner closes the connection under a lock: the look at the socket finds it.
func TestLent_ClosedUnderALock(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, conn *sql.Conn) {
		_, h := b.held("a")
		require.NoError(b, conn.Close())
		b.awaitLoss(h)
		assert.ErrorIs(b, h.why, errConnClosed)
		_, _ = b.db.ExecContext(b.Context(), "SELECT 1") // finds that the connection has ended
		require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT 1").Scan(new(int)), "the db goes on with another")
		assert.False(b, b.pool.source.wanted())
		assert.Panics(b, func() { _, _ = b.pool.source.open(Request{}) })
	})
}

// Where the driver does not look at idle sockets that is said.
func TestWatch_NoLookAllowed(t *testing.T) {
	log := new(bytes.Buffer)
	inBubble(t, nil, func(b *bubble) {
		b.pool.Close()
		require.NoError(b, b.db.Close())
		b.db = b.server.Open(func(c *mysql.Config) { c.CheckConnLiveness = false })
		c := config()
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
		b.pool = NewPool(b.db, c)
		b.pool.Put(b.take(Request{}))
		assert.Contains(b, log.String(), "checkConnLiveness=false")
	})
}

// A list of locks that the server refuses is not one that it was kept from.
func TestHolders_Refused(t *testing.T) {
	for number, want := range map[uint16]error{1109: fault.ErrUnsupported, erQueryInterrupted: fault.ErrInterrupted, erLockWaitTimeout: fault.ErrUnsupported} {
		inBubble(t, nil, func(b *bubble) {
			s := b.take(Request{})
			b.script(map[string]*memserver.Reply{"METADATA_LOCK_INFO": {Number: number}})
			_, err := s.Holders("a")
			assert.ErrorIs(b, err, want)
			b.pool.Put(s)
		})
	}
}

// A question beside the locks where others have all connections of the db.
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
		b.script(map[string]*memserver.Reply{"RELEASE_ALL_LOCKS": refused})
		assert.ErrorIs(b, b.pool.Check(b.Context(), nil), fault.ErrUnavailable, "fit for questions, not for locks")
		b.server.Script(nil)
		s, h := b.owned("a")
		assert.Contains(b, b.pool.Numbers(), "1 sessions, 1 of them for transactions and terms")
		b.release(s, h)
	})
}

// MySQL has other names for some of the settings.
func TestCode_SettingsOfMySQL(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.server.Script(func(st memserver.Statement) *memserver.Reply {
			row := []any{"utf8mb4", "utf8mb4", "utf8mb4", 60, 1, 1000, "NO_CHAIN", "REPEATABLE-READ", 0, 0}
			switch {
			case strings.Contains(st.Text, "VERSION()"):
				return yes("9.7.4", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 0)
			case strings.Contains(st.Text, "RELEASE_LOCK"):
				return yes(append([]any{1, 0}, row...)...)
			case strings.Contains(st.Text, "@@transaction_isolation"):
				return yes(row...)
			}
			return nil
		})
		s, h := b.owned("a")
		b.code(b.begin(s), "INSERT row")
		require.NoError(b, b.commit(s))
		b.release(s, h)
		_, alive := b.server.Sessions()
		assert.Equal(b, 1, alive, "nothing is changed")
	})
}
