package engine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/spec"
)

// stage is where a script plays: a real state, and Advance called as the loop
// would.
type stage struct {
	t     testing.TB
	w     *ci.Workflow
	s     *state.Store
	index uint64
	now   ci.ClusterTime
	next  ci.ClusterTime
	ids   int
	shown map[string]string
	out   strings.Builder
}

const theRun ci.RunID = "r1"

var someone = ci.Actor{Kind: ci.ActorUser, Name: "ann"}

func newStage(t *testing.T, yaml string) *stage {
	w, problems := spec.Parse([]byte(yaml), spec.Options{File: "w.yaml"})
	if w == nil {
		t.Fatalf("the script's workflow: %v", problems)
	}
	return stageOf(t, w)
}

func stageOf(t testing.TB, w *ci.Workflow) *stage {
	s := &stage{t: t, w: w, s: state.New(), shown: map[string]string{}, now: ci.ClusterTime(time.Second)}
	for _, op := range []state.Op{
		&state.InitCluster{ID: "c"}, &state.CreateTenant{Tenant: ci.Tenant{ID: "default"}},
		&state.RegisterAgent{Agent: ci.Agent{ID: "a1", BootID: "b", Slots: 1000, Capacity: ci.Resources{MilliCPU: 1 << 40, Memory: 1 << 50}}},
	} {
		s.must(op)
	}
	return s
}

func (s *stage) try(actor ci.Actor, op state.Op) error {
	s.index++
	data, err := state.EncodeEntry(state.Entry{
		Stamp:    state.Stamp{Wall: time.Unix(0, int64(s.now)).UTC(), Cluster: s.now},
		Commands: []state.Command{{Actor: actor, Op: op}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.s.ApplyEntry(s.index, data)[0]
}

func (s *stage) must(op state.Op) {
	if err := s.try(ci.System, op); err != nil {
		s.t.Fatalf("%s: %v", op.Name(), err)
	}
}

func (s *stage) run() *ci.Run { return s.s.View().Run(theRun) }

func (s *stage) last(step string) *ci.Attempt {
	st := s.run().Step(step)
	if st == nil || len(st.Attempts) == 0 {
		s.t.Fatalf("step %s has no attempt", step)
	}
	return st.Attempts[len(st.Attempts)-1] // perhaps of an earlier generation
}

// do does one command and returns what came of it.
func (s *stage) do(f []string) string {
	s.out.Reset()
	if err := s.command(f); err != nil {
		fmt.Fprintf(&s.out, "refused: %v\n", err)
	}
	if s.run() != nil {
		s.settle()
		s.states()
	}
	return s.out.String()
}

func (s *stage) command(f []string) error {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	step := arg(1)
	switch f[0] {
	case "create":
		return s.create(f[1:])
	case "assign":
		s.must(&state.AssignAttempt{Run: theRun, Step: step, Attempt: s.last(step).ID, Agent: "a1"})
	case "accept":
		a := s.last(step)
		s.must(&state.AcceptAttempt{Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1})
	case "start":
		return s.start(step)
	case "exit", "done":
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			s.t.Fatalf("%v: %v", f, err)
		}
		s.exit(step, code, pairs(f[3:]), f[0] == "done")
	case "final":
		a := s.last(step)
		s.must(s.report(step, a.Outcome, a.Reason, state.PhaseFinal))
	case "report":
		s.must(s.report(step, attemptState(s.t, arg(2)), ci.Reason(arg(3)), state.PhaseFinal))
	case "lose":
		a := s.last(step)
		s.must(&state.LoseAttempt{Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Reason: ci.ReasonAgentLost})
	case "wait":
		d, err := time.ParseDuration(step)
		if err != nil {
			s.t.Fatalf("%v: %v", f, err)
		}
		s.wait(d)
	case "cancel":
		return s.try(someone, &state.CancelRun{Run: theRun, Hard: step == "hard"})
	case "retry":
		return s.retry(f[1:])
	case "skip":
		return s.try(someone, &state.SkipStep{Run: theRun, Step: step, Note: "because"})
	case "cancelstep":
		return s.try(someone, &state.CancelStep{Run: theRun, Step: step})
	case "show":
		s.show(step)
	default:
		s.t.Fatalf("no such command: %v", f)
	}
	return nil
}

func (s *stage) create(args []string) error {
	run := ci.Run{ID: theRun, Tenant: "default"}
	given := map[string]string{}
	for k, v := range pairs(args) {
		switch k {
		case "skip":
			run.Skip = strings.Split(v, ",")
		case "only":
			run.Only = strings.Split(v, ",")
		default:
			given[k] = v
		}
	}
	params, err := spec.Params(s.w, given)
	if err != nil {
		return err
	}
	run.Params = params
	hash, parts, err := state.PackWorkflow(s.w)
	if err != nil {
		return err
	}
	for i := range parts {
		s.must(&parts[i])
	}
	run.WorkflowHash = hash
	return s.try(someone, &state.CreateRun{Run: run})
}

func (s *stage) start(step string) error {
	a := s.last(step)
	if a.NotBefore > s.now {
		return fmt.Errorf("attempt %d waits for %s", a.Number, a.NotBefore-s.now)
	}
	if a.State == ci.AttemptQueued {
		s.must(&state.AssignAttempt{Run: theRun, Step: step, Attempt: a.ID, Agent: "a1"})
	}
	a = s.last(step)
	s.must(&state.AcceptAttempt{Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: "a1", Incarnation: 1})
	s.must(&state.Progress{Items: []state.ProgressItem{{
		Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: "a1", Incarnation: 1, State: ci.AttemptRunning,
	}}})
	return nil
}

func (s *stage) exit(step string, code int, outputs map[string]string, final bool) {
	outcome, reason := ci.AttemptSucceeded, ci.ReasonNone
	if code != 0 {
		outcome, reason = ci.AttemptFailed, ci.ReasonExitCode
	}
	o := s.report(step, outcome, reason, state.PhaseExited)
	o.Exited, o.ExitCode, o.Outputs = true, code, outputs
	s.must(o)
	if final {
		o := *o
		o.Phase = state.PhaseFinal
		s.must(&o)
	}
}

func (s *stage) report(step string, outcome ci.AttemptState, reason ci.Reason, phase string) *state.ReportAttempt {
	a := s.last(step)
	if outcome == ci.AttemptRejected {
		phase = state.PhaseRejected
	}
	return &state.ReportAttempt{
		Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1,
		Phase: phase, Outcome: outcome, Reason: reason, Exited: a.Exited, ExitCode: a.ExitCode,
	}
}

func (s *stage) retry(f []string) error {
	o := &state.RetryRun{Run: theRun, Mode: f[0], Params: map[string]string{}, Env: map[string]string{}}
	rest := f[1:]
	switch o.Mode {
	case state.RetryFrom:
		o.From, rest = f[1], f[2:]
	case state.RetrySteps:
		o.Steps, rest = strings.Split(f[1], ","), f[2:]
	}
	for k, v := range pairs(rest) {
		if name, ok := strings.CutPrefix(k, "env."); ok {
			o.Env[name] = v
		} else {
			o.Params[k] = v
		}
	}
	return s.try(someone, o)
}

func pairs(args []string) map[string]string {
	m := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		m[k] = v
	}
	return m
}

func attemptState(t testing.TB, name string) ci.AttemptState {
	for _, s := range ci.AttemptStates {
		if s.String() == name {
			return s
		}
	}
	t.Fatalf("no attempt state %q", name)
	return 0
}
