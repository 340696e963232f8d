package main_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 120
)

// checkPure finds clocks and goroutines where there must be none.
func checkPure(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		if r, _ := lookup(s.folder); !r.pure || s.test {
			continue
		}
		clock := importName(s.file, "time")
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s:%d: go statement in a pure package: its result would depend on the scheduler", s.path(), tr.fset.Position(n.Pos()).Line)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && clock != "" && x.Name == clock && pureCalls[n.Sel.Name] {
					t.Errorf("%s:%d: time.%s in a pure package: time enters only inside commands", s.path(), tr.fset.Position(n.Pos()).Line, n.Sel.Name)
				}
			}
			return true
		})
	}
}

// importName gives the name under which a file knows a package of the standard
// library, or "".
func importName(f *ast.File, path string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value != `"`+path+`"` {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}

// checkGoStatements finds goroutines that nobody awaits.
func checkGoStatements(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		if s.test || s.generated {
			continue
		}
		if goStatements[s.folder] != "" || goStatements[s.path()] != "" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d: go statement: use lifecycle.Group (or errgroup inside a call), so that somebody waits for it and hears its error",
					s.path(), tr.fset.Position(g.Pos()).Line)
			}
			return true
		})
	}
}

// checkEndToEnd sees that `make e2e`, which picks by name, runs every test that
// the build tag e2e keeps out of `make test`.
func checkEndToEnd(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		if !s.test || !tagged(s.file, "e2e") {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") || f.Name.Name == "TestMain" {
				continue
			}
			if !strings.HasPrefix(f.Name.Name, "TestE2E") {
				t.Errorf("%s:%d: %s has the build tag e2e and another name than TestE2E...: nothing would run it",
					s.path(), tr.fset.Position(f.Pos()).Line, f.Name.Name)
			}
		}
	}
}

// tagged tells whether a file's build constraint names tag.
func tagged(f *ast.File, tag string) bool {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			return false
		}
		for _, c := range group.List {
			if line, ok := strings.CutPrefix(c.Text, "//go:build "); ok && slices.Contains(strings.Fields(line), tag) {
				return true
			}
		}
	}
	return false
}

// checkSleeps finds tests that wait for time instead of events. In a bubble of
// testing/synctest time is virtual, and sleeping is how it passes.
func checkSleeps(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		clock := importName(s.file, "time")
		if !s.test || clock == "" || importName(s.file, "testing/synctest") != "" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == clock {
					t.Errorf("%s:%d: time.Sleep in a test: wait for the event (a channel, a poll with a ticker and a deadline) or use testing/synctest",
						s.path(), tr.fset.Position(n.Pos()).Line)
				}
			}
			return true
		})
	}
}

func checkSizes(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		if s.generated {
			continue
		}
		if s.lines > maxFileLines {
			t.Errorf("%s: %d lines; a file fits in a head: at most %d", s.path(), s.lines, maxFileLines)
		}
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			from, to := tr.fset.Position(f.Pos()).Line, tr.fset.Position(f.End()).Line
			if to-from+1 > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines; at most %d", s.path(), from, f.Name.Name, to-from+1, maxFunctionLines)
			}
		}
	}
}

// checkDocs wants a sentence for every package and every exported name.
func checkDocs(t *testing.T, tr *tree) {
	documented, folders := map[string]bool{}, map[string]string{}
	for _, s := range tr.sources {
		if s.test || s.generated {
			continue
		}
		folders[s.folder] = s.file.Name.Name
		if s.file.Doc != nil {
			words := strings.Fields(s.file.Doc.Text())
			if len(words) > 2 && (s.file.Name.Name == "main" || words[0] == "Package" && words[1] == s.file.Name.Name) {
				documented[s.folder] = true
			}
		}
		for _, d := range s.file.Decls {
			checkDeclaration(t, tr, s, d)
		}
	}
	for folder, name := range folders {
		if !documented[folder] {
			t.Errorf("%s: no package comment: begin one file with \"// Package %s ...\"", folder, name)
		}
	}
}

// fixed are methods whose meaning an interface of the standard library fixes.
var fixed = map[string]bool{
	"Error": true, "String": true, "Unwrap": true, "Is": true, "Len": true, "Less": true, "Swap": true, "Close": true,
	"Read": true, "Write": true, "MarshalJSON": true, "UnmarshalJSON": true, "MarshalText": true, "UnmarshalText": true,
	"MarshalYAML": true, "UnmarshalYAML": true, "ServeHTTP": true, "Format": true, "Set": true, "Type": true,
}

func checkDeclaration(t *testing.T, tr *tree, s source, d ast.Decl) {
	missing := func(pos token.Pos, name string) {
		t.Errorf("%s:%d: exported %s has no doc comment", s.path(), tr.fset.Position(pos).Line, name)
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if !d.Name.IsExported() || d.Doc != nil {
			return
		}
		if d.Recv != nil {
			receiver := receiverName(d.Recv)
			if !ast.IsExported(receiver) || fixed[name] {
				return
			}
			name = receiver + "." + name
		}
		missing(d.Pos(), name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && spec.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
					missing(spec.Pos(), spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					// The comment of a group speaks for its members.
					if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
						missing(name.Pos(), name.Name)
					}
				}
			}
		}
	}
}

func receiverName(recv *ast.FieldList) string {
	expr := recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
