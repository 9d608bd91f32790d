package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var namesSeed = flag.Uint64("names.seed", 0, "seed of the random names; 0: a different seed each time")

// The names are random, from the whole Basic Multilingual Plane. Each is
// compared with a variant that a server may treat as the same name.
func TestPromise21_RandomNames(t *testing.T) {
	t.Parallel()
	seed := *namesSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-names.seed %d", seed)
	onEachServer(t, func(t *testing.T, srv *server) {
		at, random := newNamesTest(t, srv), rand.New(rand.NewPCG(seed, 0))
		alike := 0
		for range 400 {
			name := randomName(random)
			if at.requireAgreement(t, name, variantOf(random, name)) {
				alike++
			}
		}
		t.Logf("%d of 400 pairs are one lock", alike)
	})
}

// FuzzNames does the same for names from the fuzzer: go test -C e2e -run '^$'
// -fuzz FuzzNames -parallel 1
func FuzzNames(f *testing.F) {
	for _, pair := range [][2]string{
		{"foo", "FOO"}, {"é", "É"}, {"é", "e"}, {"σ", "ς"}, {"İ", "i"}, {"ı", "I"}, {"ß", "ẞ"}, {"K", "\u212A"}, {"ǆ", "ǅ"}, {"Ⅷ", "ⅷ"},
		{"a", "a "}, {"a", "ａ"}, {"e\u0301", "é"}, {"it's", `it"s`}, {`a\b`, "a\\\\b"}, {"\uFFFD", "\uFFFF"}, {"\u200b", ""}, {"a\x00b", "a"},
	} {
		f.Add(pair[0], pair[1])
	}
	// The Lockers are made here. In the fuzz function, a worker panics, with a
	// text that Go does not print, if one input takes 10 s. Ten connections for
	// each input would take most of the time.
	var all []*namesTest
	for _, kind := range on().Kinds {
		srv, err := shared[kind]()
		if err != nil {
			servers.SkipOrFail(f, err)
		}
		all = append(all, newNamesTest(f, srv))
	}
	f.Fuzz(func(t *testing.T, name, other string) {
		if names.Check("0/"+name) != nil || names.Check("0/"+other) != nil || utf8.RuneCountInString(name) > 40 || utf8.RuneCountInString(other) > 40 {
			t.Skip()
		}
		for _, at := range all {
			at.holder.t, at.speller.t, at.prefix = t, t, newName("")+"/"
			at.requireAgreement(t, name, other)
		}
	})
}

// A namesTest queries a server about names in three ways.
type namesTest struct {
	prefix           string
	prepares, spells *locker  // how names are sent at first
	holder           *foreign // receives names as arguments
	speller          *foreign // receives names in the text of the statement
}

func newNamesTest(t testing.TB, srv *server) *namesTest {
	t.Helper()
	conn, err := srv.open(t, "interpolateParams=true").Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &namesTest{
		prefix:   newName("") + "/",
		prepares: setup{srv, byNew}.locker(t),
		spells:   setup{srv, byOpen}.locker(t),
		holder:   srv.foreign(t),
		speller:  &foreign{t: t, conn: conn},
	}
}

// requireAgreement fails the test unless the server accepts both names, and
// reads them the same however they are sent. If the server treats them as one
// lock, Fold must also do so. It reports whether the server treats them as one
// lock.
func (at *namesTest) requireAgreement(t *testing.T, name, other string) (same bool) {
	t.Helper()
	name, other = at.prefix+name, at.prefix+other
	require.NoError(t, names.Check(name), "%+q", name)
	require.NoError(t, names.Check(other), "%+q", other)

	require.True(t, at.holder.get(name, 0), "the server accepts %+q", name)
	assert.Equal(t, at.holder.id, at.speller.holder(name), "as a literal: %+q", name)
	same = !at.speller.get(other, 0)
	assert.Equal(t, same, at.holder.holder(other) == at.holder.id, "%+q and %+q", name, other)
	if same {
		assert.Equal(t, names.Fold(name), names.Fold(other), "the server takes %+q and %+q for one", name, other)
	} else {
		at.speller.unlock(other)
	}
	at.holder.unlock(name)

	for _, l := range []*locker{at.prepares, at.spells} {
		require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
			assert.NotZero(t, at.holder.holder(name), "%+q", name)
			assert.NotZero(t, at.speller.holder(name), "%+q", name)
			return nil
		}), "%+q", name)
	}
	return same
}

// randomName returns up to 20 characters: ASCII, letters with cases, or any
// characters.
func randomName(random *rand.Rand) string {
	name := make([]rune, 1+random.IntN(20))
	for i := range name {
		switch random.IntN(3) {
		case 0:
			name[i] = 1 + random.Int32N(utf8.RuneSelf-1)
		case 1:
			for name[i] = randomRune(random); unicode.SimpleFold(name[i]) == name[i]; {
				name[i] = randomRune(random)
			}
		default:
			name[i] = randomRune(random)
		}
	}
	return string(name)
}

// randomRune returns any character of the Basic Multilingual Plane except NUL.
func randomRune(random *rand.Rand) rune {
	for {
		if r := 1 + random.Int32N(0xFFFF); !unicode.Is(unicode.Cs, r) {
			return r
		}
	}
}

// variantOf changes the case of some characters, and replaces a character in
// one of 50 cases.
func variantOf(random *rand.Rand, name string) string {
	changes := []func(rune) rune{unicode.SimpleFold, unicode.ToUpper, unicode.ToLower, unicode.ToTitle, func(r rune) rune { return r }}
	variant := []rune(name)
	for i, r := range variant {
		variant[i] = changes[random.IntN(len(changes))](r)
		if random.IntN(50) == 0 {
			variant[i] = randomRune(random)
		}
		if variant[i] > 0xFFFF {
			variant[i] = r
		}
	}
	return string(variant)
}
