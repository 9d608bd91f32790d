package namedlock

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
)

// The parts of a name from SafeName: a prefix, a dash and 32 characters of a
// hash, or a name that was safe before.
const (
	safeLength   = 48
	prefixLength = 15
	hashLength   = 32 // of 160 bits, five a character
)

// hashEncoding has only digits and letters of one case, so that no server
// treats two hashes as one.
var hashEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

// SafeName returns one valid lock name for any strings, for example for a
// customer's name, a path, or a key of several columns. Every server stores the
// name unchanged, and no server treats two such names as one, whatever its rule
// for letter case is. The name has at most 48 characters, which leaves 16 for
// [WithNamespace], or 11 with [Locker.WithSlot].
//
// A single string stays as it is if it has 1 to 48 characters, all of them a to
// z, 0 to 9 or -_.:/@+=. (A string that looks like a name with a hash does not
// stay.) Anything else becomes a prefix of up to 15 readable characters, a
// dash, and 160 bits of the SHA-256 of the list of parts:
//
//	SafeName("nightly-report")      nightly-report
//	SafeName("Customer", "Émile")   customer:mile-uet35ltnqywlrbsx3juwakyoe6t5greu
//
// Different lists get different names, for example ("a:b", "c") and ("a",
// "b:c"), or ("") and (). Only a collision of the hash could give two lists one
// name. Foo and foo are different. Apply SafeName once: applied to a name with
// a hash, it returns another name.
//
// The outputs are part of the contract. They never change between versions,
// because processes with different versions have to agree.
func SafeName(parts ...string) string {
	if len(parts) == 1 && isSafe(parts[0]) {
		return parts[0]
	}
	// The length of each part comes before it, so that different lists are
	// written differently.
	var list []byte
	for _, part := range parts {
		list = binary.BigEndian.AppendUint64(list, uint64(len(part)))
		list = append(list, part...)
	}
	sum := sha256.Sum256(list)
	return readable(strings.Join(parts, ":")) + "-" + hashEncoding.EncodeToString(sum[:20])
}

// isSafe reports whether name can stay as it is.
func isSafe(name string) bool {
	if name == "" || len(name) > safeLength {
		return false
	}
	for i := range len(name) {
		if !isPortable(name[i]) {
			return false
		}
	}
	return !isHashed(name)
}

// isHashed reports whether name has the form of a name with a hash.
func isHashed(name string) bool {
	prefix := len(name) - hashLength - len("-")
	if prefix < 1 || prefix > prefixLength || name[prefix] != '-' {
		return false
	}
	for _, c := range name[prefix+1:] {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

const punctuation = "-_.:/@+="

func isPunctuation(c byte) bool { return strings.IndexByte(punctuation, c) >= 0 }

func isPortable(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || isPunctuation(c)
}

// readable returns the first portable characters of text, in lower case, with a
// dash for the characters between them. A person can recognize the text by
// them.
func readable(text string) string {
	var b strings.Builder
	gap := false // something was left out
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case !isPortable(c):
			gap = true
			continue
		case isPunctuation(c):
			gap = false
		case gap:
			if b.Len() > 0 && !isPunctuation(b.String()[b.Len()-1]) {
				b.WriteByte('-')
			}
			gap = false
		}
		b.WriteByte(c)
		if b.Len() >= prefixLength {
			break
		}
	}
	prefix := strings.Trim(b.String()[:min(b.Len(), prefixLength)], punctuation)
	if prefix == "" {
		return "lock"
	}
	return prefix
}
