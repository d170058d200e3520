package queue_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// exceptions are the bounded channels that no queue can replace, as file:function, each with
// the reason. An entry that excuses nothing fails the test.
var exceptions = map[string]string{}

// A bounded channel is a queue that no registry lists and nobody counts. Outside this
// package, and packages that only tests import (internal/...test), only unbuffered
// channels and wake-up channels of capacity 1 are made.
func TestNoBoundedChannelsElsewhere(t *testing.T) {
	root := moduleRoot(t)
	used := make(map[string]bool)
	files := 0
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
			base := d.Name()
			testOnly := strings.HasPrefix(rel, "internal/") && strings.HasSuffix(base, "test")
			if rel != "." && (strings.HasPrefix(base, ".") || base == "testdata" || rel == "internal/queue" || testOnly) {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(rel) != ".go" || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		files++
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		found, err := boundedChannels(rel, src)
		for _, c := range found {
			if exceptions[c.at] != "" {
				used[c.at] = true
				continue
			}
			t.Errorf("%s (line %d) makes a channel of capacity %s: use internal/queue", c.at, c.line, c.capacity)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("looked at %d files: is %s the module?", files, root)
	}
	for at := range exceptions {
		if !used[at] {
			t.Errorf("exception %s excuses nothing", at)
		}
	}
}

type bounded struct {
	at       string // file:function
	line     int
	capacity string
}

// boundedChannels finds each make of a channel whose capacity is not the literal 0 or 1.
func boundedChannels(name string, src []byte) ([]bounded, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	named := make(map[string]bool) // types of this file that are channels
	ast.Inspect(f, func(n ast.Node) bool {
		if ts, ok := n.(*ast.TypeSpec); ok {
			_, named[ts.Name.Name] = ts.Type.(*ast.ChanType)
		}
		return true
	})
	var found []bounded
	for _, decl := range f.Decls {
		where := "package"
		if fn, ok := decl.(*ast.FuncDecl); ok {
			where = fn.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			if id, ok := call.Fun.(*ast.Ident); !ok || id.Name != "make" {
				return true
			}
			switch typ := call.Args[0].(type) {
			case *ast.ChanType:
			case *ast.Ident:
				if !named[typ.Name] {
					return true
				}
			default:
				return true
			}
			capacity := string(src[fset.Position(call.Args[1].Pos()).Offset:fset.Position(call.Args[1].End()).Offset])
			if capacity != "0" && capacity != "1" {
				found = append(found, bounded{name + ":" + where, fset.Position(call.Pos()).Line, capacity})
			}
			return true
		})
	}
	return found, nil
}

func TestBoundedChannelsAreFound(t *testing.T) {
	const src = `package p
type signals chan int
var a = make(chan int, 2)
func f(n int) {
	_ = make(chan struct{})
	_ = make(chan struct{}, 1)
	_ = make(<-chan int, n)
	_ = make(signals, 1+1)
	_ = make([]int, 5)
	_ = func() { _ = make(chan int, 64) }
}`
	got, err := boundedChannels("p.go", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want := []bounded{{"p.go:package", 3, "2"}, {"p.go:f", 7, "n"}, {"p.go:f", 8, "1+1"}, {"p.go:f", 10, "64"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found %v, want %v", got, want)
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
