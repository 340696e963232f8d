package logship

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

func workspace(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	s := newShipper(t, b)
	dir := workspace(t, map[string]string{
		"out/a.txt": "alpha", "out/deep/b.txt": "beta", "out/c.bin": "", ".hidden/d": "delta", "top": "t",
	})
	var warned []string
	warn := func(format string, args ...any) { warned = append(warned, fmt.Sprintf(format, args...)) }
	got, err := s.Artifacts(t.Context(), place, dir, []ci.ArtifactSpec{
		{Paths: []string{"out/**/*.txt", "./out/a.txt", "missing/*", "../top", filepath.Join(dir, "top"), "/etc/passwd"}},
		{Name: "tree", Paths: []string{"out/", ".hidden"}},
	}, warn)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	want := []ci.Artifact{
		{Path: "out/a.txt", Size: 5, SHA256: sum("alpha")},
		{Path: "out/deep/b.txt", Size: 4, SHA256: sum("beta")},
		{Path: "top", Size: 1, SHA256: sum("t")},
		{Path: "tree/out/a.txt", Size: 5, SHA256: sum("alpha")},
		{Path: "tree/out/c.bin", Size: 0, SHA256: sum("")},
		{Path: "tree/out/deep/b.txt", Size: 4, SHA256: sum("beta")},
		{Path: "tree/.hidden/d", Size: 5, SHA256: sum("delta")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if string(get(t, b, place.Artifact("out/deep/b.txt"))) != "beta" {
		t.Error("the bucket has something else")
	}
	if len(warned) != 4 {
		t.Errorf("warnings %q", warned)
	}
}

func TestArtifactsRefuse(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	dir := workspace(t, map[string]string{"out/good": "g"})
	secret := filepath.Join(workspace(t, map[string]string{"secret": "s"}), "secret")
	for name, target := range map[string]string{
		"abs": secret, "up": "../../../../../../../../etc/passwd", "gone": "nowhere", "fine": "good", "folder": ".",
	} {
		if err := os.Symlink(target, filepath.Join(dir, "out", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "out", "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "out", "sock")
	if ln, err := net.Listen("unix", short); err == nil {
		defer func() { _ = ln.Close() }()
	}
	var warned strings.Builder
	got, err := newShipper(t, b).Artifacts(t.Context(), place, dir, []ci.ArtifactSpec{{Paths: []string{"out"}}},
		func(format string, args ...any) { fmt.Fprintf(&warned, format+"\n", args...) })
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range got {
		names = append(names, a.Path)
	}
	if diff := cmp.Diff([]string{"out/fine", "out/good"}, names); diff != "" {
		t.Error(diff)
	}
	for _, say := range []string{
		"out/abs is left out: it is a link that leaves", "out/up is left out: it is a link that leaves",
		"out/gone is left out: it is a link to nothing", "out/folder is left out", "out/pipe is left out: it is not a regular file",
	} {
		if !strings.Contains(warned.String(), say) {
			t.Errorf("no warning says %q:\n%s", say, warned.String())
		}
	}
}

func TestTooManyArtifacts(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range maxArtifacts + 1 {
		files[fmt.Sprintf("f/%d", i)] = ""
	}
	_, err := newShipper(t, objectstoretest.Memory()).Artifacts(t.Context(), place, workspace(t, files),
		[]ci.ArtifactSpec{{Paths: []string{"f/*"}}}, t.Logf)
	if ci.KindOf(err) != ci.Exhausted {
		t.Errorf("got %v", err)
	}
}

func TestArtifactsWaitForTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := objectstoretest.Memory()
		b.Down(true)
		time.AfterFunc(5*time.Minute, func() { b.Down(false) })
		got, err := newShipper(t, b).Artifacts(t.Context(), place, workspace(t, map[string]string{"a": "b"}),
			[]ci.ArtifactSpec{{Paths: []string{"a"}}}, t.Logf)
		if err != nil || len(got) != 1 {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestStatusIsPutOnce(t *testing.T) {
	t.Parallel()
	b := objectstoretest.Memory()
	s := newShipper(t, b)
	first := logpath.Status{Attempt: "a1", Fence: 7, State: "succeeded"}
	for _, status := range []logpath.Status{first, {Attempt: "a1", Fence: 7, State: "failed"}} {
		if err := s.PutStatus(t.Context(), place, status); err != nil {
			t.Fatal(err)
		}
	}
	var got logpath.Status
	if err := json.Unmarshal(get(t, b, place.Status()), &got); err != nil || got.State != "succeeded" {
		t.Errorf("status %+v, %v", got, err)
	}
	if err := s.PutState(t.Context(), place, logpath.State{State: "running"}); err != nil {
		t.Error(err)
	}
	if err := s.PutReport(t.Context(), place.Complete(), []byte("SUCCESS")); err != nil {
		t.Error(err)
	}
	if data, err := s.GetReport(t.Context(), place.Complete()); err != nil || string(data) != "SUCCESS" {
		t.Errorf("%q, %v", data, err)
	}
	b.Down(true)
	if err := s.PutState(t.Context(), place, logpath.State{}); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("live state: %v", err)
	}
}
