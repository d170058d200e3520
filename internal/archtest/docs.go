package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// PackageDocs checks that every package has a doc comment, which begins as godoc expects.
func (m *Module) PackageDocs() []Problem {
	type doc struct{ name, text string }
	docs := make(map[string]doc)
	for _, f := range m.Files {
		if f.IsTest() {
			continue
		}
		d := docs[f.Dir()]
		d.name = f.AST.Name.Name
		if f.AST.Doc != nil {
			d.text = f.AST.Doc.Text()
		}
		docs[f.Dir()] = d
	}
	var out []Problem
	for dir, d := range docs {
		switch {
		case d.text == "":
			out = append(out, Problem{Path: dir, Text: "package " + d.name + " has no doc comment"})
		case d.name != "main" && !strings.HasPrefix(d.text, "Package "+d.name+" "):
			out = append(out, Problem{Path: dir, Text: "the doc comment does not begin with \"Package " + d.name + "\""})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// ExportedDocs checks that every exported name outside of tests has a doc comment: functions,
// methods of exported types, types, variables and constants. A comment on a group is enough
// for what is in it, and so is one in the group, further up, that mentions the name.
func (m *Module) ExportedDocs() []Problem {
	var out []Problem
	for _, f := range m.Files {
		if f.IsTest() {
			continue
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
					out = append(out, m.problem(f, d, "exported function %s has no doc comment", d.Name.Name))
				}
			case *ast.GenDecl:
				out = append(out, m.undocumented(f, d)...)
			}
		}
	}
	return out
}

// undocumented lists the exported names of a declaration that no comment covers.
func (m *Module) undocumented(f *File, d *ast.GenDecl) []Problem {
	if d.Tok == token.IMPORT || d.Doc != nil {
		return nil
	}
	var out []Problem
	var docs strings.Builder
	for _, spec := range d.Specs {
		var names []*ast.Ident
		switch s := spec.(type) {
		case *ast.TypeSpec:
			docs.WriteString(s.Doc.Text())
			if s.Doc == nil && s.Comment == nil {
				names = []*ast.Ident{s.Name}
			}
		case *ast.ValueSpec:
			docs.WriteString(s.Doc.Text())
			if s.Doc == nil && s.Comment == nil {
				names = s.Names
			}
		}
		for _, n := range names {
			if n.IsExported() && !slices.Contains(strings.Fields(docs.String()), n.Name) {
				out = append(out, m.problem(f, n, "exported name %s has no doc comment", n.Name))
			}
		}
	}
	return out
}

// exportedReceiver reports whether a function is no method, or one of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}
