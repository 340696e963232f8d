package devregistry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-ci/slipway/shared/needs"
)

// start serves a folder until the returned function is called, which a test
// does before it starts the next one on it.
func start(t *testing.T, dir string) (host string, stop func()) {
	t.Helper()
	r, err := Open(dir, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		server.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return strings.TrimPrefix(server.URL, "http://"), stop
}

func options(t *testing.T) []remote.Option {
	return []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(&http.Transport{DisableKeepAlives: true})}
}

func ref(t *testing.T, text string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func push(t *testing.T, to string) string {
	t.Helper()
	image, err := random.Image(3000, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, to), image, options(t)...); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// pull reads all of an image and returns its digest.
func pull(t *testing.T, from string) string {
	t.Helper()
	image, err := remote.Image(ref(t, from), options(t)...)
	if err != nil {
		t.Fatalf("pull %s: %v", from, err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatalf("pull %s: %v", from, err)
	}
	for _, layer := range layers {
		data, err := layer.Compressed()
		if err != nil {
			t.Fatalf("pull %s: %v", from, err)
		}
		if _, err := io.Copy(io.Discard, data); err != nil {
			t.Fatalf("pull %s: %v", from, err)
		}
		data.Close()
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestImagesSurviveRestarts(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	first := push(t, host+"/team/app:v1")
	second := push(t, host+"/team/app:v1")
	other := push(t, host+"/team/app:gone")
	if err := remote.Delete(ref(t, host+"/team/app:gone"), options(t)...); err != nil {
		t.Fatal(err)
	}
	// An index of which one part is pushed again after it.
	one, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	if err := remote.WriteIndex(ref(t, host+"/many:v1"), index, options(t)...); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, host+"/many:one"), one, options(t)...); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		stop()
		host, stop = start(t, dir)
		if got := pull(t, host+"/team/app:v1"); got != second {
			t.Errorf("round %d: the tag is %s, want %s", round, got, second)
		}
		for _, digest := range []string{first, second, other} {
			if got := pull(t, host+"/team/app@"+digest); got != digest {
				t.Errorf("round %d: %s became %s", round, digest, got)
			}
		}
		tags, err := remote.List(ref(t, host+"/team/app").Context(), options(t)...)
		if diff := cmp.Diff([]string{"v1"}, tags); err != nil || diff != "" {
			t.Errorf("round %d: %v %s", round, err, diff)
		}
		if got, err := remote.Index(ref(t, host+"/many:v1"), options(t)...); err != nil {
			t.Errorf("round %d: the index: %v", round, err)
		} else if m, err := got.IndexManifest(); err != nil || len(m.Manifests) != 1 {
			t.Errorf("round %d: the index: %v %v", round, m, err)
		}
	}
}

func TestCrashLeavesTheRest(t *testing.T) {
	dir := t.TempDir()
	host, stop := start(t, dir)
	digest := push(t, host+"/app:v1")
	stop()
	path := filepath.Join(dir, "manifests.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, whole[:len(whole)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "upload-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, stop = start(t, dir)
	if got := pull(t, host+"/app:v1"); got != digest {
		t.Errorf("got %s, want %s", got, digest)
	}
	push(t, host+"/app:v2")
	stop()
	host, _ = start(t, dir)
	pull(t, host+"/app:v2")
	if left, _ := filepath.Glob(filepath.Join(dir, "blobs", "upload-*")); left != nil {
		t.Errorf("left %q", left)
	}
}

func TestBadJournalIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "manifests.jsonl"), []byte("not json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "manifests.jsonl") {
		t.Errorf("%v", err)
	}
}

func TestPushFailsWhenItCannotBeKept(t *testing.T) {
	r, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/v2/app/manifests/v1", strings.NewReader("{}")))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestManifestPath(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/a/manifests/v1": "a v1", "/v2/a/b/c/manifests/sha256:00": "a/b/c sha256:00", "/v2/a/manifests/manifests/v1": "a/manifests v1",
		"/v2/": "", "/v2/a/blobs/x": "", "/v2//manifests/x": "", "/v2/a/manifests/": "", "/v2/a/manifests/x/y": "", "/other": "",
	} {
		repo, ref, ok := manifestPath(path)
		if got := strings.TrimSpace(repo + " " + ref); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v", path, got, ok)
		}
	}
}

func TestDocker(t *testing.T) {
	needs.Docker(t)
	needs.Program(t, "docker")
	dir := t.TempDir()
	host, stop := start(t, dir)
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	local := fmt.Sprintf("%s/docker/app:v1", host)
	docker(t, "build", "-t", local, context)
	docker(t, "push", local)
	docker(t, "rmi", "-f", local)
	stop()
	digest := digestOf(t, dir)
	host, _ = start(t, dir)
	again := host + "/docker/app@" + digest
	docker(t, "pull", again)
	docker(t, "rmi", "-f", again)
}

func docker(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker %q: %v\n%s", args, err, bytes.TrimSpace(out))
	}
}

// digestOf starts the registry once more to ask for what docker has pushed.
func digestOf(t *testing.T, dir string) string {
	t.Helper()
	host, stop := start(t, dir)
	defer stop()
	got, err := remote.Head(ref(t, host+"/docker/app:v1"), options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	return got.Digest.String()
}
