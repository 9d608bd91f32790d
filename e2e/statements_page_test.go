package e2e

import (
	"context"
	"database/sql"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/require"
)

var (
	statementBlock = regexp.MustCompile("(?ms)^```sql\n(.*?)^```")
	whiteSpace     = regexp.MustCompile(`\s+`)
	anyNumber      = regexp.MustCompile(`\b\d+\b`)
	forCluster     = regexp.MustCompile(` /\*M! .*$`)
)

// onOneLine returns a statement without its line breaks, and with n for each
// number, since these may differ.
func onOneLine(text string) string {
	return anyNumber.ReplaceAllString(strings.TrimSpace(whiteSpace.ReplaceAllString(text, " ")), "n")
}

// Every statement of docs/STATEMENTS.md is sent to at least one of the servers.
func TestStatementsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/STATEMENTS.md")
	require.NoError(t, err)
	var mu sync.Mutex
	var sent []string
	asked := 0                        // servers
	t.Run("ask", func(t *testing.T) { // returns when all servers have been used
		onEachServer(t, func(t *testing.T, srv *server) {
			texts := srv.everyStatement(t)
			mu.Lock()
			defer mu.Unlock()
			asked++
			sent = append(sent, texts...)
		})
	})
	if asked < 2 {
		return // statements for the missing server were not sent
	}
	blocks := statementBlock.FindAllSubmatch(page, -1)
	require.Greater(t, len(blocks), 9)
	for _, block := range blocks {
		want := onOneLine(string(block[1]))
		require.True(t, slices.Contains(sent, want), "not sent: %s\nsent: %s", want, strings.Join(sent, "\n"))
	}
}

// everyStatement makes a Locker send all its kinds of statements, and returns
// them.
func (s *server) everyStatement(t *testing.T) (sent []string) {
	t.Helper()
	l, f, name := setup{s, byOpen}.spied(t, namedlock.WithKeepAlive(calm())), s.foreign(t), newName("page")
	f.lock(name)
	c := begin(t, t.Context(), l, name, namedlock.Forever)
	eventually(t, func() bool { return l.spy.Count("GET_LOCK(?, ?), @@read_only") > 0 }, "it waits on the server")
	f.unlock(name)
	c.holds(t)
	c.release(t)
	require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
		eventually(t, func() bool { return l.spy.Count("= CONNECTION_ID()") > 1 }, "two keep-alives")
		return nil
	}))
	require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(context.Context, *sql.Tx) error { return nil }))
	require.NoError(t, l.WithSlot(t.Context(), name, 2, 0, func(context.Context, int) error { return nil }))
	require.NoError(t, l.Check(t.Context()))
	_, _, err := l.Holder(t.Context(), name)
	require.NoError(t, err)
	_, _ = l.Holders(t.Context(), name) // MariaDB only has the list with a plugin
	eventually(t, func() bool {
		requireUsable(t, l)
		return l.spy.Count("SELECT @@read_only") > 0
	}, "the Locker checks again whether the server is writable")
	for _, text := range l.spy.Sent() {
		sent = append(sent, onOneLine(text), onOneLine(forCluster.ReplaceAllString(text, "")))
	}
	return sent
}
