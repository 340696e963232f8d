package state

import (
	"slices"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// diamond is build -> (unit, lint) -> ship, with a report at the end.
func diamond() []ci.Step {
	return []ci.Step{
		def("build"), def("unit", "build"), def("lint", "build"), def("ship", "unit", "lint"),
		finally(def("report")),
	}
}

// finishedDiamond is a run of it whose unit failed.
func finishedDiamond(t *testing.T) *world {
	w := newWorld(t)
	w.create("r1", diamond()...)
	w.pass("r1", "build")
	w.pass("r1", "lint")
	w.fail("r1", "unit")
	w.end("r1", "ship", ci.StepNotRun, ci.ReasonDependencyFailed)
	w.pass("r1", "report")
	w.must(&SetRun{Run: "r1", State: ci.RunFailed, Reason: ci.ReasonExitCode})
	w.want("r1", "failed build:passed@1 unit:failed@1 lint:passed@1 ship:not_run@1 report:passed@1")
	return w
}

func TestRetryModes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		op   RetryRun
		want string
	}{
		"failed": {
			RetryRun{Mode: RetryFailed},
			"running build:passed@1 unit:pending@2 lint:passed@1 ship:pending@2 report:pending@2",
		},
		"the failed step": {
			RetryRun{Mode: RetrySteps, Steps: []string{"unit"}},
			"running build:passed@1 unit:pending@2 lint:passed@1 ship:pending@2 report:pending@2",
		},
		"a passed step": {
			RetryRun{Mode: RetrySteps, Steps: []string{"build"}},
			"running build:pending@2 unit:failed@1 lint:passed@1 ship:not_run@1 report:pending@2",
		},
		"two steps": {
			RetryRun{Mode: RetrySteps, Steps: []string{"build", "lint"}},
			"running build:pending@2 unit:failed@1 lint:pending@2 ship:pending@2 report:pending@2",
		},
		"from the first": {
			RetryRun{Mode: RetryFrom, From: "build"},
			"running build:pending@2 unit:pending@2 lint:pending@2 ship:pending@2 report:pending@2",
		},
		"from the middle": {
			RetryRun{Mode: RetryFrom, From: "lint"},
			"running build:passed@1 unit:failed@1 lint:pending@2 ship:pending@2 report:pending@2",
		},
		"finally alone": {
			RetryRun{Mode: RetrySteps, Steps: []string{"report"}},
			"running build:passed@1 unit:failed@1 lint:passed@1 ship:not_run@1 report:pending@2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := finishedDiamond(t)
			c.op.Run = "r1"
			c.op.Params = map[string]string{"p": "2"}
			c.op.Env = map[string]string{"E": "1"}
			w.must(&c.op)
			w.want("r1", c.want)
			r := w.s.View().Run("r1")
			if r.Round != 2 || !r.FinishedAt.IsZero() || r.Reason != "" {
				t.Errorf("round %d, finished %v, reason %q", r.Round, r.FinishedAt, r.Reason)
			}
			for _, s := range r.Steps {
				changed := s.Generation == 2 && (s.ID != "report" || name == "finally alone")
				if got := s.Override.Params["p"] == "2" && s.Override.Env["E"] == "1"; got != changed {
					t.Errorf("%s: override %+v, changed %v", s.ID, s.Override, changed)
				}
				alone := slices.Contains(c.op.Steps, s.ID) && (s.ID != "lint" || len(c.op.Steps) == 1) || c.op.From == s.ID
				if s.Override.Alone != alone {
					t.Errorf("%s: alone %v, want %v", s.ID, s.Override.Alone, alone)
				}
				if s.Generation == 2 && (s.Result != "" || s.Reason != "") {
					t.Errorf("%s: opened with result %q and reason %q", s.ID, s.Result, s.Reason)
				}
			}
		})
	}
}

func TestRetryRefused(t *testing.T) {
	t.Parallel()
	w := finishedDiamond(t)
	for _, c := range []struct {
		op   RetryRun
		kind ci.Kind
	}{
		{RetryRun{Run: "r1", Mode: "nonsense"}, ci.Invalid},
		{RetryRun{Run: "r1", Mode: RetrySteps}, ci.Invalid},
		{RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"nobody"}}, ci.NotFound},
		{RetryRun{Run: "r1", Mode: RetryFrom, From: ""}, ci.NotFound},
		{RetryRun{Run: "r2", Mode: RetryFailed}, ci.NotFound},
		{RetryRun{Run: "r1", Mode: RetryFailed, Params: map[string]string{"nobody": ""}}, ci.Invalid},
	} {
		w.fails(&c.op, c.kind)
	}
	w.create("r3", def("s"), def("u", "s"))
	w.pass("r3", "s")
	w.fails(&RetryRun{Run: "r3", Mode: RetryFailed}, ci.Conflict)
	w.bring("r3", "u", ci.AttemptRunning)
	w.fails(&RetryRun{Run: "r3", Mode: RetrySteps, Steps: []string{"u"}}, ci.Conflict)
	w.fails(&RetryRun{Run: "r3", Mode: RetryFrom, From: "s"}, ci.Conflict)
	w.must(&CancelRun{Run: "r3"})
	w.fails(&RetryRun{Run: "r3", Mode: RetrySteps, Steps: []string{"s"}}, ci.Conflict)
}

// TestRetryKeepsOutputs checks that the outputs of the last passed generation
// are there until another passes, or the step is skipped.
func TestRetryKeepsOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"))
	w.pass("r1", "s")
	first := w.step("r1", "s").Outputs["k"]
	w.must(&RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"s"}})
	w.fail("r1", "s")
	if got := w.step("r1", "s").Outputs["k"]; got != first {
		t.Fatalf("outputs after a failed retry: %q, want %q", got, first)
	}
	w.must(&SkipStep{Run: "r1", Step: "s", Note: "not today"})
	if got := w.step("r1", "s").Outputs; got != nil {
		t.Fatalf("outputs after a skip: %v", got)
	}
}

func TestSkipReleases(t *testing.T) {
	t.Parallel()
	w := finishedDiamond(t)
	w.fails(&SkipStep{Run: "r1", Step: "unit", Note: " "}, ci.Invalid)
	w.fails(&SkipStep{Run: "r1", Step: "build", Note: "why"}, ci.Conflict)
	w.must(&SkipStep{Run: "r1", Step: "unit", Note: "flaky"})
	w.want("r1", "running build:passed@1 unit:skipped@1 lint:passed@1 ship:pending@2 report:pending@2")
	s := w.step("r1", "unit")
	if s.SkipNote != "flaky" || s.SkippedBy != user || s.Reason != ci.ReasonSkippedByUser {
		t.Errorf("skipped as %+v", s)
	}
	w.nothing(&SkipStep{Run: "r1", Step: "unit", Note: "flaky"})
	w.pass("r1", "ship")
	w.pass("r1", "report")
	w.must(&SetRun{Run: "r1", State: ci.RunPassed})
	// A skipped step may be run after all.
	w.must(&RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"unit"}})
	w.want("r1", "running build:passed@1 unit:pending@2 lint:passed@1 ship:passed@2 report:pending@3")
}

// TestFailFastReleased checks that what a failure stopped goes on when that
// failure is taken away.
func TestFailFastReleased(t *testing.T) {
	t.Parallel()
	build := func(t *testing.T, alsoFailed bool) *world {
		w := newWorld(t)
		w.create("r1", def("bad"), def("other"), def("after", "other"), def("third"))
		w.fail("r1", "bad")
		if alsoFailed {
			w.fail("r1", "third")
		} else {
			w.pass("r1", "third")
		}
		w.end("r1", "other", ci.StepCanceled, ci.ReasonFailFast)
		w.end("r1", "after", ci.StepNotRun, ci.ReasonDependencyFailed)
		w.must(&SetRun{Run: "r1", State: ci.RunFailed})
		return w
	}
	skip := &SkipStep{Run: "r1", Step: "bad", Note: "known"}
	retry := &RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"bad"}}
	w := build(t, false)
	w.must(skip)
	w.want("r1", "running bad:skipped@1 other:pending@2 after:pending@2 third:passed@1")
	w = build(t, true)
	w.must(skip)
	w.want("r1", "running bad:skipped@1 other:canceled@1 after:not_run@1 third:failed@1")
	w = build(t, false)
	w.must(retry)
	w.want("r1", "running bad:pending@2 other:pending@2 after:pending@2 third:passed@1")
	w = build(t, true)
	w.must(retry)
	w.want("r1", "running bad:pending@2 other:canceled@1 after:not_run@1 third:failed@1")
}

func TestSkipOfRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"))
	a := w.bring("r1", "s", ci.AttemptRunning)
	w.must(&SkipStep{Run: "r1", Step: "s", Note: "enough"})
	if got := w.last("r1", "s"); got.Want != ci.WantCancel || got.WantReason != ci.ReasonSkippedByUser {
		t.Fatalf("want %s (%s)", got.Want, got.WantReason)
	}
	w.fails(&EndStep{Run: "r1", Step: "s", Generation: 1, State: ci.StepSkipped}, ci.Conflict)
	w.must(w.report("r1", "s", PhaseFinal, ci.AttemptCanceled))
	w.must(&EndStep{Run: "r1", Step: "s", Generation: 1, State: ci.StepSkipped, Reason: ci.ReasonSkippedByUser, Result: a.ID})
	w.want("r1", "running s:skipped@1")
}

func TestLeftOutAtSubmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	byFile := def("c", "b")
	byFile.Skip = "pool is down"
	hash := w.put(def("a"), def("b", "a"), byFile, finally(def("f")))
	w.must(&CreateRun{Run: ci.Run{ID: "r1", Tenant: "default", WorkflowHash: hash, Skip: []string{"a"}}})
	w.want("r1", "queued a:skipped@1 b:pending@1 c:skipped@1 f:pending@1")
	w.must(&CreateRun{Run: ci.Run{ID: "r2", Tenant: "default", WorkflowHash: hash, Only: []string{"b"}}})
	w.want("r2", "queued a:skipped@1 b:pending@1 c:skipped@1 f:skipped@1")
	w.fails(&CreateRun{Run: ci.Run{ID: "r3", Tenant: "default", WorkflowHash: hash, Only: []string{"x"}}}, ci.Invalid)
	if s := w.step("r1", "c"); s.Reason != ci.ReasonSkipKey || s.Message != "pool is down" {
		t.Errorf("skipped by the file as %s (%s)", s.Reason, s.Message)
	}
	w.pass("r2", "b")
	w.must(&SetRun{Run: "r2", State: ci.RunPassed})
	w.must(&RetryRun{Run: "r2", Mode: RetrySteps, Steps: []string{"a"}})
	w.want("r2", "running a:pending@2 b:passed@1 c:skipped@1 f:skipped@2")
	w.fails(&RetryRun{Run: "r2", Mode: RetrySteps, Steps: []string{"c"}}, ci.Conflict)
}
