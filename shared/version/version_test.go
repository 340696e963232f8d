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
		want    build
	}{
		{"nothing known", &debug.BuildInfo{}, "", "", build{"dev", "unknown"}},
		{"devel", vcs("(devel)", "abc", "false"), "", "", build{"dev", "abc"}},
		{"go install", vcs("v1.0.0", "abc", "true"), "", "", build{"v1.0.0", "abc-dirty"}},
		{"linker wins", vcs("v1.0.0", "abc", "true"), "v2.0.0", "def", build{"v2.0.0", "def"}},
	} {
		if got := from(c.info, c.version, c.commit); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestString(t *testing.T) {
	t.Parallel()
	if s := String(); !strings.HasPrefix(s, Version()+" (") || !strings.Contains(s, "go1") {
		t.Errorf("String() = %q", s)
	}
}
