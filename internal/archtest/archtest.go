// Package archtest checks the rules of this module that no compiler knows: which package may
// import which, what must be documented and how, where queues come from. Its test runs all of
// them over the whole module; tests on small modules in memory show that each can fail.
//
// Rules look at every file, whatever its build constraints. Folders named testdata are left
// out, and so are those whose name begins with a dot or an underscore. What a rule says about
// packages does not hold for packages that help tests: internal/...test, imported by tests
// alone.
package archtest

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ModulePath is the module that the rules are for.
const ModulePath = "github.com/veil-net/anchor"

// Problem is a place that breaks a rule.
type Problem struct {
	Path string // of the file or folder, with slashes, from the module's root
	Line int    // 0 if the whole file or folder is meant
	Text string // which rule, and what to do
}

// String formats p as compilers do.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Path + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Text)
}

// File is a Go file of the module.
type File struct {
	Path string
	Src  []byte
	AST  *ast.File
}

// Dir is the folder of the file, "." for the module's root.
func (f *File) Dir() string { return path.Dir(f.Path) }

// IsTest reports whether the file belongs to tests by its name.
func (f *File) IsTest() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Module is the parsed files of a module. It is not changed by the rules.
type Module struct {
	FS    fs.FS
	Files []*File // sorted by path

	fset *token.FileSet
}

// Load parses the Go files of the module whose root is fsys.
func Load(fsys fs.FS) (*Module, error) {
	m := &Module{FS: fsys, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case name == ".":
			return nil
		case d.IsDir() && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		return m.parse(name)
	})
	if err != nil {
		return nil, fmt.Errorf("archtest: load: %w", err)
	}
	slices.SortFunc(m.Files, func(a, b *File) int { return cmp.Compare(a.Path, b.Path) })
	return m, nil
}

func (m *Module) parse(name string) error {
	src, err := fs.ReadFile(m.FS, name)
	if err != nil {
		return err
	}
	f, err := parser.ParseFile(m.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	m.Files = append(m.Files, &File{Path: name, Src: src, AST: f})
	return nil
}

// problem makes a Problem at a node of a file.
func (m *Module) problem(f *File, n ast.Node, format string, args ...any) Problem {
	return Problem{Path: f.Path, Line: m.fset.Position(n.Pos()).Line, Text: fmt.Sprintf(format, args...)}
}

// helpsTests reports whether the package in a folder exists for tests: internal/...test.
func helpsTests(dir string) bool {
	return strings.Contains("/"+dir, "/internal/") && strings.HasSuffix(dir, "test")
}

// within reports whether a folder is root or lies below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}
