package namedlock_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
)

// Every exported Err… variable of the package has a type.
func TestEverySentinelHasAnErrorType(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errortype.go", nil, 0)
	require.NoError(t, err)
	listed := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			listed[id.Name] = true
		}
		return true
	})
	sentinels := exportedErrors(t)
	require.Contains(t, sentinels, "ErrTimeout")
	for _, name := range sentinels {
		assert.True(t, listed[name], "%s is not in errorTypes", name)
	}
	types := 0
	for range namedlock.ErrorTypes() {
		types++
	}
	assert.Equal(t, len(sentinels)+2, types, "with the two errors of contexts")
}

// exportedErrors returns the names of the package's exported Err… variables.
func exportedErrors(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, 0)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			vars, ok := decl.(*ast.GenDecl)
			if !ok || vars.Tok != token.VAR {
				continue
			}
			for _, spec := range vars.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// The types are distinct and suitable for labels. The documentation has each.
// An error that matches several has the first one.
func TestErrorType(t *testing.T) {
	assert.Empty(t, namedlock.ErrorType(nil))
	assert.Equal(t, "other", namedlock.ErrorType(errors.New("another")))

	source, err := os.ReadFile("errortype.go")
	require.NoError(t, err)
	doc := string(source)
	doc = doc[strings.Index(doc, "// ErrorType returns"):strings.Index(doc, "func ErrorType(")]
	seen := map[string]bool{}
	for typ, sentinel := range namedlock.ErrorTypes() {
		assert.Regexp(t, "^[a-z_]+$", typ)
		assert.False(t, seen[typ], "twice: %s", typ)
		seen[typ] = true
		assert.Regexp(t, regexp.MustCompile(`\s`+typ+`\b`), doc)
		wrapped := fmt.Errorf("wrapped: %w", &namedlock.Error{Op: namedlock.OpAcquire, Name: "report", Err: sentinel})
		assert.Equal(t, typ, namedlock.ErrorType(wrapped))
		assert.Equal(t, typ, namedlock.ErrorType(errors.Join(errors.New("fn's own"), wrapped)))
	}
	assert.Equal(t, "lost", namedlock.ErrorType(errors.Join(context.Canceled, namedlock.ErrLost)))
	assert.Equal(t, "deadline_exceeded", namedlock.ErrorType(errors.Join(namedlock.ErrTimeout, context.DeadlineExceeded)))
	for first := range namedlock.ErrorTypes() {
		assert.Equal(t, "commit_unknown", first, "a loop may end early")
		break
	}
}
