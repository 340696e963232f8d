package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// worktree makes a git work tree with one commit and a changed file.
func worktree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(path, text string) {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		args = append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)
		if _, err := git(t.Context(), dir, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "-q", "-b", "main")
	put(".slipway/one.yaml", "steps: committed\n")
	put(".slipway/two.yaml", "steps: two\n")
	put(".slipway/service.yaml", "no workflow\n")
	put(".gitignore", "ignored\n")
	run("add", ".")
	run("commit", "-q", "-m", "one")
	run("tag", "v1")
	put(".slipway/one.yaml", "steps: changed\n")
	put("new.txt", "new\n")
	put("ignored", "x\n")
	return dir
}

func TestReadTree(t *testing.T) {
	t.Parallel()
	dir := worktree(t)
	tree, err := readTree(t.Context(), filepath.Join(dir, ".slipway"), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.sha) != 40 || tree.branch != "main" || tree.ref != "refs/heads/main" || tree.tag != "v1" || !tree.dirty {
		t.Errorf("tree is %+v", tree)
	}
	tagged, err := readTree(t.Context(), dir, "v1")
	if err != nil || tagged.sha != tree.sha || tagged.tag != "v1" || tagged.branch != "" {
		t.Errorf("v1 is %+v, %v", tagged, err)
	}
	if _, err := readTree(t.Context(), dir, "nothing"); err == nil {
		t.Error("an unknown revision is accepted")
	}
	if none, err := readTree(t.Context(), t.TempDir(), ""); none != nil || err != nil {
		t.Errorf("outside of git: %+v, %v", none, err)
	}
	if repo, err := tree.remote(t.Context(), "http://127.0.0.1:1"); err != nil || repo != tree.root {
		t.Errorf("a fleet on this host fetches from %q, %v", repo, err)
	}
	if _, err := tree.remote(t.Context(), "http://ci.example.com"); err == nil {
		t.Error("a fleet elsewhere is sent a local path")
	}
}

func TestFindWorkflow(t *testing.T) {
	t.Parallel()
	tree, err := readTree(t.Context(), worktree(t), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		local bool
		want  string
	}{{"one", false, "steps: committed\n"}, {"one", true, "steps: changed\n"}, {"two.yaml", false, "steps: two\n"}, {".slipway/two.yaml", false, "steps: two\n"}} {
		file, err := tree.findWorkflow(t.Context(), c.name, c.local)
		if err != nil || string(file.text) != c.want {
			t.Errorf("%q (local %v): %+v, %v", c.name, c.local, file, err)
		}
	}
	for _, name := range []string{"", "three", "service"} {
		if file, err := tree.findWorkflow(t.Context(), name, false); err == nil {
			t.Errorf("%q finds %s", name, file.name)
		}
	}
}

func TestPackTreeIsTheSameForTheSameContent(t *testing.T) {
	t.Parallel()
	dir := worktree(t)
	pack := func(paths ...string) []byte {
		var out bytes.Buffer
		if err := packTree(&out, dir, paths); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := pack("new.txt", ".slipway/one.yaml", "deleted.txt", "")
	if !bytes.Equal(first, pack(".slipway/one.yaml", "new.txt", "new.txt")) {
		t.Error("order and repeats change the archive")
	}
	if err := os.WriteFile(filepath.Join(dir, "new.txt"), []byte("other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, pack("new.txt", ".slipway/one.yaml")) {
		t.Error("another content has the same archive")
	}
}
