package stats_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every drop counter of the module is forced to rise by a test of its own package, which
// names the reason by the same string literal.
func TestEveryDropReasonIsTested(t *testing.T) {
	root := moduleRoot(t)
	reasons := make(map[string]map[string]bool) // folder -> reasons registered there
	literals := make(map[string]map[string]bool)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if base := d.Name(); rel != "." && (strings.HasPrefix(base, ".") || base == "testdata" || rel == "examples") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(rel) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if strings.HasSuffix(rel, "_test.go") {
			collect(literals, path.Dir(rel), stringLiterals(f))
		} else {
			collect(reasons, path.Dir(rel), dropReasons(f))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(reasons) == 0 {
		t.Errorf("no drop counters found below %s", root)
	}
	for dir, all := range reasons {
		for reason := range all {
			if !literals[dir][reason] {
				t.Errorf("%s: drop reason %s is named by no test of the package", dir, reason)
			}
		}
	}
}

func collect(into map[string]map[string]bool, dir string, found []string) {
	if into[dir] == nil {
		into[dir] = make(map[string]bool)
	}
	for _, s := range found {
		into[dir][s] = true
	}
}

// dropReasons are the string literals given to a method Drop, quoted as in the source.
func dropReasons(f *ast.File) (found []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Drop" {
			return true
		}
		if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			found = append(found, lit.Value)
		}
		return true
	})
	return found
}

func stringLiterals(f *ast.File) (found []string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			found = append(found, lit.Value)
		}
		return true
	})
	return found
}

func TestDropReasonsAreFound(t *testing.T) {
	const src = `package p
var a = st.Drop("first")
func f() { c := set.Stage("x").Drop("second"); c.Inc(); st.Note("third"); Drop("fourth") }`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dropReasons(f), []string{`"first"`, `"second"`}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if got := stringLiterals(f); len(got) != 5 {
		t.Errorf("string literals: %v", got)
	}
}

// moduleRoot is the folder that holds go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}
