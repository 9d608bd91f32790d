package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names, programs, users and the texts of servers are not trusted. All output
// of the command goes through clean.

// clean quotes characters that are not printable, as Go does. They could move a
// terminal's cursor, or break a line.
func clean(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if part := text[:size]; unicode.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			out.WriteString(part)
		} else {
			quoted := strconv.Quote(part)
			out.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return out.String()
}

// oneLine returns the text of err in one line, without the prefix of the
// library's errors, for the mails of cron. It leaves out an option of the
// library, which the command does not have.
func oneLine(err error) string {
	text := strings.ReplaceAll(err.Error(), ", or override with WithoutServerCheck", "")
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, prefix)
	}
	return strings.Join(lines, "; ")
}

const prefix = "namedlock: "

// sayTo writes a message of this command, in one line.
func sayTo(w io.Writer, text string) { _, _ = fmt.Fprintf(w, "%s%s\n", prefix, clean(text)) }

func print(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

// printJSON escapes characters that are not printable, even if JSON allows
// them.
func printJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	var out strings.Builder
	for _, r := range text.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return print(w, out.String())
}
