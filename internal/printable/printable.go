// Package printable escapes text from outside, such as the names of programs
// and the errors of a server. In an error or a log line, such text can then
// neither end the line nor move a terminal's cursor.
package printable

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text returns s with every character that is not printable escaped as in a Go
// string literal: \n, \x1b, \u202e, and \xff for a byte that is not UTF-8.
// Printable characters stay unchanged, and so does a backslash, so that
// Text(Text(s)) is Text(s).
func Text(s string) string {
	var b strings.Builder
	done := 0 // s[:done] is in b
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError && size == 1
		if invalid || !strconv.IsPrint(r) {
			b.WriteString(s[done:i])
			if invalid {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			} else {
				quoted := strconv.QuoteRune(r)
				b.WriteString(quoted[1 : len(quoted)-1])
			}
			done = i + size
		}
		i += size
	}
	if done == 0 {
		return s
	}
	return b.String() + s[done:]
}

// Attr returns a with Text applied to its value: a string, a slice of strings,
// or an error. An error still works with errors.Is and errors.As.
func Attr(a slog.Attr) slog.Attr {
	switch value := a.Value.Any().(type) {
	case string:
		return slog.String(a.Key, Text(value))
	case []string:
		texts := make([]string, len(value))
		for i, s := range value {
			texts[i] = Text(s)
		}
		return slog.Any(a.Key, texts)
	case error:
		if text := value.Error(); text != Text(text) {
			return slog.Any(a.Key, shown{value})
		}
	}
	return a
}

// shown is an error whose text is printable.
type shown struct{ error }

func (s shown) Error() string { return Text(s.error.Error()) }

func (s shown) Unwrap() error { return s.error }
