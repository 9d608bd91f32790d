package namedlock_test

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/names"
)

// A vector is an output of SafeName, which must not change.
type vector struct {
	Parts []string `json:"parts"`
	Name  string   `json:"name"`
}

const safeNames = "testdata/safename.json"

var addVectors = flag.Bool("addvectors", false, "fill in the names that are empty in "+safeNames)

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile(safeNames)
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

func TestSafeNameNeverChanges(t *testing.T) {
	all := vectors(t)
	if *addVectors {
		for i, v := range all {
			if v.Name == "" {
				all[i].Name = namedlock.SafeName(v.Parts...)
			}
		}
		lines := make([]string, len(all))
		for i, v := range all {
			line, err := json.Marshal(v)
			require.NoError(t, err)
			lines[i] = "  " + string(line)
		}
		require.NoError(t, os.WriteFile(safeNames, []byte("[\n"+strings.Join(lines, ",\n")+"\n]\n"), 0o644))
	}
	seen := map[string][]string{}
	for _, v := range all {
		assert.Equal(t, v.Name, namedlock.SafeName(v.Parts...), "%q", v.Parts)
		requireSafe(t, v.Name)
		assert.NotContains(t, seen, v.Name, "%q", v.Parts)
		seen[v.Name] = v.Parts
	}
}

func TestSafeNameOfWhatIsNoUTF8(t *testing.T) {
	assert.Equal(t, "a-b-ce7kbos4pcqfkccn6qyosacf3w2sjj3u", namedlock.SafeName("a\xffb"))
	assert.NotEqual(t, namedlock.SafeName("a\xffb"), namedlock.SafeName("a\uFFFDb"))
}

// requireSafe fails the test unless every server stores name unchanged, with a
// namespace before it, and no server treats it as another safe name.
func requireSafe(t *testing.T, name string) {
	t.Helper()
	require.NoError(t, names.Check(strings.Repeat("é", 16)+name), "%q", name)
	require.Equal(t, name, names.Fold(name))
	require.Equal(t, len(name), utf8.RuneCountInString(name), "%q is not ASCII", name)
}

// FuzzSafeName checks that the names of two lists are valid, and that no server
// treats them as one lock unless the lists are the same.
func FuzzSafeName(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(strings.Join(v.Parts, "\x00"), strings.ToUpper(strings.Join(v.Parts, ":")), ":")
	}
	f.Add("a:b\x00c", "a\x00b:c", ":")
	f.Add("", "\x00", "-")
	f.Add("Foo", "foo", "")
	f.Add("É", "é", "")
	f.Add("ab", "ab", "b")
	f.Fuzz(func(t *testing.T, one, other, joint string) {
		lists := [][]string{
			nil,
			{one}, {other}, {joint},
			strings.Split(one, "\x00"),
			strings.Split(other, "\x00"),
			strings.Split(one, joint),
			{one, joint, other}, {one + joint, other}, {one, joint + other}, {one + joint + other},
			{one, ""}, {"", one}, {strings.ToLower(one)}, {strings.ToUpper(one)},
			{namedlock.SafeName(one)}, {namedlock.SafeName(one, other)},
		}
		for _, a := range lists {
			name := namedlock.SafeName(a...)
			requireSafe(t, name)
			require.Equal(t, name, namedlock.SafeName(slices.Clone(a)...))
			for _, b := range lists {
				if !slices.Equal(a, b) {
					require.NotEqual(t, name, namedlock.SafeName(b...), "%q and %q", a, b)
				}
			}
		}
	})
}
