package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names of up to 64 characters are accepted everywhere and stored without
// change, whatever their bytes.
func TestPromise21_SixtyFourCharacters(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, params := range []string{"interpolateParams=false", "interpolateParams=true", "charset=utf8"} {
			f, l := at.foreign(t), at.lockerOn(t, at.open(t, params))
			for _, r := range []string{"n", "é", "ж", "漢", "\uFFFD", "\uFFFF", " "} {
				unique := newName("")
				name := unique + strings.Repeat(r, 64-utf8.RuneCountInString(unique))
				require.NoError(t, l.WithLock(t.Context(), name, 0, func(context.Context) error {
					assert.NotZero(t, f.holder(name), "the server has another name than %q", name)
					assert.True(t, f.get(name[:len(name)-len(r)], 0), "one character less is another name")
					assert.Len(t, at.sessionsAt(t, name), 1)
					return nil
				}), "%s, %q", params, r)
				f.free(name)
				tooLong := name + r
				requireError(t, l.WithLock(t.Context(), tooLong, 0, unexpected(t)), namedlock.ErrInvalidName, tooLong)
			}
		}
	})
}

// The namespace is part of the server's name and of its length. The caller does
// not see it.
func TestPromise21_NamespaceCounts(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		prefix := newName("é") + "/"
		l, other, f := at.locker(t, namedlock.WithNamespace(prefix)), at.locker(t), at.foreign(t)
		longest := strings.Repeat("n", 64-utf8.RuneCountInString(prefix))
		lock, err := l.Acquire(t.Context(), longest, 0)
		require.NoError(t, err)
		assert.Equal(t, longest, lock.Name())
		assert.NotZero(t, f.holder(prefix+longest))
		assert.Zero(t, f.holder(longest))
		requireError(t, other.WithLock(t.Context(), prefix+longest, 0, unexpected(t)), namedlock.ErrTimeout, prefix+longest)
		require.NoError(t, other.WithLock(t.Context(), longest, 0, nothing))
		require.NoError(t, lock.Release())
		requireError(t, l.WithLock(t.Context(), longest+"n", 0, unexpected(t)), namedlock.ErrInvalidName, longest+"n")
	})
}

// The server receives a name as it was written, also if another spelling of the
// name was served before.
func TestPromise21_SentAsWritten(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.spied(t), newName("Written")+"É"
		for _, written := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			l.spy.Reset()
			require.NoError(t, l.WithLock(t.Context(), written, 0, nothing))
			var args []any
			for _, st := range l.spy.Statements() {
				if len(st.Args) > 0 {
					args = append(args, st.Args[0])
				}
			}
			assert.Equal(t, []any{written, written}, args)
		}
	})
}

// For every character of the Basic Multilingual Plane: the server stores it. If
// the server treats two characters as one, so does this process.
func TestPromise09_FoldIsAsCoarseAsTheServer(t *testing.T) {
	t.Parallel()
	const batch = 256
	onEachServer(t, func(t *testing.T, srv *server) {
		f := srv.foreign(t)
		prefix := newName("rune")
		stored := map[string][]rune{} // by the form that the server stores
		take := func(runes []rune) {
			var query strings.Builder
			var args []any
			for i, r := range runes {
				if i > 0 {
					query.WriteString(" + ")
				}
				query.WriteString("GET_LOCK(?, 0)")
				args = append(args, fmt.Sprintf("%s-%04x-%c", prefix, r, r))
			}
			require.EqualValues(t, len(runes), f.number("SELECT "+query.String(), args...), "from %U", runes[0])
			for _, c := range srv.claims(t) {
				rest, ours := strings.CutPrefix(c.name, prefix+"-")
				if !ours {
					continue
				}
				var r rune
				_, err := fmt.Sscanf(rest, "%04x-", &r)
				require.NoError(t, err)
				stored[rest[len("0000-"):]] = append(stored[rest[len("0000-"):]], r)
			}
			require.EqualValues(t, len(runes), f.number("SELECT RELEASE_ALL_LOCKS()"))
		}
		var runes []rune
		total := 0
		for r := rune(1); r <= 0xFFFF; r++ {
			if 0xD800 <= r && r <= 0xDFFF {
				continue
			}
			runes = append(runes, r)
			total++
			if len(runes) == batch || r == 0xFFFF {
				take(runes)
				runes = nil
			}
		}

		seen := 0
		for name, alike := range stored {
			seen += len(alike)
			for _, r := range alike {
				assert.Equal(t, names.Fold(string(alike[0])), names.Fold(string(r)), "the server takes %U %c and %U %c for %q", alike[0], alike[0], r, r, name)
				assert.Equal(t, names.Fold(name), names.Fold(string(r)))
				assert.NoError(t, names.Check(string(r)))
			}
		}
		assert.Equal(t, total, seen)
		t.Logf("%d names, %d different", total, len(stored))
	})
}

// No server changes a name that SafeName made, or treats two of them as one.
func TestPromise21_SafeNamesStayApart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../testdata/safename.json")
	require.NoError(t, err)
	var vectors []struct{ Name string }
	require.NoError(t, json.Unmarshal(text, &vectors))
	onEachServer(t, func(t *testing.T, srv *server) {
		var want, got []string
		f, namespace := srv.foreign(t), newName("safe")+"/"
		for _, v := range vectors {
			f.lock(namespace + v.Name)
			want = append(want, namespace+v.Name)
		}
		for _, c := range srv.claims(t) {
			if c.session == f.id {
				got = append(got, c.name)
			}
		}
		assert.ElementsMatch(t, want, got)
	})
}
