//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// head is how workflows of process steps begin.
const head = "timeout: 5m\ndefaults: { executor: process }\n"

// noDocker makes a fleet that knows processes only: ready at once, and the same
// on every machine.
func noDocker() option { return withFlags("--no-docker") }

// as is the fleet for a subtest, which then fails by itself.
func (f *fleet) as(t testing.TB) *fleet {
	c := *f
	c.t = t
	return &c
}

// states sums the steps up in one line: "one=passed two=skipped(if_false)".
func (r *runJSON) states() string {
	var all []string
	for _, s := range r.Steps {
		text := s.ID + "=" + s.State
		if s.Reason != "" {
			text += "(" + s.Reason + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// tries counts the attempts: "one=1 two=2".
func (r *runJSON) tries() string {
	var all []string
	for _, s := range r.Steps {
		all = append(all, fmt.Sprintf("%s=%d", s.ID, len(s.Attempts)))
	}
	return strings.Join(all, " ")
}

// ends demands how the steps of a run stand.
func (r *runJSON) ends(t testing.TB, code int, states string) {
	t.Helper()
	if got := r.states(); got != states {
		t.Errorf("run %s: the steps are\n  %s, want\n  %s", r.ID, got, states)
	}
	if r.ExitCode != code {
		t.Errorf("run %s is %s with exit code %d, want %d", r.ID, r.State, r.ExitCode, code)
	}
}

// code runs a verb that has to end with a code, and to say all of these on
// standard error.
func (f *fleet) code(code int, say []string, args ...string) result {
	f.t.Helper()
	r := f.do(args...)
	r.ends(f.t, code, say...)
	return r
}

// ends demands the exit code of a verb, and what it says on standard error.
func (r result) ends(t testing.TB, code int, say ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d: %s", r.code, code, r)
	}
	for _, want := range say {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("it does not say %q: %s", want, r)
		}
	}
}

// awaitRun waits until the run is in one of the states.
func (f *fleet) awaitRun(id string, states ...string) *runJSON {
	f.t.Helper()
	var r *runJSON
	f.eventually(fmt.Sprintf("run %s is %v", id, states), func() bool {
		r = f.show(id)
		return slices.Contains(states, r.State)
	})
	return r
}

// lift makes the file for which steps wait.
func (f *fleet) lift(gate string) {
	f.t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
}
