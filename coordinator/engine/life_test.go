package engine

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// TestEveryRunEnds plays random lives of random runs: agents that fail in every
// way, people who cancel, skip and retry. Whatever happened, the run comes to
// its end once the faults stop, and rests there.
func TestEveryRunEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{rt: rt, s: stageOf(t, randomWorkflow(rt))}
		if err := l.s.create(nil); err != nil {
			rt.Fatal(err)
		}
		l.s.settle()
		for range rapid.IntRange(0, 60).Draw(rt, "events") {
			l.event()
			l.s.settle()
			if r := l.s.run(); r.State.Terminal() && rapid.IntRange(0, 3).Draw(rt, "leave") == 0 {
				break
			}
		}
		for n := 0; !l.s.run().State.Terminal(); n++ {
			if n > 2000 {
				rt.Fatalf("the run does not end: %s", l.describe())
			}
			l.calm()
			l.s.settle()
		}
		l.check()
	})
}

type life struct {
	rt *rapid.T
	s  *stage
}

func randomWorkflow(rt *rapid.T) *ci.Workflow {
	w := &ci.Workflow{
		Name: "w", FailFast: rapid.Bool().Draw(rt, "fail fast"),
		Timeout: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "timeout"),
	}
	n := rapid.IntRange(1, 6).Draw(rt, "steps")
	for i := range n {
		s := ci.Step{ID: fmt.Sprintf("s%d", i), Run: "true", Executor: ci.ExecutorProcess}
		s.Finally = i > 0 && i >= n-2 && rapid.Bool().Draw(rt, "finally")
		for j := range i {
			if (s.Finally || !w.Steps[j].Finally) && rapid.IntRange(0, 2).Draw(rt, "need") == 0 {
				s.Needs = append(s.Needs, w.Steps[j].ID)
			}
		}
		s.SoftFail.Any = rapid.IntRange(0, 5).Draw(rt, "soft") == 0
		if rapid.IntRange(0, 4).Draw(rt, "if") == 0 {
			s.If = `run.state == "running"`
		}
		if rapid.Bool().Draw(rt, "retries") {
			s.Retry = []ci.RetryRule{{On: []ci.Reason{ci.ReasonExitCode, ci.ReasonAgentLost}, Limit: 2, Backoff: ci.Backoff{Initial: time.Second, Factor: 2}}}
		}
		if rapid.IntRange(0, 3).Draw(rt, "artifacts") == 0 {
			s.Artifacts = []ci.ArtifactSpec{{Paths: []string{"out"}}}
		}
		s.QueueTimeout = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "queue timeout")
		w.Steps = append(w.Steps, s)
	}
	return w
}

func (l *life) describe() string {
	out := string(l.s.run().State)
	for _, s := range l.s.run().Steps {
		out += fmt.Sprintf(" %s:%s@%d", s.ID, s.State, s.Generation)
		if a := s.Last(); a != nil {
			out += fmt.Sprintf("(#%d %s %s)", a.Number, a.State, a.Outcome)
		}
	}
	return out
}

// live returns the attempts that are under way, each with its step.
func (l *life) live() (steps []string, list []*ci.Attempt) {
	for _, s := range l.s.run().Steps {
		for _, a := range s.Attempts {
			if a.Live() {
				steps, list = append(steps, s.ID), append(list, a)
			}
		}
	}
	return steps, list
}

func (l *life) event() {
	id := rapid.SampledFrom(l.s.w.Steps).Draw(l.rt, "step").ID
	switch rapid.IntRange(0, 19).Draw(l.rt, "event") {
	case 0:
		_ = l.s.try(someone, &state.CancelRun{Run: theRun, Hard: rapid.Bool().Draw(l.rt, "hard")})
	case 1:
		_ = l.s.try(someone, &state.SkipStep{Run: theRun, Step: id, Note: "why"})
	case 2:
		_ = l.s.try(someone, &state.CancelStep{Run: theRun, Step: id})
	case 3, 4:
		mode := rapid.SampledFrom([]string{state.RetryFailed, state.RetryFrom, state.RetrySteps}).Draw(l.rt, "mode")
		_ = l.s.try(someone, &state.RetryRun{Run: theRun, Mode: mode, From: id, Steps: []string{id}})
	case 5, 6:
		l.s.wait(rapid.SampledFrom([]time.Duration{time.Second, 16 * time.Second, 2 * time.Hour}).Draw(l.rt, "wait"))
	default:
		steps, list := l.live()
		if len(list) > 0 {
			i := rapid.IntRange(0, len(list)-1).Draw(l.rt, "attempt")
			l.move(steps[i], list[i])
		}
	}
}

// move does one of the things that can happen to an attempt.
func (l *life) move(step string, a *ci.Attempt) {
	switch {
	case a.State == ci.AttemptQueued:
		l.s.must(&state.AssignAttempt{Run: theRun, Step: step, Attempt: a.ID, Agent: "a1"})
	case a.State == ci.AttemptAssigned:
		l.s.must(&state.AcceptAttempt{Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: "a1", Incarnation: 1})
	default:
		l.report(step, a, rapid.SampledFrom([]ci.AttemptState{
			ci.AttemptSucceeded, ci.AttemptSucceeded, ci.AttemptFailed, ci.AttemptCanceled, ci.AttemptTimedOut, ci.AttemptLost, ci.AttemptRejected,
		}).Draw(l.rt, "outcome"), rapid.Bool().Draw(l.rt, "exited"))
	}
}

func (l *life) report(step string, a *ci.Attempt, outcome ci.AttemptState, exited bool) {
	o := &state.ReportAttempt{
		Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1,
		Phase: state.PhaseFinal, Outcome: outcome, Exited: outcome <= ci.AttemptFailed,
	}
	if outcome == ci.AttemptFailed {
		o.ExitCode = 1
	}
	switch {
	case outcome == ci.AttemptRejected:
		o.Phase = state.PhaseRejected
	case exited && a.Outcome == 0:
		o.Phase = state.PhaseExited
	}
	_ = l.s.try(ci.System, o) // a rejection after the exit is refused
}

// calm lets everything that is under way succeed, or stop as it is told.
func (l *life) calm() {
	steps, list := l.live()
	if len(list) == 0 {
		return
	}
	switch a := list[0]; {
	case a.State == ci.AttemptQueued && a.NotBefore > l.s.now:
		l.s.wait(a.NotBefore.Sub(l.s.now))
	case a.State < ci.AttemptAccepted:
		l.move(steps[0], a)
	case a.Want != ci.WantRun:
		l.report(steps[0], a, ci.AttemptCanceled, false)
	default:
		l.report(steps[0], a, ci.AttemptSucceeded, false)
	}
}

// check looks at a finished run.
func (l *life) check() {
	r := l.s.run()
	if ops, next := Advance(r, l.s.now, nil); len(ops) > 0 || next != 0 {
		l.rt.Fatalf("a finished run wants %v at %v", ops, next)
	}
	for i, s := range r.Steps {
		if s.State == ci.StepPassed && s.Result == "" || !s.State.Terminal() {
			l.rt.Fatalf("a finished run has step %s %s with result %q", s.ID, s.State, s.Result)
		}
		if s.State != ci.StepNotRun {
			continue
		}
		p := newPass(r, 0, nil)
		if _, broken := p.needs(i); broken == "" {
			l.rt.Fatalf("step %s was not run though nothing that it needs failed: %s", s.ID, l.describe())
		}
	}
	if r.State == ci.RunPassed {
		for _, s := range r.Steps {
			if !s.State.Satisfies() {
				l.rt.Fatalf("the run passed and its step %s is %s", s.ID, s.State)
			}
		}
	}
}

func BenchmarkAdvance(b *testing.B) {
	w := &ci.Workflow{Name: "w", Timeout: time.Hour, FailFast: true}
	for i := range 50 {
		s := ci.Step{ID: fmt.Sprintf("step-%d", i), Run: "true", Executor: ci.ExecutorProcess}
		for j := max(0, i-3); j < i; j++ {
			s.Needs = append(s.Needs, fmt.Sprintf("step-%d", j))
		}
		w.Steps = append(w.Steps, s)
	}
	s := stageOf(b, w)
	if err := s.create(nil); err != nil {
		b.Fatal(err)
	}
	for i := range 25 {
		s.settle()
		id := fmt.Sprintf("step-%d", i)
		if err := s.start(id); err != nil {
			b.Fatal(err)
		}
		s.exit(id, 0, nil, true)
	}
	s.settle()
	r := s.run()
	b.ReportAllocs()
	for b.Loop() {
		Advance(r, s.now, func() ci.AttemptID { return "x" })
	}
}
