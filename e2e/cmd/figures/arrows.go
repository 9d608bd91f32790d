package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/types"
	"path"
	"slices"
)

// center is the file of the root package through which its files may use each
// other.
const center = "locker.go"

// arrowsBack returns the uses of one file of the root package by another that
// are a part of a circle, except for circles through locker.go.
func (s *source) arrowsBack() (arrows []string) {
	uses := s.uses()
	for from := range uses {
		for to := range uses[from] {
			if reaches(uses, to, from, map[string]bool{center: true}) {
				arrows = append(arrows, fmt.Sprintf("%s uses %s of %s", from, uses[from][to], to))
			}
		}
	}
	slices.Sort(arrows)
	return arrows
}

// uses returns, for each file of the root package, the other files that declare
// what it uses, each with one of the names.
func (s *source) uses() map[string]map[string]string {
	var root []*ast.File
	for _, f := range s.files {
		if f.folder == "." {
			root = append(root, f.syntax)
		}
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{
		Importer: noImports{}, // only what the package itself declares matters
		Error:    func(error) {},
	}
	pkg, _ := config.Check(module, s.fset, root, info)
	uses := make(map[string]map[string]string)
	for id, of := range info.Uses {
		if of.Pkg() != pkg || !of.Pos().IsValid() {
			continue
		}
		from, to := path.Base(s.fset.Position(id.Pos()).Filename), path.Base(s.fset.Position(of.Pos()).Filename)
		if from == to || from == center || to == center {
			continue
		}
		if uses[from] == nil {
			uses[from] = make(map[string]string)
		}
		if name := uses[from][to]; name == "" || of.Name() < name {
			uses[from][to] = of.Name()
		}
	}
	return uses
}

// reaches reports whether from uses to, directly or through other files.
func reaches(uses map[string]map[string]string, from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	for next := range uses[from] {
		if reaches(uses, next, to, seen) {
			return true
		}
	}
	return false
}

// noImports is an importer that finds no package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) {
	return nil, errors.New("not imported")
}
