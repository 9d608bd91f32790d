package names

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"

	"github.com/go-namedlock/namedlock/internal/fault"
)

func TestCheck(t *testing.T) {
	for _, name := range []string{"a", "nightly-report", strings.Repeat("x", 64), strings.Repeat("€", 64), "é \t", "\uFFFD", "\uFFFF"} {
		assert.NoError(t, Check(name), "%q", name)
	}
	for name, says := range map[string]string{
		"":                      "empty",
		strings.Repeat("x", 65): "65 characters",
		strings.Repeat("€", 65): "65 characters",
		"a\x00b":                "NUL at byte 1",
		"lock 🔒":                "Basic Multilingual Plane",
		"a\xff":                 "byte 1 (0xff) is not valid UTF-8",
		"\xed\xa0\x80":          "not valid UTF-8", // a surrogate half
	} {
		err := Check(name)
		assert.ErrorIs(t, err, fault.ErrInvalidName, "%q", name)
		assert.ErrorContains(t, err, says, "%q", name)
	}
}

func TestFoldIsOneKeyForNamesThatAServerTakesForOne(t *testing.T) {
	for _, same := range [][]string{
		{"foo", "FOO", "Foo"},
		{"é", "É"}, {"Σ", "σ", "ς"}, {"İ", "i", "I"}, {"ǆ", "Ǆ", "ǅ"}, {"Ж", "ж"}, {"Ⅷ", "ⅷ"},
		{"k", "K", "\u212A"}, // the Kelvin sign
		{"s", "S", "ſ"}, {"µ", "μ", "Μ"},
	} {
		for _, name := range same[1:] {
			assert.Equal(t, Fold(same[0]), Fold(name), "%q and %q", same[0], name)
		}
	}
	assert.NotEqual(t, Fold("e"), Fold("é"))
	assert.NotEqual(t, Fold("a"), Fold("a "))
}

func TestFoldOfEveryRuneIsStableAndAgreesWithItsCases(t *testing.T) {
	for r := rune(1); r <= 0xFFFF; r++ {
		if 0xD800 <= r && r <= 0xDFFF {
			continue
		}
		key := Fold(string(r))
		assert.Equal(t, key, Fold(key), "%U folds twice", r)
		assert.Equal(t, key, Fold(string(unicode.SimpleFold(r))), "%U", r)
		assert.Equal(t, Fold("x"+string(r)), "x"+key, "%U behind ASCII", r)
	}
}

func TestFoldOfACommonNameAllocatesNothing(t *testing.T) {
	assert.Zero(t, testing.AllocsPerRun(100, func() { sink = Fold("nightly-report:2026") }))
}

var sink string
