package main_test

import (
	"os"
	"testing"

	"github.com/slipway-ci/slipway/shared/spec"
)

// The project's own workflow is what the demo runs: a mistake in it must show
// before a fleet is brought up for it.
func TestOwnWorkflow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../.slipway/slipway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, problems := spec.Parse(text, spec.Options{File: "slipway.yaml"})
	if w == nil || len(problems) > 0 {
		t.Fatalf("the project's own workflow has problems:\n%v", problems)
	}
	// The demo names these.
	for _, id := range []string{"build", "vet", "test", "image", "smoke", "verify", "signoff", "release", "report"} {
		if w.Step(id) == nil {
			t.Errorf("no step %q", id)
		}
	}
}
