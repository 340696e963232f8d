package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestFrom(t *testing.T) {
	t.Parallel()
	vcs := func(version, revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main:     debug.Module{Version: version},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}},
		}
	}
	for _, c := range []struct {
		name    string
		info    *debug.BuildInfo
		version string
		commit  string
		want    [2]string
	}{
		{"nothing known", &debug.BuildInfo{}, "", "", [2]string{"dev", "unknown"}},
		{"devel", vcs("(devel)", "abc", "false"), "", "", [2]string{"dev", "abc"}},
		{"go install", vcs("v1.0.0", "abc", "true"), "", "", [2]string{"v1.0.0", "abc-dirty"}},
		{"linker wins", vcs("v1.0.0", "abc", "true"), "v2.0.0", "def", [2]string{"v2.0.0", "def"}},
	} {
		v, sha := from(c.info, c.version, c.commit)
		if got := [2]string{v, sha}; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	if s := String(); !strings.HasPrefix(s, Version+" (") || !strings.Contains(s, "go1") {
		t.Errorf("String() = %q", s)
	}
}
