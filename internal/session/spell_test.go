package session

import (
	"database/sql/driver"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// spelt is what every server reads as one name and one number, whatever its sql_mode
// and character set.
var spelt = regexp.MustCompile(`^SELECT GET_LOCK\('([A-Za-z0-9_.:/@+=-]*)', (-?\d+(?:\.\d+)?)\)$`)

// FuzzSpellOut: a statement with its arguments in its text can be read in one way only,
// and says what they said. A name that is plain is spelt out.
func FuzzSpellOut(f *testing.F) {
	for _, name := range []string{"", "nightly-report", "Az09-_.:/@+=", "it's", `a\b`, `a\'b`, `"q"`, "what?", "é", "`", "100%", "a;b", "/*c*/", "-- d", "tab\t", "a\x00", "\xff'", "\u02bc", "＇"} {
		f.Add(name, int64(0))
		f.Add(name, int64(1500*time.Millisecond))
	}
	f.Fuzz(func(t *testing.T, name string, wait int64) {
		for _, number := range []any{wait, time.Duration(wait).Seconds()} {
			text, ok := spellOut(getLock, []driver.Value{name, number})
			strange := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+=")
			require.Equal(t, strange == "", ok, "%q", name)
			if !ok {
				continue
			}
			assert.Equal(t, 2, strings.Count(text, "'"))
			m := spelt.FindStringSubmatch(text)
			require.NotNil(t, m, "%q", text)
			assert.Equal(t, name, m[1])
			got, err := strconv.ParseFloat(m[2], 64)
			require.NoError(t, err)
			switch number := number.(type) {
			case int64:
				assert.Equal(t, strconv.FormatInt(number, 10), m[2])
			case float64:
				assert.Equal(t, number, got)
			}
		}
	})
}

// What is not fully understood is not spelt out.
func TestSpellOut_Refuses(t *testing.T) {
	for _, args := range [][]driver.Value{{[]byte("a"), int64(0)}, {nil, int64(0)}, {"a", true}, {"a", int64(0), int64(0)}} {
		_, ok := spellOut(getLock, args)
		assert.False(t, ok, "%v", args)
	}
}
