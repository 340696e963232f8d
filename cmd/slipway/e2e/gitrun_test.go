//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tellWhere is a workflow that tells what it works on.
const tellWhere = head + `
steps:
- id: tell
  run: |
    cat file.txt
    echo "sha=$SLIPWAY_SHA ref=$SLIPWAY_REF branch=$SLIPWAY_BRANCH tag=$SLIPWAY_TAG"
    git rev-parse HEAD 2>/dev/null || echo "no git"
`

// runIn submits in a folder and waits; it returns the run, the log, and what
// the submit said on standard error.
func (f *fleet) runIn(dir string, args ...string) (r *runJSON, log, said string) {
	f.t.Helper()
	res := f.in(dir, append([]string{"run", "-o", "json"}, args...)...)
	if res.code != 0 {
		f.t.Fatalf("%s", res)
	}
	var made runJSON
	res.decode(f.t, &made)
	r = f.wait(made.ID)
	if r.State != "passed" {
		f.t.Fatalf("run %s is %s: %s\n%s", r.ID, r.State, r.Message, f.allLogs(r))
	}
	return r, f.rawLog(r.ID + "/tell"), res.stderr
}

// TestE2EGitTree runs workflows of a work tree: that very commit, from wherever
// in the tree, by whatever name.
func TestE2EGitTree(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	code := f.newRepo(map[string]string{".slipway/workflow.yaml": tellWhere, ".slipway/other.yaml": strings.Replace(tellWhere, "cat file.txt", "echo other", 1), "file.txt": "one\n", "deep/er/x": ""})
	first := code.git("rev-parse", "HEAD")
	code.git("tag", "v1")
	second := code.commit(map[string]string{"file.txt": "two\n"})
	line := func(sha, ref, branch, tag string) string {
		return "sha=" + sha + " ref=" + ref + " branch=" + branch + " tag=" + tag + "\n" + sha + "\n"
	}
	onMain := line(second, "refs/heads/main", "main", "")
	for _, tt := range []struct {
		name, dir string
		args      []string
		sha, log  string
	}{
		{"head", "", nil, second, "two\n" + onMain},
		{"a folder below", "deep/er", nil, second, "two\n" + onMain},
		{"a workflow by name", "deep", []string{"other"}, second, "other\n" + onMain},
		{"by file name", "", []string{"other.yaml"}, second, "other\n" + onMain},
		{"by path", "", []string{".slipway/other.yaml"}, second, "other\n" + onMain},
		{"--sha, short", "", []string{"--sha", first[:10]}, first, "one\n" + line(first, "", "", "v1")},
		{"--sha of a tag", "", []string{"--sha", "v1"}, first, "one\n" + line(first, "refs/tags/v1", "", "v1")},
		{"--ref", "deep", []string{"--ref", "v1"}, first, "one\n" + line(first, "refs/tags/v1", "", "v1")},
		{"--ref of a branch", "", []string{"--ref", "main"}, second, "two\n" + onMain},
		{"--file", "", []string{"-f", f.workflow(tellWhere)}, second, "two\n" + onMain},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := f.as(t)
			r, log, said := f.runIn(filepath.Join(code.dir, tt.dir), tt.args...)
			if r.SHA != tt.sha || log != tt.log {
				t.Errorf("commit %s, want %s; log:\n%s, want\n%s", r.SHA, tt.sha, log, tt.log)
			}
			if strings.Contains(said, "changes") {
				t.Errorf("a clean tree: %s", said)
			}
			if found := f.must("runs", "ls", "--sha", tt.sha[:12], "-o", "name").stdout; !strings.Contains(found, r.ID) {
				t.Errorf("runs ls --sha does not find it: %s", found)
			}
		})
	}
	f.in(code.dir, "run", "nix").ends(t, 2, `cannot find the workflow "nix"`, ".slipway/other.yaml")
	f.in(code.dir, "run", "--sha", "nix").ends(t, 2, `cannot find the commit "nix"`)
	f.in(code.dir, "run", "--sha", "v1", "--ref", "v1").ends(t, 2, "not both")
	f.in(code.dir, "run", "--local", "--sha", "v1").ends(t, 2, "--local ships this work tree")
	f.nothingLeft()
}

// TestE2EDirtyTree: what is not committed is not run, and said; --local ships it.
func TestE2EDirtyTree(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	code := f.newRepo(map[string]string{".slipway/workflow.yaml": tellWhere, "file.txt": "one\n", ".gitignore": "secret\n", "gone": "x"})
	sha := code.git("rev-parse", "HEAD")
	code.write(map[string]string{"file.txt": "dirty\n", "new/file": "new\n", "secret": "ignored\n"})
	if err := os.Remove(filepath.Join(code.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	_, log, said := f.runIn(code.dir)
	if !strings.HasPrefix(log, "one\n") || !strings.Contains(said, "has changes that the run will not see; --local ships them") {
		t.Errorf("the dirty tree: log %q, said %q", log, said)
	}
	if r := f.in(code.dir, "run", "--quiet"); r.stderr != "" {
		t.Errorf("--quiet says %q", r.stderr)
	}

	local := strings.Replace(tellWhere, "cat file.txt", "cat file.txt new/file; ls secret gone 2>/dev/null || true", 1)
	code.write(map[string]string{".slipway/workflow.yaml": local})
	r, log, said := f.runIn(filepath.Join(code.dir, "new"), "--local")
	if !strings.HasPrefix(log, "dirty\nnew\nsha="+sha) || !r.Dirty || r.SHA != sha {
		t.Errorf("--local: dirty %v, commit %s, log:\n%s", r.Dirty, r.SHA, log)
	}
	if said != "" {
		t.Errorf("--local says %q", said)
	}
	if _, again, _ := f.runIn(code.dir, "--local"); again != log {
		t.Errorf("the same tree again:\n%s", again)
	}
	if out := f.must("runs", "ls").stdout; !strings.Contains(out, sha[:8]+"+ main") {
		t.Errorf("the list does not mark the dirty runs:\n%s", out)
	}

	// A tree without any commit can be shipped, but not checked out.
	bare := &repo{f, filepath.Join(f.home, "young")}
	if err := os.MkdirAll(bare.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bare.git("init", "-q", "-b", "main")
	f.in(bare.dir, "run").ends(t, 2, "slipway init")
	bare.write(map[string]string{".slipway/workflow.yaml": tellWhere, "file.txt": "young\n"})
	f.in(bare.dir, "run").ends(t, 2, "no commit yet", "--local")
	if _, log, _ := f.runIn(bare.dir, "--local"); !strings.HasPrefix(log, "young\n") {
		t.Errorf("the young tree: %s", log)
	}
}

// TestE2ERemotes: the agent fetches from wherever git can.
func TestE2ERemotes(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	code := f.newRepo(map[string]string{".slipway/workflow.yaml": tellWhere, "file.txt": "one\n"})
	shared := filepath.Join(f.home, "shared.git")
	code.git("clone", "-q", "--bare", code.dir, shared)

	// A clone whose origin is a relative path: the agent is told the whole one.
	clone := &repo{f, filepath.Join(f.home, "clone")}
	if out, err := exec.Command("git", "clone", "-q", shared, clone.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	clone.git("remote", "set-url", "origin", "../shared.git")
	r, log, _ := f.runIn(clone.dir)
	if r.Repo != shared || !strings.HasPrefix(log, "one\n") {
		t.Errorf("from %s, log %s", r.Repo, log)
	}
	// What was not pushed is fetched from the tree itself.
	unpushed := clone.commit(map[string]string{"file.txt": "two\n"})
	r, log, _ = f.runIn(clone.dir)
	if r.Repo != clone.dir || r.SHA != unpushed || !strings.HasPrefix(log, "two\n") {
		t.Errorf("an unpushed commit: from %s, %s, log %s", r.Repo, r.SHA, log)
	}
	clone.git("push", "-q", "origin", "HEAD:refs/heads/feature")
	if r, log, _ = f.runIn(clone.dir); r.Repo != shared || !strings.HasPrefix(log, "two\n") {
		t.Errorf("a pushed commit: from %s, log %s", r.Repo, log)
	}
	// A URL, and no work tree around.
	file := f.workflow(tellWhere)
	r, log, _ = f.runIn(f.home, "-f", file, "--repo", "file://"+shared, "--sha", unpushed)
	if r.Repo != "file://"+shared || !strings.HasPrefix(log, "two\n") {
		t.Errorf("by URL: from %s, log %s", r.Repo, log)
	}
	f.in(f.home, "run", "-f", file, "--repo", shared).ends(t, 2, "--sha")

	// A commit that nobody has, and a repository that is not there.
	for _, args := range [][]string{
		{"--repo", shared, "--sha", strings.Repeat("ab", 20)},
		{"--repo", f.path("nowhere.git"), "--sha", unpushed},
	} {
		bad := f.run(strings.Replace(tellWhere, "id: tell", "id: tell\n  retry: []", 1), args...)
		bad.ends(t, 9, "tell=failed(checkout)")
		if m := bad.step(t, "tell").Message; !strings.Contains(m, args[1]) {
			t.Errorf("%v: the step says %q", args, m)
		}
	}
	f.nothingLeft()
}
