package server

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A name must be the same lock for every session, whatever the session's
// character sets and sql_mode. If the character sets are known to be harmless,
// a name is sent as an argument, or in quotes. In other character sets even
// ASCII is not safe: MySQL with client swe7, and MariaDB with connection ucs2,
// lock other names than those that were sent. There a name is sent as a literal
// _utf8mb4 0x…, which contains its own character set and is read byte by byte.

// spellOut replaces the question marks in text by args.
func (c *Conn) spellOut(text string, args []driver.NamedValue) string {
	var b strings.Builder
	for _, arg := range args {
		before, after, _ := strings.Cut(text, "?")
		b.WriteString(before)
		text = after
		switch value := arg.Value.(type) {
		case int64:
			b.WriteString(strconv.FormatInt(value, 10))
		case float64:
			b.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
		case string:
			b.WriteString(c.spellName(value))
		default:
			panic(fmt.Sprintf("server: a %T cannot be written as a literal", value))
		}
	}
	b.WriteString(text)
	return b.String()
}

// unlimited returns text with a LIMIT of its own if it is a SELECT. After SET
// sql_select_limit=0, one without a LIMIT would evaluate nothing.
func unlimited(text string) string {
	if strings.Contains(text, "SELECT ") {
		text += " LIMIT 18446744073709551615"
	}
	return text
}

func (c *Conn) spellName(name string) string {
	if c.greeting != nil && !c.literals && !c.hasCode && plain(name) {
		return "'" + name + "'"
	}
	if name == "" {
		return "''" // a prefix may be empty; 0x alone is not a literal
	}
	return "_utf8mb4 0x" + strings.ToUpper(hex.EncodeToString([]byte(name)))
}

// digits returns args with each name in hexadecimal digits: see releaseInHex.
func digits(args []driver.NamedValue) []driver.NamedValue {
	inHex := slices.Clone(args)
	for i, arg := range args {
		inHex[i].Value = hex.EncodeToString([]byte(arg.Value.(string)))
	}
	return inHex
}

// plain reports whether text has the same meaning in quotes to every server and
// proxy, in every sql_mode.
func plain(text string) bool {
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case strings.ContainsRune("-_.:/@+=", r):
		default:
			return false
		}
	}
	return true
}

// chooseSpelling sets how names are spelled from now on. The spelling must not
// change while the session holds locks: they could be released under other
// names.
func (c *Conn) chooseSpelling() {
	if c.locks == 0 && c.greeting != nil {
		c.literals = !c.greeting.harmless
	}
}

// selecting returns the text of a SELECT of columns.
func (c *Conn) selecting(columns ...string) string { return "SELECT " + c.columns(columns...) }

// columns separates columns by commas. On some sessions each is read as bytes.
// MariaDB sends numbers in character_set_results, and in UTF-16 the driver
// cannot parse them. The session may have that character set from the beginning
// (asBytes), or code of the user's may have set it.
func (c *Conn) columns(columns ...string) string {
	if !c.asBytes && !c.hasCode {
		return strings.Join(columns, ", ")
	}
	bytes := make([]string, len(columns))
	for i, column := range columns {
		bytes[i] = "CAST(" + column + " AS BINARY)"
	}
	return strings.Join(bytes, ", ")
}
