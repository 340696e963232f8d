// Package needs tells, in a test, what the test cannot do without: root, a
// Docker engine, a program, an image. Where that is missing the test is skipped
// with one loud line, or fails when SLIPWAY_NO_SKIP=1 (as in continuous
// integration, where a skipped test would hide a missing install step).
package needs

import (
	"os"
	"os/exec"
	"testing"
)

// NoSkip is the environment variable that, set to 1, turns every skip of this
// package into a failure.
const NoSkip = "SLIPWAY_NO_SKIP"

// Root skips the test unless it runs as the superuser.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root", "run the tests as root (effective uid is %d)", os.Geteuid())
	}
}

// Program skips the test unless the named program is in PATH, and returns its
// full path.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, "install the program %q (.ci/run shows how): %v", name, err)
	}
	return path
}

// missing is the one place where a test is given up.
func missing(t testing.TB, what, format string, args ...any) {
	t.Helper()
	if os.Getenv(NoSkip) == "1" {
		t.Fatalf("needs "+what+", and "+NoSkip+"=1 forbids to skip: "+format, args...)
		return
	}
	t.Skipf("SKIPPED: needs "+what+": "+format, args...)
}
