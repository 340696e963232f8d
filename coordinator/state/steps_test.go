package state

import (
	"fmt"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// stepStates are all of them, with how a test brings a lone step there.
var stepStates = map[ci.StepState]func(w *world){
	ci.StepPending:   func(*world) {},
	ci.StepQueued:    func(w *world) { w.bring("r1", "s", ci.AttemptQueued) },
	ci.StepAssigned:  func(w *world) { w.bring("r1", "s", ci.AttemptAccepted) },
	ci.StepPreparing: func(w *world) { w.bring("r1", "s", ci.AttemptPreparing) },
	ci.StepRunning:   func(w *world) { w.bring("r1", "s", ci.AttemptRunning) },
	ci.StepReporting: func(w *world) { w.bring("r1", "s", ci.AttemptReporting) },
	ci.StepCanceling: func(w *world) { w.bring("r1", "s", ci.AttemptRunning); w.must(&CancelStep{Run: "r1", Step: "s"}) },
	ci.StepPassed:    func(w *world) { w.pass("r1", "s") },
	ci.StepFailed:    func(w *world) { w.fail("r1", "s") },
	ci.StepSoftFailed: func(w *world) {
		w.bring("r1", "s", ci.AttemptFailed)
		w.end("r1", "s", ci.StepSoftFailed, ci.ReasonExitCode)
	},
	ci.StepCanceled: func(w *world) { w.must(&CancelStep{Run: "r1", Step: "s"}) },
	ci.StepTimedOut: func(w *world) {
		w.bring("r1", "s", ci.AttemptTimedOut)
		w.end("r1", "s", ci.StepTimedOut, ci.ReasonTimeout)
	},
	ci.StepExpired: func(w *world) {
		w.bring("r1", "s", ci.AttemptQueued)
		w.end("r1", "s", ci.StepExpired, ci.ReasonQueueTimeout)
	},
	ci.StepSkipped: func(w *world) { w.must(&SkipStep{Run: "r1", Step: "s", Note: "no"}) },
	ci.StepNotRun:  func(w *world) { w.end("r1", "s", ci.StepNotRun, ci.ReasonDependencyFailed) },
	ci.StepLost:    func(w *world) { w.bring("r1", "s", ci.AttemptLost); w.end("r1", "s", ci.StepLost, ci.ReasonAgentLost) },
}

// TestStepMachine puts a step into every state and every op of a person to it.
func TestStepMachine(t *testing.T) {
	t.Parallel()
	retry := &RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"s"}}
	type states map[ci.StepState]ci.StepState
	for name, c := range map[string]struct {
		op   Op
		want states // what is not there is refused
	}{
		"skip": {&SkipStep{Run: "r1", Step: "s", Note: "why"}, states{
			ci.StepPending: ci.StepSkipped, ci.StepQueued: ci.StepSkipped,
			ci.StepAssigned: ci.StepCanceling, ci.StepPreparing: ci.StepCanceling,
			ci.StepRunning: ci.StepCanceling, ci.StepCanceling: ci.StepCanceling,
			ci.StepReporting: ci.StepReporting,
			ci.StepFailed:    ci.StepSkipped, ci.StepCanceled: ci.StepSkipped, ci.StepTimedOut: ci.StepSkipped,
			ci.StepExpired: ci.StepSkipped, ci.StepNotRun: ci.StepSkipped, ci.StepLost: ci.StepSkipped,
			ci.StepSkipped: ci.StepSkipped,
		}},
		"cancel": {&CancelStep{Run: "r1", Step: "s", Note: "why"}, states{
			ci.StepPending: ci.StepCanceled, ci.StepQueued: ci.StepCanceled,
			ci.StepAssigned: ci.StepCanceling, ci.StepPreparing: ci.StepCanceling,
			ci.StepRunning: ci.StepCanceling, ci.StepCanceling: ci.StepCanceling,
			ci.StepCanceled: ci.StepCanceled,
		}},
		"retry": {retry, states{
			ci.StepPassed: ci.StepPending, ci.StepFailed: ci.StepPending, ci.StepSoftFailed: ci.StepPending,
			ci.StepCanceled: ci.StepPending, ci.StepTimedOut: ci.StepPending, ci.StepExpired: ci.StepPending,
			ci.StepSkipped: ci.StepPending, ci.StepNotRun: ci.StepPending, ci.StepLost: ci.StepPending,
		}},
		"queue": {&QueueAttempt{Run: "r1", Step: "s", Attempt: "fresh"}, states{ci.StepPending: ci.StepQueued}},
		"pass": {&EndStep{Run: "r1", Step: "s", Generation: 1, State: ci.StepPassed, Result: "t001"}, states{
			ci.StepReporting: ci.StepPassed, ci.StepPassed: ci.StepPassed,
		}},
		"give up": {&EndStep{Run: "r1", Step: "s", Generation: 1, State: ci.StepCanceled, Reason: ci.ReasonFailFast}, states{
			ci.StepPending: ci.StepCanceled, ci.StepQueued: ci.StepCanceled, ci.StepReporting: ci.StepCanceled,
		}},
		"another generation": {&EndStep{Run: "r1", Step: "s", Generation: 2, State: ci.StepCanceled}, states{}},
		"not an end":         {&EndStep{Run: "r1", Step: "s", Generation: 1, State: ci.StepRunning}, states{}},
	} {
		for from, bring := range stepStates {
			t.Run(fmt.Sprintf("%s/%s", from, name), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.create("r1", def("s"))
				bring(w)
				if got := w.step("r1", "s").State; got != from {
					t.Fatalf("the test brought the step to %s", got)
				}
				to, ok := c.want[from]
				if !ok {
					if err := w.try(c.op); err == nil {
						t.Fatalf("not refused: the step went to %s", w.step("r1", "s").State)
					}
					to = from
				} else {
					w.must(c.op)
				}
				if got := w.step("r1", "s").State; got != to {
					t.Fatalf("the step went to %s, want %s", got, to)
				}
			})
		}
	}
}

// TestRunMachine puts a run into every state and every op to it.
func TestRunMachine(t *testing.T) {
	t.Parallel()
	set := func(s ci.RunState) Op { return &SetRun{Run: "r1", State: s} }
	over := func(s ci.RunState) func(w *world) {
		return func(w *world) { w.pass("r1", "s"); w.must(set(s)) }
	}
	bring := map[ci.RunState]func(w *world){
		ci.RunQueued:    func(*world) {},
		ci.RunRunning:   func(w *world) { w.bring("r1", "s", ci.AttemptRunning) },
		ci.RunBlocked:   func(w *world) { w.must(set(ci.RunBlocked)) },
		ci.RunCanceling: func(w *world) { w.bring("r1", "s", ci.AttemptRunning); w.must(&CancelRun{Run: "r1"}) },
		ci.RunPassed:    over(ci.RunPassed), ci.RunFailed: over(ci.RunFailed), ci.RunCanceled: over(ci.RunCanceled),
		ci.RunTimedOut: over(ci.RunTimedOut), ci.RunExpired: over(ci.RunExpired),
	}
	type states map[ci.RunState]ci.RunState
	again := states{
		ci.RunPassed: ci.RunRunning, ci.RunFailed: ci.RunRunning, ci.RunCanceled: ci.RunRunning,
		ci.RunTimedOut: ci.RunRunning, ci.RunExpired: ci.RunRunning,
	}
	for name, c := range map[string]struct {
		op   Op
		want states
	}{
		"cancel": {&CancelRun{Run: "r1"}, states{
			ci.RunQueued: ci.RunCanceling, ci.RunRunning: ci.RunCanceling,
			ci.RunBlocked: ci.RunCanceling, ci.RunCanceling: ci.RunCanceling,
		}},
		"retry":     {&RetryRun{Run: "r1", Mode: RetrySteps, Steps: []string{"s"}}, again},
		"finish":    {set(ci.RunPassed), states{ci.RunPassed: ci.RunPassed}}, // else its step is open
		"run":       {set(ci.RunRunning), states{ci.RunQueued: ci.RunRunning, ci.RunRunning: ci.RunRunning, ci.RunBlocked: ci.RunRunning}},
		"block":     {set(ci.RunBlocked), states{ci.RunQueued: ci.RunBlocked, ci.RunRunning: ci.RunBlocked, ci.RunBlocked: ci.RunBlocked}},
		"canceling": {set(ci.RunCanceling), states{}},
		"nonsense":  {set("nonsense"), states{}},
	} {
		for from, b := range bring {
			t.Run(fmt.Sprintf("%s/%s", from, name), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.create("r1", def("s"))
				b(w)
				if got := w.s.View().Run("r1").State; got != from {
					t.Fatalf("the test brought the run to %s", got)
				}
				to, ok := c.want[from]
				if !ok {
					if err := w.try(c.op); err == nil {
						t.Fatalf("not refused: the run went to %s", w.s.View().Run("r1").State)
					}
					to = from
				} else {
					w.must(c.op)
				}
				if got := w.s.View().Run("r1").State; got != to {
					t.Fatalf("the run went to %s, want %s", got, to)
				}
			})
		}
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	named := def("named")
	named.Outputs = map[string]string{"digest": "k", "absent": "other"}
	w.create("r1", named, def("free"))
	w.pass("r1", "named")
	w.pass("r1", "free")
	if got := w.step("r1", "named").Outputs; len(got) != 1 || got["digest"] == "" {
		t.Errorf("declared outputs are %v", got)
	}
	if got := w.step("r1", "free").Outputs; len(got) != 1 || got["k"] == "" {
		t.Errorf("undeclared outputs are %v", got)
	}
}
