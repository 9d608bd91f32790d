package mysqld

import (
	"context"
	"database/sql"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the library sends, as its package documentation has it.
const (
	beside = " LEFT JOIN information_schema.PROCESSLIST AS p ON p.ID = l.ID" +
		" LEFT JOIN performance_schema.session_connect_attrs AS a ON a.PROCESSLIST_ID = l.ID AND a.ATTR_NAME = 'program_name' LEFT JOIN performance_schema.session_connect_attrs AS i ON i.PROCESSLIST_ID = l.ID AND i.ATTR_NAME = '_pid' LEFT JOIN performance_schema.session_connect_attrs AS h ON h.PROCESSLIST_ID = l.ID AND h.ATTR_NAME = 'client_host'"
	askHolder = holderColumns +
		" FROM (SELECT IS_USED_LOCK(?) AS ID, NULL AS NAME) AS l" + beside
	holderColumns = "SELECT CAST(CONVERT(l.ID USING utf8mb4) AS BINARY), CAST(CONVERT(p.USER USING utf8mb4) AS BINARY), CAST(CONVERT(p.HOST USING utf8mb4) AS BINARY), CAST(CONVERT(p.COMMAND USING utf8mb4) AS BINARY), CAST(CONVERT(p.TIME USING utf8mb4) AS BINARY), CAST(CONVERT(p.INFO USING utf8mb4) AS BINARY), CAST(CONVERT(a.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(i.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(h.ATTR_VALUE USING utf8mb4) AS BINARY), CAST(CONVERT(l.NAME USING utf8mb4) AS BINARY)"

	askHeld = holderColumns +
		" FROM (SELECT t.PROCESSLIST_ID AS ID, m.OBJECT_NAME AS NAME" +
		" FROM performance_schema.metadata_locks AS m JOIN performance_schema.threads AS t ON t.THREAD_ID = m.OWNER_THREAD_ID" +
		" WHERE m.OBJECT_TYPE = 'USER LEVEL LOCK' AND m.LOCK_STATUS = 'GRANTED'" +
		" AND CAST(LEFT(m.OBJECT_NAME, CHAR_LENGTH(?)) AS BINARY) = CAST(LOWER(CONVERT(? USING utf8mb3)) AS BINARY)) AS l" + beside
	askComplete = "SELECT @@performance_schema," +
		" (SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl')," +
		" (SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Performance_schema_metadata_lock_lost')"
)

func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		holder, other := connect(t, s), connect(t, s)
		none := []string{"NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"}
		requireAnswer(t, other, none, askHolder, "É")

		requireAnswer(t, holder, []string{"1"}, "SELECT GET_LOCK(?, ?)", "É", 0)
		time.Sleep(2500 * time.Millisecond)
		requireAnswer(t, other, []string{"1", "locktest", "localhost", "Sleep", "2", "NULL", "test", "NULL", "NULL", "NULL"}, askHolder, "é")
		requireAnswer(t, holder, []string{"1", "locktest", "localhost", "Query", "0", askHolder, "test", "NULL", "NULL", "NULL"}, askHolder, "É")

		// A holder that waits for another lock, and gets it.
		requireAnswer(t, other, []string{"1"}, "SELECT GET_LOCK(?, ?)", "b", 0)
		go func() { _, _ = ask(holder, "SELECT GET_LOCK(?, ?)", "b", 60) }()
		time.Sleep(3 * time.Second)
		requireAnswer(t, other, []string{"1", "locktest", "localhost", "Query", "3", "SELECT GET_LOCK(?, ?)", "test", "NULL", "NULL", "NULL"}, askHolder, "é")
		requireAnswer(t, other, []string{"1"}, "SELECT RELEASE_LOCK(?)", "b")
		requireAnswer(t, other, []string{"1", "locktest", "localhost", "Sleep", "0", "NULL", "test", "NULL", "NULL", "NULL"}, askHolder, "b")
		synctest.Wait()

		requireAnswer(t, holder, []string{"2"}, "SELECT RELEASE_ALL_LOCKS()")
		requireAnswer(t, other, none, askHolder, "É")
	})
}

func TestHeld(t *testing.T) {
	s := New()
	conn := connect(t, s)
	requireAnswer(t, conn, []string{"1", "YES", "0"}, askComplete)
	for _, name := range []string{"a%B", `a\b`, "A_b", "axb", "É"} {
		requireAnswer(t, conn, []string{"1"}, "SELECT GET_LOCK(?, ?)", name, 0)
	}
	for prefix, want := range map[string][]string{
		"":     {"a%b", `a\b`, "a_b", "axb", "é"},
		"a":    {"a%b", `a\b`, "a_b", "axb"},
		"A%":   {"a%b"},
		"a_":   {"a_b"},
		`a\`:   {`a\b`},
		"%":    nil,
		"É":    {"é"},
		"e":    nil,
		"axb":  {"axb"},
		"axbc": nil,
	} {
		assert.Equal(t, want, heldNames(t, conn, prefix), "%q", prefix)
	}
}

// heldNames returns the names among the rows, in their order.
func heldNames(t *testing.T, conn *sql.Conn, prefix string) (names []string) {
	t.Helper()
	rows, err := conn.QueryContext(context.Background(), askHeld, prefix, prefix)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, seconds int64
		var user, host, command, statement, program, name string
		var pid, machine sql.NullString
		require.NoError(t, rows.Scan(&id, &user, &host, &command, &seconds, &statement, &program, &pid, &machine, &name))
		assert.Equal(t, []any{int64(1), "locktest", "localhost", "Query", askHeld, "test"}, []any{id, user, host, command, statement, program})
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

func TestInspect_NotUnderstood(t *testing.T) {
	conn := connect(t, New())
	for query, number := range map[string]uint16{
		askHolder:              1210,
		askHeld:                1210,
		askHolder + " LIMIT 1": 1064,
		"SELECT l.ID FROM (SELECT IS_USED_LOCK(?) AS ID) AS l" + beside: 1064,
		holderColumns + " FROM (SELECT 1) AS l" + beside:                1064,
		"SELECT '": 1064,
	} {
		_, err := ask(conn, query)
		requireErrorNumber(t, err, number)
	}
}
