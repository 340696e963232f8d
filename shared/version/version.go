// Package version says what build this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by the linker for a release:
// -ldflags "-X github.com/slipway-ci/slipway/shared/version.version=v1.2.3 -X ....commit=<sha>".
var (
	version string
	commit  string
)

// Version returns the release, as "v1.2.3", or "dev" for a build without one.
func Version() string { return read().version }

// Commit returns the revision the binary was built from, with "-dirty" when the
// work tree had changes, or "unknown".
func Commit() string { return read().commit }

// String returns one line for people: release, commit, Go version and platform.
func String() string {
	short := Commit()
	if len(short) > 12 && short[12] != '-' {
		tail := ""
		if dirty(short) {
			tail = dirtyMark
		}
		short = short[:12] + tail
	}
	return fmt.Sprintf("%s (%s, %s, %s/%s)", Version(), short, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

const dirtyMark = "-dirty"

func dirty(commit string) bool {
	n := len(commit) - len(dirtyMark)
	return n >= 0 && commit[n:] == dirtyMark
}

type build struct{ version, commit string }

var read = sync.OnceValue(func() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return from(info, version, commit)
})

// from puts the linker's words before those of the build info.
func from(info *debug.BuildInfo, version, commit string) build {
	b := build{version: version, commit: commit}
	if b.version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.version = info.Main.Version
	}
	if b.version == "" {
		b.version = "dev"
	}
	if b.commit != "" {
		return b
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	switch {
	case b.commit == "":
		b.commit = "unknown"
	case modified:
		b.commit += dirtyMark
	}
	return b
}
