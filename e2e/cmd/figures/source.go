package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	mostLinesOfFunction = 50
	mostLinesOfFile     = 400
)

// The packages below the root package, whose lines and fields are counted.
// Those of slots are counted apart: the others do not need that package.
var below = []string{"internal/queue", "internal/pool", "internal/server", "internal/peek"}

const slots = "internal/slot"

// source is the Go code of the core.
type source struct {
	fset     *token.FileSet
	packages []string // folders below the module's: "." and "internal/…"
	files    []file
}

// A file is one Go file of the core.
type file struct {
	folder string // the package's folder, as in packages
	path   string // relative to the module's folder
	lines  int
	syntax *ast.File
}

// A size is a part of the core and its size.
type size struct {
	what string
	n    int
}

// read reads the core. Packages that do not exist are left out.
func read(root string) (*source, error) {
	s := &source{fset: token.NewFileSet()}
	for _, folder := range append([]string{".", slots}, below...) {
		paths, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		if err != nil {
			return nil, err
		}
		before := len(s.files)
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			if err := s.add(root, folder, path); err != nil {
				return nil, err
			}
		}
		if len(s.files) > before {
			s.packages = append(s.packages, folder)
		}
	}
	if len(s.packages) < 3 {
		return nil, fmt.Errorf("only the packages %q of the core are in %s", s.packages, root)
	}
	return s, nil
}

func (s *source) add(root, folder, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(s.fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(syntax) {
		return nil
	}
	below, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	s.files = append(s.files, file{folder, filepath.ToSlash(below), bytes.Count(text, []byte("\n")), syntax})
	return nil
}

// lines returns the lines of the files in the folders, largest first.
func (s *source) lines(folders ...string) (sizes []size) {
	for _, f := range s.files {
		if slices.Contains(folders, f.folder) {
			sizes = append(sizes, size{f.path, f.lines})
		}
	}
	return sorted(sizes)
}

// fields returns the fields of the struct types that are declared in the
// folders, largest first. An embedded field counts, as do the fields of a
// struct inside a struct.
func (s *source) fields(folders ...string) (sizes []size) {
	for _, f := range s.files {
		if !slices.Contains(folders, f.folder) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if n := fieldsIn(t.Type); n > 0 {
				sizes = append(sizes, size{f.folder + "." + t.Name.Name, n})
			}
			return false
		})
	}
	return sorted(sizes)
}

func fieldsIn(t ast.Expr) (n int) {
	ast.Inspect(t, func(node ast.Node) bool {
		s, ok := node.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range s.Fields.List {
			n += max(1, len(field.Names)) + fieldsIn(field.Type)
		}
		return false
	})
	return n
}

// longFunctions returns the functions that are too long, largest first. Their
// comments do not count.
func (s *source) longFunctions() (sizes []size) {
	for _, f := range s.files {
		for _, decl := range f.syntax.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.line(fn.End()) - s.line(fn.Type.Pos()) + 1; n > mostLinesOfFunction {
				sizes = append(sizes, size{f.path + ": " + fn.Name.Name, n})
			}
		}
	}
	return sorted(sizes)
}

func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

// longFiles returns the files that are too long, largest first.
func (s *source) longFiles() (sizes []size) {
	for _, f := range s.files {
		if f.lines > mostLinesOfFile {
			sizes = append(sizes, size{f.path, f.lines})
		}
	}
	return sorted(sizes)
}

func sorted(sizes []size) []size {
	slices.SortStableFunc(sizes, func(a, b size) int { return cmp.Compare(b.n, a.n) })
	return sizes
}

func sum(sizes []size) (n int) {
	for _, s := range sizes {
		n += s.n
	}
	return n
}

func texts(sizes []size) (texts []string) {
	for _, s := range sizes {
		texts = append(texts, fmt.Sprintf("%5d  %s", s.n, s.what))
	}
	return texts
}
