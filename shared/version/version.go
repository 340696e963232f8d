// Package version says what build this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is the release, as "v1.2.3", or "dev" for a build without one.
// Commit is the revision the binary was built from, ending in "-dirty" when
// the work tree had changes, or "unknown". A release sets them with the
// linker's -X; what it leaves empty is taken from the build info at start, and
// nothing changes them afterwards.
var (
	Version string
	Commit  string
)

func init() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	Version, Commit = from(info, Version, Commit)
}

// String returns one line for people: release, commit, Go version and platform.
func String() string {
	hash, dirty := strings.CutSuffix(Commit, dirtyMark)
	hash = hash[:min(12, len(hash))]
	if dirty {
		hash += dirtyMark
	}
	return fmt.Sprintf("%s (%s, %s, %s/%s)", Version, hash, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

const dirtyMark = "-dirty"

// from puts the linker's words before those of the build info.
func from(info *debug.BuildInfo, linkedVersion, linkedCommit string) (version, commit string) {
	version, commit = linkedVersion, linkedCommit
	if version == "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	if version == "" {
		version = "dev"
	}
	if commit != "" {
		return version, commit
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	switch {
	case commit == "":
		commit = "unknown"
	case modified:
		commit += dirtyMark
	}
	return version, commit
}
