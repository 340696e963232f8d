package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  Config
		says string
	}{
		{Config{}, "folder of its own"},
		{Config{Dir: "x"}, "without a certificate"},
	} {
		if _, err := c.cfg.withDefaults(); ci.KindOf(err) != ci.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
	if err := Run(t.Context(), Config{Log: slog.New(slog.DiscardHandler)}); ci.KindOf(err) != ci.Invalid {
		t.Errorf("%v", err)
	}
}

func TestRuntimeDir(t *testing.T) {
	t.Parallel()
	if got := runtimeDir(0, "/x"); got != "/run/slipway" {
		t.Error(got)
	}
	if got := runtimeDir(7, "/x"); got != "/x/slipway" {
		t.Error(got)
	}
	if got := runtimeDir(7, ""); !strings.HasSuffix(got, "slipway-7") {
		t.Error(got)
	}
}

func TestOneAgentPerFolder(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(name); ci.KindOf(err) != ci.Conflict {
		t.Errorf("a second agent gets in: %v", err)
	}
	unlock()
	unlock, err = lock(name)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestHashFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hash := func(globs ...string) string {
		t.Helper()
		sum, err := hashFiles(dir, globs)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	none := hash("**/go.sum")
	write("a/go.sum", "1")
	one := hash("**/go.sum")
	write("b/go.sum", "1")
	two := hash("**/go.sum")
	if none == one || one == two || two != hash("**/go.sum", "a/*") || len(one) != 16 {
		t.Errorf("%s %s %s", none, one, two)
	}
	write("a/go.sum", "2")
	if hash("**/go.sum") == two {
		t.Error("another content has the same hash")
	}
	for _, bad := range []string{"../x", "/etc/passwd", "[", "a/../../x"} {
		if sum, err := hashFiles(dir, []string{bad}); err == nil {
			t.Errorf("%s is hashed: %s", bad, sum)
		}
	}
}

func TestFolderForSocketsOfAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := owned(dir); err != nil {
		t.Error(err)
	}
	needs.Root(t)
	if err := os.Chown(dir, 4711, -1); err != nil {
		t.Fatal(err)
	}
	if err := owned(dir); err == nil || !strings.Contains(err.Error(), "user 4711") {
		t.Errorf("another user's folder: %v", err)
	}
}
