package runtime

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Signal returns the signal of that name, with or without SIG; no name is
// SIGTERM.
func Signal(name string) (syscall.Signal, error) {
	full := strings.ToUpper(name)
	if full == "" {
		return unix.SIGTERM, nil
	}
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if num := unix.SignalNum(full); num != 0 {
		return num, nil
	}
	return 0, ci.Errorf(ci.Invalid, "cannot send signal %q: there is none of that name; SIGTERM is one", name)
}
