package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// The longest files in lines.
const (
	maxLines     = 600
	maxTestLines = 900
)

// Sizes checks that no file is longer than a reader can keep in mind.
func (m *Module) Sizes() []Problem {
	var out []Problem
	for _, f := range m.Files {
		limit := maxLines
		if f.IsTest() {
			limit = maxTestLines
		}
		if n := bytes.Count(f.Src, []byte("\n")); n > limit {
			out = append(out, Problem{Path: f.Path, Text: fmt.Sprintf("%d lines, at most %d: split it by nouns", n, limit)})
		}
	}
	return out
}

// Skips checks that a test which does not run says why.
func (m *Module) Skips() []Problem {
	var out []Problem
	for _, f := range m.Files {
		m.calls(f, func(call *ast.CallExpr, _, name string) {
			if name == "SkipNow" || name == "Skip" && len(call.Args) == 0 {
				out = append(out, m.problem(f, call, "a skipped test says why: Skip(\"...\")"))
			}
		})
	}
	return out
}

// Globals checks that importing a package does nothing and that the library reads no
// environment. Programs under examples may read theirs.
func (m *Module) Globals() []Problem {
	var out []Problem
	for _, f := range m.Files {
		if f.IsTest() || helpsTests(f.Dir()) || within(f.Dir(), "examples") {
			continue
		}
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				out = append(out, m.problem(f, fn, "no init functions: importing a package does nothing"))
			}
		}
		m.calls(f, func(call *ast.CallExpr, pkg, name string) {
			if pkg == "os" && (strings.HasSuffix(name, "env") || name == "LookupEnv" || name == "Environ") {
				out = append(out, m.problem(f, call, "os.%s: configuration comes from Config, not from the environment", name))
			}
		})
	}
	return out
}

// calls hands every call of a function in another package, or of a method, to visit: pkg is
// what stands before the dot if that is a plain name.
func (m *Module) calls(f *File, visit func(call *ast.CallExpr, pkg, name string)) {
	ast.Inspect(f.AST, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			pkg := ""
			if x, ok := sel.X.(*ast.Ident); ok {
				pkg = x.Name
			}
			visit(call, pkg, sel.Sel.Name)
		}
		return true
	})
}

// unfinished are marks of unfinished work. They are put together here so that this file does
// not hold them itself.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// Unfinished checks that no text of the module puts work off.
func (m *Module) Unfinished() ([]Problem, error) {
	var out []Problem
	err := fs.WalkDir(m.FS, ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (base == ".git" || base == "testdata"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		case path.Ext(name) != ".go" && path.Ext(name) != ".md" && name != ".ci/run":
			return nil
		}
		src, err := fs.ReadFile(m.FS, name)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(src), "\n") {
			if w := unfinished.FindString(line); w != "" {
				out = append(out, Problem{Path: name, Line: i + 1, Text: w + ": finish it, or file it where work is kept"})
			}
		}
		return nil
	})
	return out, err
}
