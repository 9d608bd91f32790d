package printable

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"":                             "",
		"billing 2":                    "billing 2",
		`C:\new "é" 日本 🔒`:              `C:\new "é" 日本 🔒`,
		"a\nb\r\tc":                    `a\nb\r\tc`,
		"\x1b[31mred\x1b[0m":           `\x1b[31mred\x1b[0m`,
		"\x00\x7f\u0085\u009b":         `\x00\x7f\u0085\u009b`,
		"a\u2028b\u2029c\u202ed":       `a\u2028b\u2029c\u202ed`,
		"\u00a0\u200b\ufeff\U000e0001": `\u00a0\u200b\ufeff\U000e0001`,
		"\xffa\xc3":                    `\xffa\xc3`,
		"\uFFFD":                       "\uFFFD",
	} {
		assert.Equal(t, want, Text(s))
		assert.Equal(t, want, Text(want), "twice is once")
	}
}

func TestAttr(t *testing.T) {
	plain, forged := errors.New("refused"), errors.New("a\nb")
	assert.Equal(t, `a\nb`, Attr(slog.String("k", "a\nb")).Value.String())
	assert.Equal(t, []string{`a\nb`, "c"}, Attr(slog.Any("k", []string{"a\nb", "c"})).Value.Any())
	assert.Equal(t, slog.Int("k", 7), Attr(slog.Int("k", 7)))
	assert.Same(t, plain, Attr(slog.Any("k", plain)).Value.Any())
	err, ok := Attr(slog.Any("k", forged)).Value.Any().(error)
	assert.True(t, ok)
	assert.EqualError(t, err, `a\nb`)
	assert.ErrorIs(t, err, forged)
}
