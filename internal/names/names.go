// Package names checks whether every server stores a lock name unchanged, and
// reports which names a server may treat as one.
package names

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// MaxLen is the longest name, in characters, that every server accepts: MySQL
// refuses the 65th with error 4163 (before 8.0: 3057), MariaDB goes on to 192
// bytes.
const MaxLen = 64

// Check returns nil if every supported server stores name unchanged. Otherwise
// it returns an error that matches fault.ErrInvalidName, with the reason.
func Check(name string) error {
	if name == "" {
		return invalid("empty; a name has 1 to %d characters", MaxLen)
	}
	length := 0
	for i, r := range name {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(name[i:], "\uFFFD"):
			return invalid("byte %d (0x%02x) is not valid UTF-8", i, name[i])
		case r == 0:
			return invalid("it has a NUL at byte %d, where the server would cut it off", i)
		case r > 0xFFFF:
			return invalid("%q at byte %d lies outside the Basic Multilingual Plane, which MySQL refuses", r, i)
		}
		length++
	}
	if length > MaxLen {
		return invalid("it has %d characters, namespace included: at most %d are allowed", length, MaxLen)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.Because(fault.ErrInvalidName, fault.ErrInvalidName.Error()+": "+fmt.Sprintf(format, args...), nil)
}

// MaxSlots is the highest number of slots of a name. One statement queries all
// of them.
const MaxSlots = 1000

const (
	slotMark = "#"
	gate     = slotMark + "gate" // at least as long as the number of any slot
)

// Gate returns the name of the lock under which callers look for a slot of
// name.
func Gate(name string) string { return name + gate }

// Slot returns the name of the lock that is a slot of name.
func Slot(name string, number int) string { return name + slotMark + strconv.Itoa(number) }

// CheckSlots is Check for a name with n slots.
func CheckSlots(name string, n int) error {
	if n < 1 || n > MaxSlots {
		return fmt.Errorf("invalid number of slots %d: must be 1 to %d", n, MaxSlots)
	}
	if length, most := utf8.RuneCountInString(name), MaxLen-len(gate); length > most {
		return invalid("it has %d characters, namespace included: at most %d are allowed, since the locks of its slots have names like %q", length, most, "…"+gate)
	}
	return Check(name)
}

// ASCII reports whether name has the same bytes in every character set that a
// session can have.
func ASCII(name string) bool {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Fold returns a key that is equal for all names that any supported server
// treats as one lock. It may also be equal for names that a server treats as
// two locks (MySQL: ı and I; MariaDB: foo and FOO).
func Fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.Map(foldRune, name)
		}
	}
	return name
}

// foldRune maps all runes that differ only in letter case to one of them. That
// is the smallest, or its lower case if that is ASCII, so that the most common
// names fold to themselves.
func foldRune(r rune) rune {
	if r == 'İ' {
		return 'i' // in no orbit of Unicode's simple folding, but MySQL takes it for i
	}
	smallest := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		smallest = min(smallest, next)
	}
	if 'A' <= smallest && smallest <= 'Z' {
		return smallest + ('a' - 'A')
	}
	return smallest
}
