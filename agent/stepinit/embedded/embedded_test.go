package embedded

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestExtract(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if path, err := extract(fstest.MapFS{"bin/.gitignore": {}}, dir); path != "" || err != nil {
		t.Errorf("nothing embedded: %q, %v; want nothing", path, err)
	}
	paths := map[string]string{}
	for _, program := range []string{"one", "one", "two"} {
		path, err := extract(fstest.MapFS{"bin/slipway-init": {Data: []byte(program)}}, dir)
		if err != nil || filepath.Dir(path) != dir || paths[program] != "" && paths[program] != path {
			t.Fatalf("%s: %q, %v, before it was %q", program, path, err, paths[program])
		}
		paths[program] = path
		got, err := os.ReadFile(path)
		if err != nil || string(got) != program {
			t.Errorf("extracted %q, %v; want %q", got, err, program)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("mode %v, %v; want 0755", info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || paths["one"] == paths["two"] {
		t.Errorf("left in the folder: %v, %v; want the two programs alone", entries, err)
	}
	if path, err := Extract(filepath.Join(dir, "none")); path != "" && err == nil {
		t.Errorf("a missing folder: %q and no error", path)
	}
}
