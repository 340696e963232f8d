package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/slipway-ci/slipway/"

// source is one parsed Go file of the tree.
type source struct {
	folder    string // of the file, from the root of the module, with slashes
	name      string // of the file
	test      bool
	generated bool
	lines     int
	file      *ast.File
}

func (s source) path() string { return s.folder + "/" + s.name }

// tree is every Go file of the module; parsing it takes a second, so all checks
// share it.
type tree struct {
	root    string
	fset    *token.FileSet
	sources []source
}

func parseTree(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	tr := &tree{root: root, fset: token.NewFileSet()}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (name[0] == '.' || name[0] == '_' || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(tr.fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		tr.sources = append(tr.sources, source{
			folder: filepath.ToSlash(folder), name: name, file: file,
			test:      strings.HasSuffix(name, "_test.go"),
			generated: ast.IsGenerated(file),
			lines:     strings.Count(string(text), "\n"),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// lookup finds the row of a folder.
func lookup(folder string) (row, bool) {
	if r, ok := packages[folder]; ok {
		return r, true
	}
	for prefix, r := range prefixes {
		if strings.HasPrefix(folder, prefix) {
			return r, true
		}
	}
	return row{}, false
}

// matches tells whether path is one of patterns: itself, or below "x/*".
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, wild := strings.CutSuffix(p, "*")
		return p == path || wild && strings.HasPrefix(path, below)
	})
}

// below tells whether path is the folder top or lies in it.
func below(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }

func TestLayers(t *testing.T) {
	t.Parallel()
	tr := parseTree(t)
	t.Run("folders", func(t *testing.T) { checkFolders(t, tr) })
	t.Run("imports", func(t *testing.T) { checkImports(t, tr) })
	t.Run("pure", func(t *testing.T) { checkPure(t, tr) })
	t.Run("go statements", func(t *testing.T) { checkGoStatements(t, tr) })
	t.Run("sleeps", func(t *testing.T) { checkSleeps(t, tr) })
	t.Run("docs", func(t *testing.T) { checkDocs(t, tr) })
	t.Run("sizes", func(t *testing.T) { checkSizes(t, tr) })
	t.Run("end to end", func(t *testing.T) { checkEndToEnd(t, tr) })
	t.Run("table", checkTable)
}

// checkTable finds rows that say what nothing can mean.
func checkTable(t *testing.T) {
	for name, r := range packages {
		for _, may := range r.may {
			if strings.HasSuffix(may, "*") {
				continue
			}
			to, ok := packages[may]
			if !ok {
				t.Errorf("row %s: may import %s, which has no row", name, may)
			}
			if to.ring > r.ring {
				t.Errorf("row %s of ring %d: may import %s of ring %d, which is further out", name, r.ring, may, to.ring)
			}
		}
	}
	for _, l := range libs {
		if l.why == "" {
			t.Errorf("library %s: no reason", l.path)
		}
	}
}

func checkFolders(t *testing.T, tr *tree) {
	entries, err := os.ReadDir(tr.root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := topLevel[e.Name()]; !ok && e.Name()[0] != '.' {
			t.Errorf("%s: the top level is fixed; it belongs into one of its folders", e.Name())
		}
	}
	seen := map[string]bool{}
	for _, s := range tr.sources {
		if seen[s.folder] {
			continue
		}
		seen[s.folder] = true
		r, ok := lookup(s.folder)
		if !ok {
			t.Errorf("%s: no row in the table of layers_table_test.go: say its ring and what it may import", s.folder)
		}
		base := s.folder[strings.LastIndex(s.folder, "/")+1:]
		if drawers[base] {
			t.Errorf("%s: a drawer's name; name it by what it gives", s.folder)
		}
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if r.ring < 5 && !r.generated && name != base {
			t.Errorf("%s: package %s; a package has the name of its folder", s.folder, name)
		}
	}
}

func checkImports(t *testing.T, tr *tree) {
	for _, s := range tr.sources {
		r, ok := lookup(s.folder)
		if !ok {
			continue // checkFolders says so
		}
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			at := tr.fset.Position(spec.Pos())
			if why := banned(s, r, path); why != "" {
				t.Errorf("%s:%d: imports %s: %s", s.path(), at.Line, path, why)
			}
		}
	}
}

// banned gives the reason why a file must not import path, or "".
func banned(s source, r row, path string) string {
	if inside, ok := strings.CutPrefix(path, module); ok {
		return bannedInside(s, r, inside)
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		if s.test || !r.pure {
			return ""
		}
		for std, why := range pureStd {
			if below(path, std) {
				return "the package is pure: " + why
			}
		}
		return ""
	}
	return bannedLib(s, r, path)
}

func bannedInside(s source, r row, to string) string {
	for _, n := range never {
		if below(s.folder, n.from) && below(to, n.to) {
			return n.why
		}
	}
	target, ok := lookup(to)
	if !ok {
		return "no row in the table"
	}
	tests := s.test || r.helper
	switch {
	case target.helper && !tests:
		return "a test helper, for tests alone"
	case tests, to == s.folder:
		return ""
	case matches(to, r.may):
		return ""
	case r.pure && matches(to, purest):
		return ""
	case !r.pure && r.ring > 0 && matches(to, everyone):
		return ""
	case r.ring == 3 && target.ring == 3:
		return "siblings of ring 3 do not know each other; what both need goes through the root that wires them"
	default:
		return "not in the package's row of the table"
	}
}

func bannedLib(s source, r row, path string) string {
	best := -1
	for i, l := range libs {
		if below(path, l.path) && (best < 0 || len(l.path) > len(libs[best].path)) {
			best = i
		}
	}
	if best < 0 {
		return "not in the table of libraries: say where it may be used and why"
	}
	if s.test || r.helper {
		return ""
	}
	l := libs[best]
	if slices.Contains(l.only, "*") {
		switch {
		case slices.Contains(l.only, s.folder):
			return ""
		case r.pure:
			return "the package is pure and this library is not in its words: " + l.why
		case r.ring == 0 && !below(s.folder, "agent/stepinit"):
			return "ring 0 has the standard library alone"
		}
		return ""
	}
	if matches(s.folder, l.only) {
		return ""
	}
	return l.why
}
