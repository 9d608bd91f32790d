package server

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A Galera node is refused if it is one of several. If a question about that
// fails, the error is returned, unless the variable does not exist.
func TestCheck_Galera(t *testing.T) {
	for what, tc := range map[string]struct {
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
				c := b.use()
				b.server.ScriptTexts(map[string]*memserver.Reply{"SELECT @@wsrep_on": tc.on, "wsrep_cluster_size": tc.size})
				assert.ErrorIs(b, c.checkGalera(), tc.want)
				b.put(c)
			})
		})
	}
}

// A member of a replication group may be one of several primaries.
func TestCheck_Group(t *testing.T) {
	for what, tc := range map[string]struct {
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
				c := b.use()
				b.server.ScriptTexts(map[string]*memserver.Reply{"single_primary_mode": tc.single, "group_members": tc.primaries})
				assert.ErrorIs(b, c.checkGroup(), tc.want)
				b.put(c)
			})
		})
	}
}

// The greeting detects a node of a cluster and a server that does not allow
// lock functions. Neither gets a lock.
func TestCheck_TheGreetingRefuses(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.server.ScriptTexts(map[string]*memserver.Reply{"RELEASE_ALL_LOCKS": {Number: erNotSupportedYet}})
		conn, err := b.db.Conn(b.Context())
		require.NoError(b, err)
		c := b.of.Use(conn, false)
		require.ErrorIs(b, c.Ready(), fault.ErrUnsupported)
		b.server.ScriptTexts(map[string]*memserver.Reply{
			"VERSION()":          yes("10.11.0-MariaDB", "", "utf8mb4", "utf8mb4", 28800, 0, 0, 0, "utf8mb4", 1),
			"SELECT @@wsrep_on":  yes("ON"),
			"wsrep_cluster_size": yes("wsrep_cluster_size", "3"),
		})
		err = c.Ready()
		require.ErrorIs(b, err, fault.ErrUnsupported)
		assert.ErrorContains(b, err, "one of 3 Galera nodes")
		b.put(c)
	})
}

// Locks that other code left on a connection are released by the greeting,
// which is logged.
func TestGreeting_LeakedLocks(t *testing.T) {
	log := new(bytes.Buffer)
	inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble) {
		require.NoError(b, b.db.QueryRowContext(b.Context(), "SELECT GET_LOCK('leaked', 0)").Scan(new(int)))
		b.put(b.use())
		assert.Equal(b, -1, b.server.Holder("leaked"))
		assert.Contains(b, log.String(), "released locks that other code left")
	})
}

// The possible answers to GET_LOCK, and the locks that a refused RELEASE_LOCK
// after it may have left.
func TestGetLock_OddAnswers(t *testing.T) {
	for what, tc := range map[string]struct {
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
				c := b.use()
				b.server.Once("GET_LOCK", tc.reply)
				_, err := c.GetLock("a", 0)
				assert.ErrorIs(b, err, tc.want)
				assert.Equal(b, tc.broken, c.Broken())
				b.put(c)
			})
		})
	}
}

// If the server refuses both GET_LOCK and the RELEASE_LOCK after it without
// looking for the lock, nothing is left to be released.
func TestGetLock_BothRefused(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		c := b.use()
		b.server.ScriptTexts(map[string]*memserver.Reply{"_LOCK(": {Number: erUserLockWrongName}})
		_, err := c.GetLock("a", 0)
		require.ErrorIs(b, err, fault.ErrInvalidName)
		assert.Empty(b, c.leftovers)
		b.put(c)
	})
}

// A RELEASE_LOCK that is refused after a failed GET_LOCK is repeated before the
// next lock or release, and before the connection is given back.
func TestGetLock_Leftovers(t *testing.T) {
	for what, end := range map[string]*memserver.Reply{"released": nil, "refused again": refused, "cut off": drop} {
		t.Run(what, func(t *testing.T) {
			inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
				c := b.use()
				b.server.ScriptTexts(map[string]*memserver.Reply{"GET_LOCK": {Run: true, Number: erLockWaitTimeout}, "RELEASE_LOCK": {Number: erLockWaitTimeout}})
				_, err := c.GetLock("left", 0)
				require.ErrorIs(b, err, fault.ErrUnavailable)
				require.False(b, c.Broken())
				_, err = c.GetLock("Left", 0)
				assert.ErrorContains(b, err, "may have left", "to ask again would enter the lock twice")
				b.server.ScriptTexts(map[string]*memserver.Reply{"RELEASE_LOCK('left'": end})
				granted, err := c.GetLock("another", 0)
				switch what {
				case "released":
					require.NoError(b, err)
					assert.Equal(b, -1, b.server.Holder("left"))
					require.NoError(b, c.ReleaseLock("another"))
				case "refused again":
					require.NoError(b, err)
					require.True(b, granted, "another name is no matter of it")
					require.NoError(b, c.ReleaseLock("another"))
				default:
					require.ErrorIs(b, err, fault.ErrUnavailable)
					assert.True(b, c.Broken())
				}
				b.put(c)
				_ = c.GiveBack()
				assert.Equal(b, what == "released", b.alive() > 0, "a session that may have a lock is closed")
			})
		})
	}
}

// A time limit for statements cuts off the try, and then the RELEASE_LOCK after
// it.
func TestGetLock_TheTryIsCutOff(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		c := b.use()
		b.server.ScriptTexts(map[string]*memserver.Reply{"GET_LOCK": {Number: erStatementTimeout}, "RELEASE_LOCK": drop})
		_, err := c.GetLock("a", 0)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.True(b, c.Broken())
		b.put(c)
	})
}

// If the RELEASE_LOCK after a try that was cut off is refused, no wait follows:
// it would enter the lock twice.
func TestGetLock_TheTryLeavesALock(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		c := b.use()
		b.server.ScriptTexts(map[string]*memserver.Reply{
			"GET_LOCK('a', 0)":  {Run: true, Number: erStatementTimeout},
			"RELEASE_LOCK('a')": {Number: erLockWaitTimeout},
		})
		_, err := c.GetLock("a", 0)
		require.ErrorContains(b, err, "may have left")
		b.server.Script(nil)
		b.lock(c, "a")
		b.release(c, "a")
		assert.Equal(b, -1, b.server.Holder("a"))
	})
}

// A session without a greeting is greeted before a statement that depends on
// the server. If that fails, nothing else is sent.
func TestGreeting_FailsWhereItIsNeeded(t *testing.T) {
	ask := map[string]func(c *Conn) error{
		"a name outside ASCII": func(c *Conn) error { _, err := c.GetLock("é", 0); return err },
		"a wait":               func(c *Conn) error { _, err := c.GetLock("a", time.Second); return err },
		"Holder":               func(c *Conn) error { _, _, err := c.Holder("a"); return err },
		"Holders":              func(c *Conn) error { _, err := c.Holders("a"); return err },
		"a transaction":        func(c *Conn) error { _, err := c.Begin(nil); return err },
	}
	for what, ask := range ask {
		t.Run(what, func(t *testing.T) {
			change := func(c *Config) { c.CheckServer, c.Lease = false, 0 }
			inBubbleOfOne(t, change, func(b *bubble, _ *sql.Conn) {
				c := b.use()
				b.server.ScriptTexts(map[string]*memserver.Reply{"VERSION()": refused})
				assert.ErrorIs(b, ask(c), fault.ErrUnavailable)
				assert.Empty(b, b.server.Sent("GET_LOCK"))
				assert.Empty(b, b.server.Sent("l.ID"))
				assert.Empty(b, b.server.Sent("START"))
				b.put(c)
			})
		})
	}
}

// MariaDB sends numbers in character_set_results, which may be UTF-16. They are
// read as bytes.
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
		c := b.lent
		c.asBytes = true
		require.NoError(b, c.greet())
		assert.True(b, c.literals)
		granted, err := c.GetLock("a", 0)
		require.NoError(b, err)
		require.True(b, granted)
		require.NoError(b, c.ReleaseLock("a"))
		assert.True(b, c.greeting.mariaDB())
		assert.Len(b, b.server.Sent("CAST(GET_LOCK("), 1)
		assert.Len(b, b.server.Sent("CAST(RELEASE_LOCK("), 1)
	})
}

// Only a number and a name can be an argument. The HOST of the process list can
// be any text.
func TestSpell_Odd(t *testing.T) {
	assert.Panics(t, func() { new(Conn).spellOut("?", named(true)) })
	assert.Equal(t, "NULL", literal(sql.NullString{}))
	assert.Equal(t, "7", literal(sql.NullString{String: "7", Valid: true}))
	host, port := splitHost("socket:none")
	assert.Equal(t, "socket:none", host)
	assert.Zero(t, port)
}

// If the server was demoted, Confirm releases the lock. A session that was
// given to New stays.
func TestConfirm_Demoted(t *testing.T) {
	inBubbleOfOne(t, nil, func(b *bubble, _ *sql.Conn) {
		c := b.use()
		granted, err := c.GetLock("a", 0)
		require.NoError(b, err)
		require.True(b, granted)
		b.server.SetReadOnly(true)
		require.ErrorIs(b, c.Confirm("a"), fault.ErrUnsupported)
		assert.False(b, c.Broken())
		assert.Equal(b, -1, b.server.Holder("a"))
		b.server.SetReadOnly(false)
		b.put(c)
	})
}

// If the answer to a wait contains the lock alone, Confirm asks whether the
// server is read-only.
func TestConfirm_TheAnswerLeftColumnsOut(t *testing.T) {
	for _, demoted := range []bool{false, true} {
		inBubble(t, nil, func(b *bubble) {
			c := b.use()
			b.server.Once("GET_LOCK", &memserver.Reply{Run: true, Row: []any{1}})
			granted, err := c.GetLock("a", time.Second)
			require.NoError(b, err)
			require.True(b, granted)
			b.server.SetReadOnly(demoted)
			if err := c.Confirm("a"); demoted {
				require.ErrorIs(b, err, fault.ErrReadOnly)
				b.requireLost(c)
			} else {
				require.NoError(b, err)
				b.release(c, "a")
			}
			b.server.SetReadOnly(false)
		})
	}
}

// While rows of the owner's are open on a connection given to New, no
// transaction begins, and GiveBack leaves the connection with the lease.
func TestLent_RowsOpen(t *testing.T) {
	log := new(bytes.Buffer)
	inBubbleOfOne(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble, conn *sql.Conn) {
		b.put(b.use())
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		rows, err := conn.QueryContext(ctx, "SELECT 1")
		require.NoError(b, err)
		c := b.use()
		_, err = c.Begin(nil)
		require.ErrorIs(b, err, fault.ErrUnavailable)
		assert.False(b, c.Broken())
		assert.NoError(b, c.GiveBack())
		assert.Contains(b, log.String(), "could not restore wait_timeout on the connection given to New")
		require.NoError(b, rows.Close())
	})
}

// If the driver does not check idle sockets, that is logged.
func TestProbe_NoLookAllowed(t *testing.T) {
	log := new(bytes.Buffer)
	inBubble(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }, func(b *bubble) {
		require.NoError(b, b.server.Close(b.db))
		b.db = b.server.Open(func(c *mysql.Config) { c.CheckConnLiveness = false })
		c := b.use()
		assert.True(b, c.Unwatched())
		b.put(c)
		assert.Contains(b, log.String(), "checkConnLiveness=false")
	})
}

// A list of locks that the server refuses is unsupported. One that was
// interrupted is not.
func TestHolders_Refused(t *testing.T) {
	for number, want := range map[uint16]error{1109: fault.ErrUnsupported, erQueryInterrupted: fault.ErrInterrupted, erLockWaitTimeout: fault.ErrUnsupported} {
		inBubble(t, nil, func(b *bubble) {
			c := b.use()
			b.server.ScriptTexts(map[string]*memserver.Reply{"METADATA_LOCK_INFO": {Number: number}})
			_, err := c.Holders("a")
			assert.ErrorIs(b, err, want)
			b.put(c)
		})
	}
}

// MySQL has other names than MariaDB for some of the settings.
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
		c := b.held("a")
		b.code(b.begin(c), "INSERT row")
		require.NoError(b, c.Commit())
		b.release(c, "a")
		assert.Equal(b, 1, b.alive(), "nothing is changed")
	})
}
