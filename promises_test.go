package namedlock_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-namedlock/namedlock/locktest"
)

var (
	promiseHeading = regexp.MustCompile(`(?m)^### (\d+)\. .+$`)
	promiseTest    = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)\\w+|Run/\\w+)`")
	promiseLink    = regexp.MustCompile(`Documentation: \[[^\]]+\]\((\w+\.md)#([\w-]+)\)`)
	promiseNumber  = regexp.MustCompile(`^(?:TestPromise|Run/)(\d\d)`)
)

// docs/PROMISES.md and the tests agree: each promise names tests that exist, or
// a place in the documentation, and each test that has a number in its name has
// a promise.
func TestThePromisesHaveTests(t *testing.T) {
	page, err := os.ReadFile("docs/PROMISES.md")
	require.NoError(t, err)
	promises := promiseHeading.FindAllSubmatchIndex(page, -1)
	require.NotEmpty(t, promises)
	tests := testsOfTheRepository(t)
	numbers := make(map[string]bool)
	for i, at := range promises {
		end := len(page)
		if i+1 < len(promises) {
			end = promises[i+1][0]
		}
		number, text := string(page[at[2]:at[3]]), string(page[at[0]:end])
		assert.False(t, numbers[number], "there are two promises %s", number)
		numbers[number] = true
		named := promiseTest.FindAllStringSubmatch(text, -1)
		for _, n := range named {
			assert.True(t, tests[n[1]+"."+n[2]], "promise %s names %s.%s, which does not exist", number, n[1], n[2])
		}
		link := promiseLink.FindStringSubmatch(text)
		assert.True(t, len(named) > 0 || link != nil, "promise %s names no test", number)
		if link != nil {
			assert.Contains(t, anchorsOf(t, "docs/"+link[1]), link[2], "promise %s", number)
		}
	}
	for test := range tests {
		_, name, _ := strings.Cut(test, ".")
		if n := promiseNumber.FindStringSubmatch(name); n != nil && n[1] != "00" {
			assert.True(t, numbers[strings.TrimPrefix(n[1], "0")], "%s is about a promise that docs/PROMISES.md does not have", test)
		}
	}
}

// testsOfTheRepository returns all test functions, by the folder of their
// package ("namedlock" is the root) and their name, and the tests of the
// conformance kit.
func testsOfTheRepository(t *testing.T) map[string]bool {
	tests := make(map[string]bool)
	forEachGoFile(t, func(file string, syntax *ast.File) {
		folder := path.Dir(file)
		if folder == "." {
			folder = "namedlock"
		}
		for _, decl := range syntax.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasSuffix(file, "_test.go") {
				tests[folder+"."+f.Name.Name] = true
			}
		}
		if file != "locktest/conformance.go" {
			return
		}
		kit := regexp.MustCompile(`^"\w+_\w+"$`)
		ast.Inspect(syntax, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && kit.MatchString(text.Value) {
				tests["locktest.Run/"+strings.Trim(text.Value, `"`)] = true
			}
			return true
		})
	})
	return tests
}

// goFiles are all Go files of the repository, by names with slashes. They are
// parsed once, however often the tests run.
var goFiles = sync.OnceValues(func() (parsed map[string]*ast.File, err error) {
	parsed = make(map[string]*ast.File)
	files := token.NewFileSet()
	return parsed, filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(file) != ".go" {
			return nil
		}
		parsed[filepath.ToSlash(file)], err = parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
		return err
	})
})

func forEachGoFile(t *testing.T, f func(file string, syntax *ast.File)) {
	files, err := goFiles()
	require.NoError(t, err)
	for file, syntax := range files {
		f(file, syntax)
	}
}

// A Locker with hooks is a *namedlock.Locker, and the test double has hooks. A
// value that a hook adds to a context is in fn's context.
//
// No hook runs between GET_LOCK and the deferred release. A hook that panics is
// logged. A hook that exits is an exit of fn. In both cases the statements are
// those of a cycle without hooks.
func TestPromise39_HooksOfOneType(t *testing.T) {
	double := locktest.New()
	var _ *namedlock.Locker = double.Locker
	require.NoError(t, double.Close())

	synctest.Test(t, func(t *testing.T) {
		server, log := memserver.New(), new(bytes.Buffer)
		db := server.Open()
		defer db.Close()
		bad := false
		type span struct{}
		var order []string
		see := func(what string) {
			order = append(order, what)
			if bad {
				panic("a bad hook")
			}
		}
		l, err := namedlock.Open(db, namedlock.WithLogger(textLogger(log)), namedlock.WithHooks(namedlock.Hooks{
			AcquireStarted: func(ctx context.Context, _ namedlock.Event) context.Context {
				assert.Len(t, server.Sent("GET_LOCK("), len(server.Sent("RELEASE_LOCK(")), "before the lock")
				see("started")
				return context.WithValue(ctx, span{}, "a span")
			},
			Acquired: func(ctx context.Context, _ namedlock.Event) context.Context {
				see("acquired")
				return ctx
			},
			Released: func(context.Context, namedlock.Event) {
				assert.Len(t, server.Sent("GET_LOCK("), len(server.Sent("RELEASE_LOCK(")), "after the release")
				see("released")
			},
		}))
		require.NoError(t, err)
		for _, bad = range []bool{false, true} {
			require.NoError(t, l.WithLock(t.Context(), "report", 0, func(ctx context.Context) error {
				if !bad {
					assert.Equal(t, "a span", ctx.Value(span{}))
				}
				order = append(order, "fn")
				return nil
			}))
		}
		require.NoError(t, l.Close())
		cycle := []string{"started", "acquired", "fn", "released"}
		assert.Equal(t, slices.Concat(cycle, cycle), order)
		assert.Equal(t, 3, strings.Count(log.String(), "a hook panicked"))
		assert.Len(t, server.Sent("RELEASE_LOCK("), 2)
	})
}

// The behaviour of the library cannot depend on the test binary: no package of
// it looks for one.
func TestPromise47_NothingDependsOnBeingTested(t *testing.T) {
	forEachGoFile(t, func(file string, syntax *ast.File) {
		library := path.Dir(file) == "." || strings.HasPrefix(file, "internal/") && !strings.HasPrefix(file, "internal/lateness/")
		if strings.HasSuffix(file, "_test.go") || !library {
			return
		}
		for _, imported := range syntax.Imports {
			assert.NotContains(t, []string{`"flag"`, `"testing"`, `"testing/synctest"`, `"runtime/debug"`}, imported.Path.Value, file)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if used, ok := n.(*ast.SelectorExpr); ok {
				if of, ok := used.X.(*ast.Ident); ok {
					assert.NotContains(t, []string{"os.Args", "os.Executable"}, of.Name+"."+used.Sel.Name, file)
				}
			}
			return true
		})
	})
}
