package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

func (b *bed) path(step string) string {
	a := b.last(step)
	return logpath.New("s3://bucket/c", "default", theRun, step, a.Number, a.Fence).String()
}

// TestSilentAgent checks what becomes of the attempt of an agent that is not
// heard any more.
func TestSilentAgent(t *testing.T) {
	t.Parallel()
	code := 0
	good := func(a *ci.Attempt) logpath.Status {
		return logpath.Status{Attempt: a.ID, Fence: a.Fence, State: "succeeded", ExitCode: &code, Outputs: map[string]string{"k": "v"}}
	}
	for name, c := range map[string]struct {
		status func(a *ci.Attempt) logpath.Status
		unread error
		want   ci.StepState
	}{
		"no status":      {nil, nil, ci.StepLost},
		"a final status": {good, nil, ci.StepPassed},
		"bucket away":    {good, errors.New("away"), ci.StepLost},
		"not a state":    {func(a *ci.Attempt) logpath.Status { s := good(a); s.State = "running"; return s }, nil, ci.StepLost},
		"another fence":  {func(a *ci.Attempt) logpath.Status { s := good(a); s.Fence++; return s }, nil, ci.StepLost},
		"a rejection": {func(a *ci.Attempt) logpath.Status {
			return logpath.Status{Attempt: a.ID, Fence: a.Fence, State: "rejected", Reason: ci.ReasonImagePull}
		}, nil, ci.StepFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBed(t, func(b *bed) {
				b.create(&ci.Workflow{Steps: []ci.Step{{ID: "a"}}})
				a := b.begin("a")
				if c.status != nil {
					b.statuses[b.path("a")] = c.status(a)
				}
				b.unread = c.unread
				b.wait(time.Hour) // its agent is heard all the time
				b.must(&state.CheckpointAgents{Seen: []state.AgentSeen{{ID: "a1", Wall: time.Now()}}})
				b.wait(10 * time.Second)
				b.must(&state.AgentSilent{ID: "a1"})
				b.wait(DefaultLostAfter - 11*time.Second)
				b.want("a", ci.StepAssigned)
				b.wait(time.Second)
				b.want("a", c.want)
				s := b.store.View().Run(theRun).Step("a")
				if c.want == ci.StepPassed && s.Outputs["k"] != "v" {
					t.Errorf("outputs %v", s.Outputs)
				}
				if c.want == ci.StepLost && s.Reason != ci.ReasonAgentLost {
					t.Errorf("reason %s", s.Reason)
				}
			})
		})
	}
}

func TestSilentAgentHeardAgain(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.create(&ci.Workflow{Steps: []ci.Step{{ID: "a"}}})
		b.begin("a")
		b.must(&state.AgentSilent{ID: "a1"})
		b.wait(time.Minute)
		b.must(&state.AgentHeard{ID: "a1"})
		b.wait(time.Hour)
		b.want("a", ci.StepAssigned)
	})
}

// TestOverdue checks the backstop of the step's timeout, which an agent that
// answers has let pass.
func TestOverdue(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.create(&ci.Workflow{Steps: []ci.Step{
			{ID: "a", Timeout: 10 * time.Minute, CancelGrace: time.Minute},
			{ID: "up", Timeout: 10 * time.Minute},
			{ID: "free"},
		}})
		b.begin("a")
		b.begin("free")
		u := b.begin("up")
		b.must(&state.ReportAttempt{
			Run: theRun, Step: "up", Attempt: u.ID, Fence: u.Fence, Agent: "a1", Incarnation: 1,
			Phase: state.PhaseExited, Outcome: ci.AttemptSucceeded, Exited: true,
		})
		b.wait(11*time.Minute + DefaultLostAfter - time.Second)
		b.want("a", ci.StepAssigned)
		b.wait(time.Second)
		b.want("a", ci.StepLost)
		if s := b.store.View().Run(theRun).Step("a"); s.Reason != ci.ReasonTimeout {
			t.Errorf("reason %s", s.Reason)
		}
		b.wait(time.Hour)
		b.want("free", ci.StepAssigned) // no timeout
		if s := b.last("up").State; s != ci.AttemptReporting {
			t.Errorf("the upload of an attempt that exited was given up: %s", s)
		}
	})
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	d := newDeadlines[string]()
	d.set("a", 5)
	d.set("b", 3)
	d.set("c", 4)
	d.set("b", 7)
	d.set("c", 0)
	d.earlier("a", 9)
	d.earlier("d", 6)
	if at, ok := d.first(); !ok || at != 5 {
		t.Fatalf("first is %v", at)
	}
	if got := d.take(6); len(got) != 2 || got[0] != "a" || got[1] != "d" {
		t.Fatalf("due at 6: %q", got)
	}
	if got := d.take(6); got != nil {
		t.Fatalf("due twice: %q", got)
	}
	for i := range ci.ClusterTime(10_000) {
		d.set("x", 100+i)
	}
	if len(d.heap) > 100 {
		t.Errorf("the heap keeps %d entries for %d keys", len(d.heap), len(d.at))
	}
	if got := d.take(1 << 40); len(got) != 2 || got[0] != "b" || got[1] != "x" {
		t.Fatalf("due at the end: %q", got)
	}
}
