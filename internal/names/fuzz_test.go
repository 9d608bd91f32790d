package names

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/internal/fault"
)

var seeds = []string{
	"", "foo", "FOO", "nightly-report:2026", "İstanbul ǅ ſ", "ςΣσ", "KK\u212A", "µμ", "ß ẞ ss", "Ⱥⱥ", "ᏸꮿ", "a\x00b", "a\xff",
	"\xed\xa0\x80", "\uFFFD", "\uFFFF", "lock 🔒", strings.Repeat("x", 64), strings.Repeat("€", 65), "e\u0301", " ", "\t\n",
}

// FuzzCheck: Check agrees with the rule as the manual would put it, and says so
// by the one sentinel.
func FuzzCheck(f *testing.F) {
	for _, name := range seeds {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n := utf8.RuneCountInString(name)
		valid := utf8.ValidString(name) && 1 <= n && n <= 64 && !strings.ContainsRune(name, 0) &&
			!strings.ContainsFunc(name, func(r rune) bool { return r >= 0x10000 })
		err := Check(name)
		assert.Equal(t, valid, err == nil, "%q: %v", name, err)
		assert.True(t, err == nil || errors.Is(err, fault.ErrInvalidName))
		if ASCII(name) {
			assert.Equal(t, n, len(name))
		}
	})
}

// FuzzFold checks properties of keys. A key is its own key, and as valid as the
// name. It is the same for all letter cases of the name, with and without the
// fast path.
func FuzzFold(f *testing.F) {
	for _, name := range seeds {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if Check(name) != nil {
			t.Skip()
		}
		key := Fold(name)
		assert.Equal(t, key, Fold(key), "folds twice")
		assert.NoError(t, Check(key))
		assert.Equal(t, strings.Map(foldRune, name), key, "the slow path")
		for same, n := name, 0; n < 4; n++ { // the largest orbit has four
			same = strings.Map(unicode.SimpleFold, same)
			assert.True(t, strings.EqualFold(name, same))
			assert.Equal(t, key, Fold(same), "%q", same)
		}
		for _, same := range []string{strings.ToUpper(name), strings.ToLower(name), strings.ToTitle(name)} {
			if strings.EqualFold(name, same) || !strings.ContainsFunc(name, special) {
				assert.Equal(t, key, Fold(same), "%q", same)
			}
		}
	})
}

// special reports whether one of the cases of r is in none of its orbits.
func special(r rune) bool {
	return !strings.EqualFold(string(unicode.ToLower(r)), string(r)) || !strings.EqualFold(string(unicode.ToUpper(r)), string(r)) ||
		!strings.EqualFold(string(unicode.ToTitle(r)), string(r))
}
