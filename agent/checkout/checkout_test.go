package checkout

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
)

// repository makes a repository with two commits and returns their ids.
func repository(t *testing.T) (dir, first, second string) {
	t.Helper()
	dir = t.TempDir()
	run := func(args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q", "-b", "main")
	write(t, filepath.Join(dir, "a.txt"), "one\n")
	run("add", ".")
	run("commit", "-q", "-m", "one")
	first = run("rev-parse", "HEAD")
	write(t, filepath.Join(dir, "a.txt"), "two\n")
	write(t, filepath.Join(dir, "b", "c.txt"), "c\n")
	run("add", ".")
	run("commit", "-q", "-m", "two")
	return dir, first, run("rev-parse", "HEAD")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func quiet(string) {}

func TestExactCommit(t *testing.T) {
	t.Parallel()
	repo, first, second := repository(t)
	m := New(Config{Dir: t.TempDir()})
	for i, want := range []struct{ sha, text string }{{first, "one\n"}, {second, "two\n"}, {first, "one\n"}} {
		req := Request{Attempt: ci.AttemptID(rune('a' + i)), Tenant: "t", Workflow: "w", Step: "s", Source: ci.Source{Repo: repo, SHA: want.sha, Branch: "main", Tag: "v1.2"}}
		ws, err := m.Prepare(t.Context(), req, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(ws.Dir, "a.txt")); got != want.text {
			t.Errorf("commit %d: a.txt is %q, want %q", i, got, want.text)
		}
		head, err := m.gitOutput(t.Context(), ws.Dir, "rev-parse", "HEAD")
		if err != nil || head != want.sha {
			t.Errorf("HEAD is %q (%v), want %q", head, err, want.sha)
		}
		if branch, _ := m.gitOutput(t.Context(), ws.Dir, "branch", "--show-current"); branch != "main" {
			t.Errorf("branch is %q", branch)
		}
		if tag, err := m.gitOutput(t.Context(), ws.Dir, "describe", "--tags", "--exact-match"); tag != "v1.2" {
			t.Errorf("tag is %q (%v)", tag, err)
		}
		info, err := os.Stat(filepath.Join(ws.Dir, "a.txt"))
		if err != nil || !info.ModTime().Equal(m.commitTime(t.Context(), ws.Dir)) {
			t.Errorf("a.txt has time %v, want the commit's (%v)", info.ModTime(), err)
		}
		write(t, filepath.Join(ws.Dir, "left"), "over")
		if err := m.Release(req.Attempt); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(ws.Dir); !os.IsNotExist(err) {
			t.Errorf("the workspace is still there: %v", err)
		}
	}
}

func TestDepthAndPath(t *testing.T) {
	t.Parallel()
	repo, _, second := repository(t)
	m := New(Config{Dir: t.TempDir()})
	req := Request{Attempt: "a", Tenant: "t", Workflow: "w", Step: "s", Source: ci.Source{Repo: repo, SHA: second}, Checkout: ci.Checkout{Depth: 1, Path: "src/x"}}
	ws, err := m.Prepare(t.Context(), req, quiet)
	if err != nil {
		t.Fatal(err)
	}
	count, err := m.gitOutput(t.Context(), filepath.Join(ws.Dir, "src", "x"), "rev-list", "--count", "HEAD")
	if err != nil || count != "1" {
		t.Errorf("a depth of 1 has %s commits (%v)", count, err)
	}
	req.Attempt, req.Step, req.Checkout.Path = "b", "other", "../out"
	if _, err := m.Prepare(t.Context(), req, quiet); ci.KindOf(err) != ci.Invalid {
		t.Errorf("a path out of the workspace: %v", err)
	}
}

func TestWorkspacesAreExclusive(t *testing.T) {
	t.Parallel()
	m := New(Config{Dir: t.TempDir()})
	req := Request{Tenant: "t", Workflow: "w", Step: "s", Checkout: ci.Checkout{Disabled: true}}
	dirs := map[string]bool{}
	for _, a := range []ci.AttemptID{"a", "b", "c"} {
		req.Attempt = a
		ws, err := m.Prepare(t.Context(), req, quiet)
		if err != nil {
			t.Fatal(err)
		}
		dirs[ws.Dir] = true
	}
	if len(dirs) != 3 {
		t.Fatalf("three attempts share workspaces: %v", dirs)
	}
	again := New(Config{Dir: m.cfg.Dir})
	kept := filepath.Join(m.cfg.Dir, "work", "t", "w", "s")
	again.Adopt("a", kept)
	if err := again.Sweep(); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(m.cfg.Dir, "work", "*", "*", "*"))
	if len(left) != 1 || left[0] != kept {
		t.Errorf("after the sweep there are %v, want only %s", left, kept)
	}
}

func TestFailuresSayWhat(t *testing.T) {
	t.Parallel()
	repo, first, _ := repository(t)
	m := New(Config{Dir: t.TempDir()})
	for name, c := range map[string]struct {
		source ci.Source
		want   string
	}{
		"unknown commit": {ci.Source{Repo: repo, SHA: strings.Repeat("0", 39) + "1"}, "push it first"},
		"no repository":  {ci.Source{Repo: filepath.Join(repo, "nowhere"), SHA: first}, "cannot fetch from"},
		"short id":       {ci.Source{Repo: repo, SHA: first[:10]}, "no whole commit id"},
	} {
		_, err := m.Prepare(t.Context(), Request{Attempt: ci.AttemptID(name), Tenant: "t", Workflow: "w", Step: name, Source: c.source}, quiet)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	if got := redact("https://user:secret@host/x.git"); strings.Contains(got, "secret") {
		t.Errorf("a password shows: %s", got)
	}
}

// archive packs the entries and returns the bytes and their sha256.
func archive(t *testing.T, entries ...*tar.Header) ([]byte, string) {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range entries {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = "text of " + h.Name
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(out.Bytes())
	return out.Bytes(), hex.EncodeToString(sum[:])
}

func TestArchive(t *testing.T) {
	t.Parallel()
	reg := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755} }
	good, sum := archive(t, reg("run.sh"), reg("d/e.txt"), &tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d/e.txt"})
	open := func(data []byte) *Manager {
		return New(Config{Dir: t.TempDir(), Archive: func(context.Context, ci.TenantID, string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}})
	}
	req := Request{Attempt: "a", Tenant: "t", Workflow: "w", Step: "s", Source: ci.Source{Archive: sum}}
	ws, err := open(good).Prepare(t.Context(), req, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(ws.Dir, "l")); got != "text of d/e.txt" {
		t.Errorf("through the link: %q", got)
	}
	if info, err := os.Stat(filepath.Join(ws.Dir, "run.sh")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("run.sh cannot be run: %v %v", info, err)
	}
	hostile := map[string][]*tar.Header{
		"climbs":   {reg("../x")},
		"link":     {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, reg("out/x")},
		"device":   {{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
		"twice":    {reg("x"), reg("x")},
		"absolute": {reg("/etc/x/../../..")},
	}
	for name, entries := range hostile {
		data, sum := archive(t, entries...)
		req.Source.Archive = sum
		if _, err := open(data).Prepare(t.Context(), req, quiet); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
	req.Source.Archive = strings.Repeat("0", 64)
	if _, err := open(good).Prepare(t.Context(), req, quiet); ci.KindOf(err) != ci.Invalid {
		t.Errorf("another sha256: %v", err)
	}
}
