package archtest

import (
	"go/ast"
	"go/token"
	"strconv"
)

// Channels checks that every bounded queue is an internal/queue, whose capacity, policy and
// counters Status shows. A channel may hold one item: a wake-up or a single result.
func (m *Module) Channels() []Problem {
	var out []Problem
	for _, f := range m.Files {
		if f.IsTest() || helpsTests(f.Dir()) || f.Dir() == "internal/queue" {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			fn, isName := call.Fun.(*ast.Ident)
			if _, isChan := call.Args[0].(*ast.ChanType); !isName || fn.Name != "make" || !isChan {
				return true
			}
			if size, ok := call.Args[1].(*ast.BasicLit); !ok || size.Value != "0" && size.Value != "1" {
				out = append(out, m.problem(f, call, "a channel that holds more than one item is a queue: use internal/queue"))
			}
			return true
		})
	}
	return out
}

// Drops checks that every reason for dropping a packet or message, registered by
// stage.Drop("reason"), occurs as the same text in a test of its package: a test that makes
// the counter rise has to name it. A reason must be a literal, so that it can be found. The
// Drop of a tether manager, which drops a tether, is another method.
func (m *Module) Drops() []Problem {
	tested := make(map[string]map[string]bool) // by folder, the strings in its tests
	for _, f := range m.Files {
		if !f.IsTest() {
			continue
		}
		words := tested[f.Dir()]
		if words == nil {
			words = make(map[string]bool)
			tested[f.Dir()] = words
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if text, ok := stringLiteral(n); ok {
				words[text] = true
			}
			return true
		})
	}
	var out []Problem
	for _, f := range m.Files {
		if f.IsTest() || helpsTests(f.Dir()) || f.Dir() == "internal/stats" {
			continue
		}
		m.calls(f, func(call *ast.CallExpr, _, name string) {
			if name != "Drop" || len(call.Args) != 1 || receiver(call) == "tethers" {
				return
			}
			reason, ok := stringLiteral(call.Args[0])
			switch {
			case !ok:
				out = append(out, m.problem(f, call, "the reason of a drop must be a string literal"))
			case !tested[f.Dir()][reason]:
				out = append(out, m.problem(f, call, "no test in this package names the drop %q", reason))
			}
		})
	}
	return out
}

// receiver is the last name before the method of a call: c for c.m() and a.b.c.m().
func receiver(call *ast.CallExpr) string {
	switch x := call.Fun.(*ast.SelectorExpr).X.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

func stringLiteral(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
