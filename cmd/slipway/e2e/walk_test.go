//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestE2EHello: the least that must work.
func TestE2EHello(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	r := f.passes(`
timeout: 1m
steps:
  - { id: hello, executor: process, run: "echo hello" }
`)
	if log := f.rawLog(r.ID + "/hello"); strings.TrimSpace(log) != "hello" {
		t.Errorf("log %q", log)
	}
	f.nothingLeft()
}
