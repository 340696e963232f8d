package engine

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// What only the bucket can answer is settled here, and nowhere else is an
// attempt given up: of an agent that is silent, and of an attempt that should
// long be over. status.json is the truth where the state has none; where it is
// absent or cannot be read, the attempt is lost.

// defaultGrace is a step's grace when it has none.
const defaultGrace = 10 * time.Second

// statusWait bounds the reading of one status.
const statusWait = 10 * time.Second

// maxReads bounds how many are read at once.
const maxReads = 16

// suspect is an attempt to be judged.
type suspect struct {
	run     *ci.Run
	step    string
	attempt *ci.Attempt
	reason  ci.Reason
	message string
}

// Overdue returns the attempts of a run that should be over by now, by their
// step's timeout and then some, and when to look again (0: never). The agent
// keeps the timeout; this is for when it does not.
func Overdue(r *ci.Run, now ci.ClusterTime, lostAfter time.Duration) (due []*ci.Attempt, next ci.ClusterTime) {
	for i, s := range r.Steps {
		def := &r.Workflow.Steps[i]
		if def.Timeout <= 0 {
			continue
		}
		for _, a := range s.Attempts {
			// What has exited only uploads, which may take as long as it takes.
			if a.State < ci.AttemptAccepted || !a.Live() || a.Outcome != 0 {
				continue
			}
			grace := def.CancelGrace
			if grace <= 0 {
				grace = defaultGrace
			}
			at := a.AcceptedTime.Add(def.Timeout + grace + lostAfter)
			if at <= now {
				due = append(due, a)
			} else if next == 0 || at < next {
				next = at
			}
		}
	}
	return due, next
}

// judge is the loop that finds suspects and settles them.
func (e *Engine) judge(ctx context.Context) error {
	watch := e.d.Source.Watch()
	defer watch.Close()
	agents, runs := newDeadlines[ci.AgentID](), newDeadlines[ci.RunID]()
	agentTimer, runTimer := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer agentTimer.Stop()
	defer runTimer.Stop()
	for {
		now := e.d.Now()
		agents.arm(agentTimer, now)
		runs.arm(runTimer, now)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-agentTimer.C:
			e.judgeSilent(ctx, agents.take(e.d.Now()), agents)
		case <-runTimer.C:
			e.judgeOverdue(ctx, runs.take(e.d.Now()), runs)
		case <-watch.C():
			c := watch.Changed()
			v := e.d.Source.View()
			if c.All {
				c.Runs = active(v)
				for _, a := range v.Agents() {
					c.Agents = append(c.Agents, a.ID)
				}
			}
			e.watchAgents(v, c.Agents, agents)
			for _, id := range c.Runs {
				e.watchRun(v, id, runs)
			}
		}
	}
}

// watchAgents remembers when silent agents are to be judged.
func (e *Engine) watchAgents(v *state.View, ids []ci.AgentID, agents *deadlines[ci.AgentID]) {
	for _, id := range ids {
		a := v.Agent(id)
		if a == nil || a.State != ci.AgentSilent {
			agents.set(id, 0)
			continue
		}
		// Never 0, which would be never.
		agents.set(id, max(a.Seen.Add(e.d.LostAfter), 1))
	}
}

func (e *Engine) watchRun(v *state.View, id ci.RunID, runs *deadlines[ci.RunID]) {
	r := v.Run(id)
	if r == nil {
		runs.set(id, 0)
		return
	}
	now := e.d.Now()
	due, next := Overdue(r, now, e.d.LostAfter)
	if len(due) > 0 {
		next = now
	}
	runs.set(id, next)
}

// judgeSilent settles what agents hold that have been silent for too long.
func (e *Engine) judgeSilent(ctx context.Context, ids []ci.AgentID, agents *deadlines[ci.AgentID]) {
	v := e.d.Source.View()
	var list []suspect
	for _, id := range ids {
		a := v.Agent(id)
		if a == nil || a.State != ci.AgentSilent {
			continue
		}
		for _, ref := range v.AttemptsOf(id) {
			r := v.Run(ref.Run)
			list = append(list, suspect{
				run: r, step: ref.Step, attempt: r.Step(ref.Step).Attempt(ref.Attempt), reason: ci.ReasonAgentLost,
				message: fmt.Sprintf("agent %s was not heard for %s", a.Name, e.d.LostAfter),
			})
		}
	}
	e.settle(ctx, list)
	v = e.d.Source.View()
	for _, id := range ids {
		if a := v.Agent(id); a != nil && a.State == ci.AgentSilent && len(v.AttemptsOf(id)) > 0 {
			agents.earlier(id, e.d.Now().Add(again))
		}
	}
}

// judgeOverdue settles attempts whose agent lives and has let them run too long.
func (e *Engine) judgeOverdue(ctx context.Context, ids []ci.RunID, runs *deadlines[ci.RunID]) {
	v, now := e.d.Source.View(), e.d.Now()
	var list []suspect
	for _, id := range ids {
		r := v.Run(id)
		if r == nil {
			continue
		}
		due, _ := Overdue(r, now, e.d.LostAfter)
		for _, s := range r.Steps {
			for _, a := range due {
				if s.Attempt(a.ID) == a {
					list = append(list, suspect{
						run: r, step: s.ID, attempt: a, reason: ci.ReasonTimeout,
						message: "the agent did not end it when its timeout had passed",
					})
				}
			}
		}
	}
	e.settle(ctx, list)
	v = e.d.Source.View()
	for _, id := range ids {
		e.watchRun(v, id, runs)
		if at, ok := runs.at[id]; ok && at <= e.d.Now() {
			runs.set(id, e.d.Now().Add(again))
		}
	}
}

// settle reads what the bucket says of the suspects and proposes what follows.
func (e *Engine) settle(ctx context.Context, list []suspect) {
	if len(list) == 0 {
		return
	}
	todo := make([]intent, len(list))
	var g errgroup.Group
	g.SetLimit(maxReads)
	for i, s := range list {
		g.Go(func() error {
			todo[i] = intent{s.run.ID, e.verdict(ctx, s)}
			return nil
		})
	}
	_ = g.Wait() // none fails
	e.propose(ctx, todo)
}

// verdict is the report that the bucket holds, or the loss.
func (e *Engine) verdict(ctx context.Context, s suspect) state.Op {
	a := s.attempt
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	p := logpath.New(e.d.Root, s.run.Tenant, s.run.ID, s.step, a.Number, a.Fence)
	st, found, err := e.d.Status.Status(ctx, p)
	if err != nil {
		e.d.Log.Warn("cannot read status, the attempt is lost", "path", p.String(), "error", err)
	}
	if err == nil && found && st.Attempt == a.ID && st.Fence == a.Fence {
		if op := report(s, st); op != nil {
			return op
		}
		e.d.Log.Warn("status says nothing of use, the attempt is lost", "path", p.String(), "state", st.State)
	}
	return &state.LoseAttempt{Run: s.run.ID, Step: s.step, Attempt: a.ID, Fence: a.Fence, Reason: s.reason, Message: s.message}
}

// report turns a final status into the report that the agent could not make;
// nil when its state is not an end.
func report(s suspect, st logpath.Status) *state.ReportAttempt {
	outcome := ci.AttemptState(0)
	for _, x := range ci.AttemptStates {
		if x.Terminal() && x.String() == st.State {
			outcome = x
		}
	}
	a := s.attempt
	o := &state.ReportAttempt{
		Run: s.run.ID, Step: s.step, Attempt: a.ID, Fence: a.Fence, Agent: a.Agent,
		Phase: state.PhaseFinal, Outcome: outcome, Reason: st.Reason, Message: st.Message,
		Outputs: st.Outputs, FinishedAt: st.FinishedAt, ImageDigest: st.ImageDigest,
		Log: ci.LogManifest{
			Lines: st.Log.Lines, Bytes: st.Log.Bytes, Chunks: st.Log.Chunks,
			SHA256: st.Log.SHA256, Truncated: st.Log.Truncated,
		},
	}
	switch outcome {
	case 0, ci.AttemptUnaccepted:
		return nil
	case ci.AttemptRejected:
		o.Phase = state.PhaseRejected
	default: // an end of the ordinary kind
	}
	if st.ExitCode != nil {
		o.Exited, o.ExitCode = true, *st.ExitCode
	}
	if st.StartedAt != nil {
		o.StartedAt = *st.StartedAt
	}
	for _, f := range st.Artifacts {
		o.Artifacts = append(o.Artifacts, ci.Artifact{Path: f.Path, Size: f.Size, SHA256: f.SHA256})
	}
	return o
}
