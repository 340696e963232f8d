package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// world is a store under test: every entry goes through the codec, and after
// each one the invariants are checked and the earlier views are still what they
// were.
type world struct {
	t     testing.TB
	s     *Store
	index uint64
	now   time.Duration
	actor ci.Actor
	past  *history
	n     int
}

var user = ci.Actor{Kind: ci.ActorUser, Name: "ann"}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, s: New(), actor: user, past: newHistory()}
	w.must(&InitCluster{ID: "c1", Seed: []byte("seed")})
	w.must(&CreateTenant{Tenant: ci.Tenant{ID: "default"}})
	w.must(&RegisterAgent{Agent: agentOf("a1", 4)})
	return w
}

func agentOf(id ci.AgentID, slots int) ci.Agent {
	return ci.Agent{
		ID: id, Name: string(id), BootID: "boot1", Slots: slots, Queues: []string{"default"},
		Capacity: ci.Resources{MilliCPU: 4000, Memory: 8 << 30}, Executors: []string{ci.ExecutorProcess},
	}
}

func (w *world) stamp() Stamp {
	return Stamp{Wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(w.now), Cluster: ci.ClusterTime(w.now)}
}

// apply applies commands as one entry, a second after the one before.
func (w *world) apply(cmds ...Command) []error {
	w.t.Helper()
	w.now += time.Second
	w.index++
	data, err := EncodeEntry(Entry{Stamp: w.stamp(), Commands: cmds})
	if err != nil {
		w.t.Fatal(err)
	}
	errs := w.s.ApplyEntry(w.index, data)
	if err := w.past.check(w.s.View()); err != nil {
		w.t.Fatalf("after entry %d (%s): %v", w.index, names(cmds), err)
	}
	return errs
}

func names(cmds []Command) string {
	s := ""
	for _, c := range cmds {
		s += " " + c.Op.Name()
	}
	return s
}

func (w *world) try(op Op) error {
	w.t.Helper()
	return w.apply(Command{Actor: w.actor, Op: op})[0]
}

func (w *world) must(op Op) {
	w.t.Helper()
	if err := w.try(op); err != nil {
		w.t.Fatalf("%s: %v", op.Name(), err)
	}
}

// fails wants op to be refused with the given kind and to change nothing.
func (w *world) fails(op Op, kind ci.Kind) {
	w.t.Helper()
	before := w.s.View().t.runs
	err := w.try(op)
	if err == nil || ci.KindOf(err) != kind {
		w.t.Fatalf("%s: got error %v, want kind %s", op.Name(), err, kind)
	}
	after := w.s.View()
	before.scan(func(id ci.RunID, r *ci.Run) bool {
		if after.Run(id) != r {
			w.t.Fatalf("%s was refused (%v) and changed run %s", op.Name(), err, id)
		}
		return true
	})
}

// nothing wants op to be taken without an error and without a change.
func (w *world) nothing(op Op) {
	w.t.Helper()
	before := w.s.View()
	w.must(op)
	before.t.runs.scan(func(id ci.RunID, r *ci.Run) bool {
		if w.s.View().Run(id) != r {
			w.t.Fatalf("a replay of %s changed run %s", op.Name(), id)
		}
		return true
	})
}

// def is a step of a test's workflow.
func def(id string, needs ...string) ci.Step { return ci.Step{ID: id, Needs: needs, Run: "true"} }

func finally(s ci.Step) ci.Step { s.Finally = true; return s }

// create stores a workflow of the given steps and starts a run of it.
func (w *world) create(id ci.RunID, steps ...ci.Step) *ci.Run {
	w.t.Helper()
	w.must(&CreateRun{Run: ci.Run{ID: id, Tenant: "default", WorkflowHash: w.put(steps...)}})
	return w.s.View().Run(id)
}

func (w *world) put(steps ...ci.Step) string {
	w.t.Helper()
	hash, parts, err := PackWorkflow(&ci.Workflow{Name: "w", Params: []ci.Param{{Name: "p", Type: ci.ParamString}}, Steps: steps})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range parts {
		w.must(&parts[i])
	}
	return hash
}

func (w *world) step(run ci.RunID, id string) *ci.StepRun { return w.s.View().Run(run).Step(id) }

func (w *world) last(run ci.RunID, id string) *ci.Attempt { return w.step(run, id).Last() }

// queue queues a new attempt of a step.
func (w *world) queue(run ci.RunID, id string) ci.AttemptID {
	w.t.Helper()
	w.n++
	a := ci.AttemptID(fmt.Sprintf("t%03d", w.n))
	w.must(&QueueAttempt{Run: run, Step: id, Attempt: a})
	return a
}

// bring brings a new attempt of a step to the given state; the outcome of a
// terminal one is decided by its exit and then the final report.
func (w *world) bring(run ci.RunID, id string, to ci.AttemptState) *ci.Attempt {
	w.t.Helper()
	a := w.queue(run, id)
	if to >= ci.AttemptAssigned {
		w.must(&AssignAttempt{Run: run, Step: id, Attempt: a, Agent: "a1"})
	}
	fence := w.last(run, id).Fence
	if to == ci.AttemptUnaccepted {
		w.must(&UnacceptAttempt{Run: run, Step: id, Attempt: a, Fence: fence})
		return w.last(run, id)
	}
	if to >= ci.AttemptAccepted {
		w.must(&AcceptAttempt{Run: run, Step: id, Attempt: a, Fence: fence, Agent: "a1", Incarnation: 1})
	}
	if to == ci.AttemptRejected {
		w.must(w.report(run, id, PhaseRejected, to))
		return w.last(run, id)
	}
	if to == ci.AttemptLost {
		w.must(&LoseAttempt{Run: run, Step: id, Attempt: a, Fence: fence, Reason: ci.ReasonAgentLost})
		return w.last(run, id)
	}
	for _, s := range []ci.AttemptState{ci.AttemptPreparing, ci.AttemptRunning} {
		if to >= s {
			w.must(w.progress(run, id, s))
		}
	}
	if to == ci.AttemptReporting {
		w.must(w.report(run, id, PhaseExited, ci.AttemptSucceeded))
	}
	if to.Terminal() {
		w.must(w.report(run, id, PhaseExited, to))
		w.must(w.report(run, id, PhaseFinal, to))
	}
	return w.last(run, id)
}

func (w *world) progress(run ci.RunID, id string, s ci.AttemptState) *Progress {
	a := w.last(run, id)
	return &Progress{Items: []ProgressItem{{Run: run, Step: id, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1, State: s}}}
}

func (w *world) report(run ci.RunID, id, phase string, outcome ci.AttemptState) *ReportAttempt {
	a := w.last(run, id)
	o := &ReportAttempt{
		Run: run, Step: id, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1,
		Phase: phase, Outcome: outcome,
	}
	if outcome == ci.AttemptSucceeded || outcome == ci.AttemptFailed {
		o.Exited = true
		o.Outputs = map[string]string{"k": "v" + string(a.ID)}
	}
	if outcome == ci.AttemptFailed {
		o.ExitCode, o.Reason = 1, ci.ReasonExitCode
	}
	return o
}

// end ends a step by its last attempt, if it has one.
func (w *world) end(run ci.RunID, id string, s ci.StepState, reason ci.Reason) {
	w.t.Helper()
	st := w.step(run, id)
	o := &EndStep{Run: run, Step: id, Generation: st.Generation, State: s, Reason: reason}
	if a := st.Last(); a != nil && s != ci.StepCanceled && s != ci.StepExpired {
		o.Result = a.ID
	}
	w.must(o)
}

// pass and fail take a step to its end.
func (w *world) pass(run ci.RunID, id string) {
	w.t.Helper()
	w.bring(run, id, ci.AttemptSucceeded)
	w.end(run, id, ci.StepPassed, "")
}

func (w *world) fail(run ci.RunID, id string) {
	w.t.Helper()
	w.bring(run, id, ci.AttemptFailed)
	w.end(run, id, ci.StepFailed, ci.ReasonExitCode)
}

// states prints id:state@generation of every step, and the run's own state.
func (w *world) states(run ci.RunID) string {
	r := w.s.View().Run(run)
	out := string(r.State)
	for _, s := range r.Steps {
		out += fmt.Sprintf(" %s:%s@%d", s.ID, s.State, s.Generation)
	}
	return out
}

func (w *world) want(run ci.RunID, states string) {
	w.t.Helper()
	if got := w.states(run); got != states {
		w.t.Fatalf("run %s is\n  %s, want\n  %s", run, got, states)
	}
}
