package server

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// A name must be the same lock for every session, whatever the session's
// character sets and sql_mode. Where the character sets are known to be
// harmless a name may go as an argument or between quotes. Elsewhere even ASCII
// is not safe: MySQL with client swe7, and MariaDB with connection ucs2, lock
// other names than those that were sent. There it goes as a literal that says
// its own character set and is read byte by byte.

// spellOut puts args into text in the place of its question marks.
func (c *Conn) spellOut(text string, args []driver.Value) string {
	var b strings.Builder
	for _, arg := range args {
		before, after, _ := strings.Cut(text, "?")
		b.WriteString(before)
		text = after
		switch value := arg.(type) {
		case int64:
			b.WriteString(strconv.FormatInt(value, 10))
		case float64:
			b.WriteString(strconv.FormatFloat(value, 'f', -1, 64))
		case string:
			b.WriteString(c.spellName(value))
		default:
			panic(fmt.Sprintf("server: a %T cannot be written as a literal", arg))
		}
	}
	b.WriteString(text)
	return b.String()
}

// afterCode spells out a statement for a session on which code of the user's
// may have run. Without a LIMIT, a sql_select_limit of 0 would leave nothing to
// be evaluated.
func (c *Conn) afterCode(text string, args []driver.Value) string {
	text = c.spellOut(text, args)
	if strings.Contains(text, "SELECT ") && !strings.Contains(text, " FROM ") {
		text += " LIMIT 1"
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
func digits(args []driver.Value) []driver.Value {
	inHex := make([]driver.Value, len(args))
	for i, arg := range args {
		inHex[i] = hex.EncodeToString([]byte(arg.(string)))
	}
	return inHex
}

// plain reports whether text means itself between quotes, to whatever reads it
// on the way.
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

// chooseSpelling decides how names are written from now on. It must not change
// while the session holds locks, or those that it holds might go by other
// names.
func (c *Conn) chooseSpelling() {
	if c.locks == 0 && c.greeting != nil {
		c.literals = !c.greeting.harmless()
	}
}

// selecting is the text of a SELECT of columns.
func (c *Conn) selecting(columns ...string) string { return "SELECT " + c.columns(columns...) }

// columns separates columns by commas. Where s.asBytes is set each is read as
// bytes: see readAsBytes.
func (c *Conn) columns(columns ...string) string {
	if c.asBytes {
		bytes := make([]string, len(columns))
		for i, column := range columns {
			bytes[i] = "CAST(" + column + " AS BINARY)"
		}
		columns = bytes
	}
	return strings.Join(columns, ", ")
}

// readAsBytes is for a session whose numbers the driver cannot read: MariaDB
// sends them in character_set_results, and the driver cannot read numbers in,
// for example, UTF-16.
func (c *Conn) readAsBytes() {
	c.asBytes = true
	c.get = statement{text: c.selecting(getLock), short: true}
	c.release = statement{text: c.selecting(releaseLock), short: true}
}
