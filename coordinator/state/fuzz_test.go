package state

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// FuzzApply applies random sequences of ops, most of them nonsense. Nothing
// may panic or break an invariant.
func FuzzApply(f *testing.F) {
	for seed := range int64(8) {
		b := make([]byte, 400)
		rand.New(rand.NewSource(seed)).Read(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		g := &garbage{data: data, w: w}
		w.must(&CreateTenant{Tenant: ci.Tenant{ID: "small", MaxQueued: 6}})
		w.create("r0", diamond()...)
		for n := 0; len(g.data) > 0 && n < 300; n++ {
			cmds := make([]Command, 1+g.below(3))
			for i := range cmds {
				cmds[i] = Command{Actor: pick(g, ci.System, user), Op: g.op()}
				if g.below(8) == 0 {
					cmds[i].Key = pick(g, "k1", "k2", "k3")
				}
			}
			w.now += time.Duration(g.below(4)) * time.Hour
			for i, err := range w.apply(cmds...) {
				if err != nil && ci.KindOf(err) == ci.Internal {
					t.Fatalf("%s %+v: %v", cmds[i].Op.Name(), cmds[i].Op, err)
				}
			}
		}
		if err := w.past.unchanged(); err != nil {
			t.Fatal(err)
		}
		if n, _ := w.s.View().Quarantined(); n > 0 {
			t.Fatalf("%d entries panicked", n)
		}
	})
}

// FuzzDecodeEntry decodes garbage: an error or an entry, never a panic.
func FuzzDecodeEntry(f *testing.F) {
	for _, mk := range makers {
		data, err := EncodeEntry(Entry{Commands: []Command{{Op: mk()}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEntry(data)
		if err != nil {
			return
		}
		again, err := EncodeEntry(e)
		if err != nil {
			t.Fatalf("cannot encode what was decoded: %v", err)
		}
		if _, err := DecodeEntry(again); err != nil {
			t.Fatalf("cannot decode what was encoded: %v", err)
		}
	})
}

// garbage turns bytes into ops.
type garbage struct {
	data []byte
	w    *world
}

func (g *garbage) below(n int) int {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return int(b) % n
}

func pick[T any](g *garbage, list ...T) T { return list[g.below(len(list))] }

func (g *garbage) run() ci.RunID { return ci.RunID(fmt.Sprintf("r%d", g.below(4))) }

func (g *garbage) stepID() string {
	return pick(g, "build", "unit", "lint", "ship", "report", "s", "nobody")
}

// target returns a run and step and, most of the time, the step's last attempt.
func (g *garbage) target() (ci.RunID, string, *ci.Attempt) {
	run, step := g.run(), g.stepID()
	none := &ci.Attempt{ID: ci.AttemptID(fmt.Sprintf("x%d", g.below(250)))}
	if r := g.w.s.View().Run(run); r != nil && g.below(8) > 0 {
		if s := r.Step(step); s != nil && len(s.Attempts) > 0 {
			return run, step, s.Attempts[len(s.Attempts)-1]
		}
	}
	return run, step, none
}

func (g *garbage) anyState() ci.AttemptState {
	return pick(g, append([]ci.AttemptState{0, -1, 99}, ci.AttemptStates...)...)
}

func (g *garbage) stepState() ci.StepState {
	return pick(g, ci.StepPassed, ci.StepFailed, ci.StepSoftFailed, ci.StepCanceled, ci.StepTimedOut, ci.StepExpired,
		ci.StepSkipped, ci.StepNotRun, ci.StepLost, ci.StepRunning, "")
}

func (g *garbage) reason() ci.Reason {
	return pick(g, ci.ReasonNone, ci.ReasonExitCode, ci.ReasonFailFast, ci.ReasonTimeout, "nonsense")
}

func (g *garbage) op() Op {
	switch g.below(3) {
	case 0:
		return g.personOp()
	case 1:
		return g.fleetOp()
	default:
		return g.attemptOp()
	}
}

func (g *garbage) personOp() Op {
	run, step, _ := g.target()
	switch g.below(6) {
	case 0:
		hash := ""
		g.w.s.View().RunsDesc("", func(r *ci.Run) bool { hash = r.WorkflowHash; return g.below(2) == 0 })
		return &CreateRun{Run: ci.Run{
			ID: run, Tenant: pick[ci.TenantID](g, "default", "small", "nobody", ""), WorkflowHash: pick(g, hash, hash, "nothing"),
			Only: pick(g, nil, nil, []string{step}), Skip: pick(g, nil, nil, []string{step}),
		}}
	case 1:
		return &CancelRun{Run: run, Hard: g.below(2) == 0, Reason: g.reason()}
	case 2, 3:
		return &RetryRun{
			Run: run, Mode: pick(g, RetryFailed, RetryFrom, RetrySteps, "nonsense"), From: g.stepID(),
			Steps: []string{step, g.stepID()}, Params: pick(g, nil, map[string]string{"p": "1"}, map[string]string{"q": ""}),
		}
	case 4:
		return &SkipStep{Run: run, Step: step, Note: pick(g, "", "why")}
	default:
		return &CancelStep{Run: run, Step: step}
	}
}

func (g *garbage) fleetOp() Op {
	id := pick[ci.AgentID](g, "a1", "a2", "", "b\x00d")
	switch g.below(8) {
	case 0:
		a := agentOf(id, 1+g.below(3))
		// What an agent holds may not shrink under it: capacity is as it was.
		if old := g.w.s.View().Agent(id); old != nil {
			a.Slots = old.Slots
		}
		a.BootID = pick(g, "boot1", "boot1", "boot2")
		return &RegisterAgent{Agent: a}
	case 1:
		return &CheckpointAgents{Seen: []AgentSeen{{ID: id, Wall: g.w.stamp().Wall}}}
	case 2:
		return &AgentSilent{ID: id}
	case 3:
		return &AgentHeard{ID: id}
	case 4:
		return &CreateToken{Token: ci.Token{ID: ci.TokenID(id), Hash: pick(g, "h1", "h2", "")}}
	case 5:
		return &RevokeToken{ID: ci.TokenID(id)}
	case 6:
		return &PutWorkflow{Hash: pick(g, "h", ""), Part: g.below(4) - 1, Parts: g.below(4), Data: g.data[:min(len(g.data), 3)]}
	default:
		return pick[Op](g, &Tick{}, &InitCluster{ID: "other"}, &CreateTenant{Tenant: ci.Tenant{ID: ci.TenantID(id), MaxQueued: g.below(4) - 1}})
	}
}

func (g *garbage) attemptOp() Op {
	run, step, a := g.target()
	fence, inc := a.Fence+uint64(g.below(8)/7), uint64(g.below(4))
	agent := pick(g, a.Agent, a.Agent, "a1")
	if ag := g.w.s.View().Agent(agent); ag != nil && g.below(4) > 0 {
		inc = ag.Incarnation
	}
	switch g.below(11) {
	case 0:
		res := pick(g, ci.Resources{}, ci.Resources{MilliCPU: 1500, Memory: 1 << 30}, ci.Resources{MilliCPU: -1}, ci.Resources{MilliCPU: 1 << 62})
		return &QueueAttempt{Run: run, Step: step, Attempt: ci.AttemptID(fmt.Sprintf("x%d", g.below(250))), Generation: g.below(3), Resources: res}
	case 1, 2:
		return &AssignAttempt{Run: run, Step: step, Attempt: a.ID, Agent: pick[ci.AgentID](g, "a1", "a1", "a2", "")}
	case 3:
		return &AcceptAttempt{Run: run, Step: step, Attempt: a.ID, Fence: fence, Agent: agent, Incarnation: inc}
	case 4:
		return &Progress{Items: []ProgressItem{{Run: run, Step: step, Attempt: a.ID, Fence: fence, Agent: agent, Incarnation: inc, State: g.anyState(), Progress: float64(g.below(5)) / 3}}}
	case 5, 6:
		return &ReportAttempt{
			Run: run, Step: step, Attempt: a.ID, Fence: fence, Agent: agent, Incarnation: inc,
			Phase: pick(g, PhaseExited, PhaseFinal, PhaseRejected, ""), Outcome: g.anyState(), Reason: g.reason(),
			Exited: g.below(2) == 0, ExitCode: g.below(3), Outputs: pick(g, nil, map[string]string{"k": "v"}),
		}
	case 7:
		return &WantAttempt{Run: run, Step: step, Attempt: a.ID, Want: ci.Want(g.below(4)), Reason: g.reason()}
	case 8:
		return pick[Op](g, &LoseAttempt{Run: run, Step: step, Attempt: a.ID, Fence: fence, Reason: g.reason()},
			&UnacceptAttempt{Run: run, Step: step, Attempt: a.ID, Fence: fence})
	case 9:
		return &SetRun{Run: run, State: pick(g, ci.RunRunning, ci.RunPassed, ci.RunFailed, ci.RunCanceled, ci.RunBlocked, "")}
	default:
		return &EndStep{Run: run, Step: step, Generation: 1 + g.below(3), State: g.stepState(), Reason: g.reason(), Result: pick(g, a.ID, a.ID, "")}
	}
}
