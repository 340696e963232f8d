package state

import (
	"fmt"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// TestAttemptMachine puts an attempt into every state and every op to it. The
// outcome has to be the state that ci's own rule allows, or a refusal.
func TestAttemptMachine(t *testing.T) {
	t.Parallel()
	const keep = ci.AttemptState(0)
	refuse := ci.AttemptState(-1)
	type row map[ci.AttemptState]ci.AttemptState
	// For each op: the state after it, by the state before it; keep is a
	// replay or late news. What is not there is refused.
	live := func(to ci.AttemptState, from ...ci.AttemptState) row {
		r := row{}
		for _, f := range from {
			r[f] = to
		}
		return r
	}
	started := []ci.AttemptState{ci.AttemptAccepted, ci.AttemptPreparing, ci.AttemptRunning}
	with := func(r row, to ci.AttemptState, from ...ci.AttemptState) row {
		for _, f := range from {
			r[f] = to
		}
		return r
	}
	all := func(to ci.AttemptState) row { return live(to, ci.AttemptStates...) }
	ops := map[string]struct {
		op   func(w *world) Op
		want row
	}{
		"assign": {func(w *world) Op {
			return &AssignAttempt{Run: "r1", Step: "s", Attempt: w.last("r1", "s").ID, Agent: "a1"}
		}, with(live(ci.AttemptAssigned, ci.AttemptQueued), keep, ci.AttemptAssigned)},
		"accept": {func(w *world) Op {
			a := w.last("r1", "s")
			return &AcceptAttempt{Run: "r1", Step: "s", Attempt: a.ID, Fence: a.Fence, Agent: a.Agent, Incarnation: 1}
		}, with(live(ci.AttemptAccepted, ci.AttemptAssigned), keep, append(started, ci.AttemptReporting)...)},
		"preparing": {
			func(w *world) Op { return w.progress("r1", "s", ci.AttemptPreparing) },
			with(all(keep), ci.AttemptPreparing, ci.AttemptAccepted),
		},
		"running": {
			func(w *world) Op { return w.progress("r1", "s", ci.AttemptRunning) },
			with(all(keep), ci.AttemptRunning, ci.AttemptAccepted, ci.AttemptPreparing),
		},
		"exited": {
			func(w *world) Op { return w.report("r1", "s", PhaseExited, ci.AttemptSucceeded) },
			with(live(ci.AttemptReporting, started...), keep, ci.AttemptReporting, ci.AttemptSucceeded),
		},
		"succeeded": {
			func(w *world) Op { return w.report("r1", "s", PhaseFinal, ci.AttemptSucceeded) },
			with(live(ci.AttemptSucceeded, append(started, ci.AttemptReporting)...), keep, ci.AttemptSucceeded),
		},
		"failed": {
			func(w *world) Op { return w.report("r1", "s", PhaseFinal, ci.AttemptFailed) },
			// The exit committed success: that stands.
			with(with(live(ci.AttemptFailed, started...), ci.AttemptSucceeded, ci.AttemptReporting), keep, ci.AttemptFailed),
		},
		"canceled": {
			func(w *world) Op { return w.report("r1", "s", PhaseFinal, ci.AttemptCanceled) },
			with(with(live(ci.AttemptCanceled, append(started, ci.AttemptAssigned)...), ci.AttemptSucceeded, ci.AttemptReporting), keep, ci.AttemptCanceled),
		},
		"rejected": {
			func(w *world) Op { return w.report("r1", "s", PhaseRejected, ci.AttemptRejected) },
			with(live(ci.AttemptRejected, ci.AttemptAssigned, ci.AttemptAccepted, ci.AttemptPreparing), keep, ci.AttemptRejected),
		},
		"lose": {func(w *world) Op {
			a := w.last("r1", "s")
			return &LoseAttempt{Run: "r1", Step: "s", Attempt: a.ID, Fence: a.Fence, Reason: ci.ReasonAgentLost}
		}, with(with(live(ci.AttemptLost, append(started, ci.AttemptAssigned)...), ci.AttemptSucceeded, ci.AttemptReporting), keep, ci.AttemptLost)},
		"unaccept": {func(w *world) Op {
			a := w.last("r1", "s")
			return &UnacceptAttempt{Run: "r1", Step: "s", Attempt: a.ID, Fence: a.Fence}
		}, with(live(ci.AttemptUnaccepted, ci.AttemptAssigned), keep, ci.AttemptUnaccepted)},
		"want cancel": {func(w *world) Op {
			return &WantAttempt{Run: "r1", Step: "s", Attempt: w.last("r1", "s").ID, Want: ci.WantCancel, Reason: ci.ReasonCanceledUser}
		}, with(all(keep), ci.AttemptCanceled, ci.AttemptQueued, ci.AttemptAssigned)},
	}
	for name, c := range ops {
		for _, from := range ci.AttemptStates {
			to, ok := c.want[from]
			if !ok {
				to = refuse
			}
			t.Run(fmt.Sprintf("%s/%s", from, name), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.create("r1", def("s"))
				w.bring("r1", "s", from)
				checkMove(t, w, c.op(w), from, to)
			})
		}
	}
}

func checkMove(t *testing.T, w *world, op Op, from, to ci.AttemptState) {
	t.Helper()
	if got := w.last("r1", "s").State; got != from {
		t.Fatalf("the test brought the attempt to %s, not to %s", got, from)
	}
	if to < 0 {
		w.fails(op, ci.Conflict)
		return
	}
	w.must(op)
	if to == 0 {
		to = from
	}
	if got := w.last("r1", "s").State; got != to {
		t.Fatalf("attempt went from %s to %s, want %s", from, got, to)
	}
	if from == ci.AttemptReporting && to == ci.AttemptSucceeded {
		return // some of these ops asked for another end, and are late from now on
	}
	w.nothing(op) // a replay
}

func TestFences(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"))
	a := w.bring("r1", "s", ci.AttemptRunning)
	for name, op := range map[string]Op{
		"another fence":       &ReportAttempt{Fence: a.Fence + 1, Agent: "a1", Incarnation: 1},
		"another agent":       &ReportAttempt{Fence: a.Fence, Agent: "a2", Incarnation: 1},
		"another incarnation": &ReportAttempt{Fence: a.Fence, Agent: "a1", Incarnation: 2},
	} {
		o := op.(*ReportAttempt)
		o.Run, o.Step, o.Attempt, o.Phase, o.Outcome = "r1", "s", a.ID, PhaseFinal, ci.AttemptSucceeded
		t.Log(name)
		w.fails(o, ci.Conflict)
	}
	w.fails(&AcceptAttempt{Run: "r1", Step: "s", Attempt: a.ID, Fence: a.Fence + 1, Agent: "a1", Incarnation: 1}, ci.Conflict)
	// The coordinator's own report, read from the bucket, has no session.
	w.must(&ReportAttempt{Run: "r1", Step: "s", Attempt: a.ID, Fence: a.Fence, Agent: "a1", Phase: PhaseFinal, Outcome: ci.AttemptSucceeded, Exited: true})
}

func TestFenceRises(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"))
	first := w.bring("r1", "s", ci.AttemptUnaccepted)
	second := w.bring("r1", "s", ci.AttemptRunning)
	if second.Fence <= first.Fence || second.Number != 2 {
		t.Fatalf("attempt %d has fence %d after %d", second.Number, second.Fence, first.Fence)
	}
}

func TestReboot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"), def("u"), def("v"))
	w.bring("r1", "s", ci.AttemptRunning)
	w.bring("r1", "u", ci.AttemptReporting)
	w.bring("r1", "v", ci.AttemptQueued)
	again := agentOf("a1", 4)
	w.must(&RegisterAgent{Agent: again})
	if got := w.last("r1", "s").State; got != ci.AttemptRunning {
		t.Fatalf("a restart of the agent made its attempt %s", got)
	}
	again.BootID = "boot2"
	w.must(&RegisterAgent{Agent: again})
	if a := w.last("r1", "s"); a.State != ci.AttemptLost || a.Reason != ci.ReasonAgentLost {
		t.Fatalf("a reboot left the attempt %s (%s)", a.State, a.Reason)
	}
	if a := w.last("r1", "u"); a.State != ci.AttemptSucceeded || !a.Log.Truncated {
		t.Fatalf("a reboot made the exited attempt %s, its log truncated: %v", a.State, a.Log.Truncated)
	}
	if got := w.last("r1", "v").State; got != ci.AttemptQueued {
		t.Fatalf("a reboot made the queued attempt %s", got)
	}
	if a := w.s.View().Agent("a1"); a.Incarnation != 3 {
		t.Fatalf("incarnation %d, want 3", a.Incarnation)
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"), def("u"))
	a, b := w.queue("r1", "s"), w.queue("r1", "u")
	w.fails(&AssignAttempt{Run: "r1", Step: "s", Attempt: a, Agent: "a1", Resources: ci.Resources{MilliCPU: 4001}}, ci.Conflict)
	w.fails(&AssignAttempt{Run: "r1", Step: "s", Attempt: a, Agent: "a1", Resources: ci.Resources{Memory: 1 << 62}}, ci.Conflict)
	w.fails(&AssignAttempt{Run: "r1", Step: "s", Attempt: a, Agent: "nobody"}, ci.NotFound)
	w.must(&AssignAttempt{Run: "r1", Step: "s", Attempt: a, Agent: "a1", Resources: ci.Resources{MilliCPU: 4000}})
	assignB := &AssignAttempt{Run: "r1", Step: "u", Attempt: b, Agent: "a1", Resources: ci.Resources{MilliCPU: 1000}}
	w.fails(assignB, ci.Conflict)
	w.must(&AcceptAttempt{Run: "r1", Step: "s", Attempt: a, Fence: 1, Agent: "a1", Incarnation: 1})
	// The exit gives cpu, memory and slot back, before the upload is done.
	w.must(w.report("r1", "s", PhaseExited, ci.AttemptSucceeded))
	w.must(assignB)
	w.must(&AgentSilent{ID: "a1"})
	w.create("r2", def("s"))
	c := w.queue("r2", "s")
	w.fails(&AssignAttempt{Run: "r2", Step: "s", Attempt: c, Agent: "a1"}, ci.Conflict)
	w.must(&AgentHeard{ID: "a1"})
	w.must(&AssignAttempt{Run: "r2", Step: "s", Attempt: c, Agent: "a1"})
}

func TestLateResult(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("s"))
	w.bring("r1", "s", ci.AttemptLost)
	w.actor = ci.Actor{Kind: ci.ActorAgent, Name: "a1"}
	w.fails(w.report("r1", "s", PhaseFinal, ci.AttemptSucceeded), ci.Conflict)
	found := false
	w.s.View().AuditDesc(AuditKey{}, func(k AuditKey, e *ci.AuditEntry) bool {
		found = e.Action == "late_result" && e.Run == "r1" && e.Step == "s" && e.Before == "lost" && e.After == "succeeded"
		return false
	})
	if !found {
		t.Fatal("a late result is not in the audit")
	}
}

// TestDecidedAtFinal checks that a step with artifacts may still fail after its
// exit, and that one without may not.
func TestDecidedAtFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kept := def("kept")
	kept.Artifacts = []ci.ArtifactSpec{{Paths: []string{"x"}}}
	w.create("r1", kept, def("plain"))
	for step, want := range map[string]ci.AttemptState{"kept": ci.AttemptFailed, "plain": ci.AttemptSucceeded} {
		w.bring("r1", step, ci.AttemptReporting)
		o := w.report("r1", step, PhaseFinal, ci.AttemptFailed)
		o.Reason = ci.ReasonArtifactUpload
		w.must(o)
		if a := w.last("r1", step); a.State != want {
			t.Errorf("%s: %s, want %s", step, a.State, want)
		}
	}
}
