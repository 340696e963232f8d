package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// A rule that forbids nothing is worse than none: each kind of import that must
// be refused is tried here, and some that must not be.
func TestLayerRulesBite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		folder string
		test   bool
		path   string
		ok     bool
	}{
		{"agent/session", false, module + "coordinator/state", false},
		{"agent/session", true, module + "coordinator/state", false},
		{"coordinator", false, module + "agent", false},
		{"shared/spec", false, module + "agent/runtime", false},
		{"shared/spec", false, module + "shared/expr", true},
		{"shared/ci", false, module + "shared/id", false},
		{"shared/ci", false, "github.com/oklog/ulid/v2", false},
		{"shared/id", false, "github.com/oklog/ulid/v2", true},
		{"coordinator/engine", false, module + "coordinator/scheduler", false},
		{"coordinator/scheduler", false, module + "coordinator/queue", true},
		{"coordinator/state", false, "math/rand/v2", false},
		{"coordinator/state", false, "net/http", false},
		{"coordinator/state", false, "log/slog", false},
		{"coordinator/state", false, "netip", true},
		{"coordinator/state", true, "os", true},
		{"coordinator/state", false, "github.com/hashicorp/raft", false},
		{"coordinator/state", false, "golang.org/x/sync/errgroup", false},
		{"coordinator/state", false, "github.com/tidwall/btree", true},
		{"coordinator/consensus", false, "github.com/hashicorp/raft", true},
		{"coordinator/consensus", false, "github.com/hashicorp/raft-wal", true},
		{"coordinator/dispatch", false, module + "proto/slipway/v1", true},
		{"coordinator/engine", false, module + "proto/slipway/v1", false},
		{"agent/supervisor", false, "github.com/docker/docker/client", false},
		{"agent/runtime/docker", false, "github.com/docker/docker/client", true},
		{"agent/runtime/docker", false, module + "agent/runtime/runtimetest", false},
		{"agent/runtime/docker", true, module + "agent/runtime/runtimetest", true},
		{"agent/supervisor", false, module + "shared/needs", false},
		{"agent/cache", false, "github.com/google/go-cmp/cmp", false},
		{"agent/cache", true, "github.com/google/go-cmp/cmp", true},
		{"agent/cache", true, "github.com/nobody/knows", false},
		{"cmd/slipway", false, module + "agent", true},
		{"cmd/slipway/demo", false, module + "coordinator", true},
		{"cmd/slipway-init", false, module + "agent", false},
	} {
		r, ok := lookup(tt.folder)
		if !ok {
			t.Errorf("%s: no row", tt.folder)
			continue
		}
		why := banned(source{folder: tt.folder, test: tt.test}, r, tt.path)
		if (why == "") != tt.ok {
			t.Errorf("%s (test: %t) imports %s: %q; want allowed: %t", tt.folder, tt.test, tt.path, why, tt.ok)
		}
	}
}

func TestImportName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"package p":                    "",
		"package p\nimport \"time\"":   "time",
		"package p\nimport c \"time\"": "c",
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		if got := importName(f, "time"); got != want {
			t.Errorf("%q: time is known as %q, want %q", text, got, want)
		}
	}
}

func TestReceiverName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"func (t T) m() {}":          "T",
		"func (t *T) m() {}":         "T",
		"func (t *T[K]) m() {}":      "T",
		"func (t *T[K, V]) m() {}":   "T",
		"func (*T[K, V]) Clear() {}": "T",
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "p.go", "package p\n"+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		fn, ok := f.Decls[0].(*ast.FuncDecl)
		if !ok {
			t.Fatalf("%q is no function", text)
		}
		if got := receiverName(fn.Recv); got != want {
			t.Errorf("%q: receiver %q, want %q", text, got, want)
		}
	}
}
