package server

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The only text that every server reads as one name and one number, whatever
// its sql_mode and character set.
var spelt = regexp.MustCompile(`^SELECT GET_LOCK\((?:'([A-Za-z0-9_.:/@+=-]*)'|_utf8mb4 0x((?:[0-9A-F]{2})+)), (-?\d+(?:\.\d+)?)\)$`)

// FuzzSpellOut checks that a statement with its arguments in its text can be
// read in only one way, and contains the same arguments. A plain name stays
// readable where that is safe.
func FuzzSpellOut(f *testing.F) {
	for _, name := range []string{"", "nightly-report", "Az09-_.:/@+=", "it's", `a\b`, `a\'b`, `"q"`, "what?", "é", "`", "100%", "a;b", "/*c*/", "-- d", "tab\t", "a\x00", "\xff'", "\u02bc", "＇"} {
		f.Add(name, int64(0))
		f.Add(name, int64(1500*time.Millisecond))
	}
	f.Fuzz(func(t *testing.T, name string, wait int64) {
		for _, c := range []*Conn{{}, {greeting: new(greeting)}, {greeting: new(greeting), literals: true}} {
			for _, number := range []any{wait, time.Duration(wait).Seconds()} {
				text := c.spellOut("SELECT "+getLock, named(name, number))
				m := spelt.FindStringSubmatch(text)
				require.NotNil(t, m, "%q", text)
				strange := strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+=")
				literal, err := hex.DecodeString(m[2])
				require.NoError(t, err)
				require.Equal(t, name, m[1]+string(literal))
				if name != "" {
					require.Equal(t, strange != "" || c.greeting == nil || c.literals, m[2] != "", "%q", text)
				}
				got, err := strconv.ParseFloat(m[3], 64)
				require.NoError(t, err)
				switch number := number.(type) {
				case int64:
					assert.Equal(t, strconv.FormatInt(number, 10), m[3])
				case float64:
					assert.Equal(t, number, got)
				}
			}
		}
	})
}
