package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// wait says why a step has not begun; nil when it has, or is over. A step that
// waits always has an answer.
func (a *API) wait(r *ci.Run, s *ci.StepRun, pending func(step string) []string) *ci.WaitReason {
	switch s.State {
	case ci.StepPending, ci.StepBlocked:
		if ids := pending(s.ID); len(ids) > 0 {
			return &ci.WaitReason{
				Code: ci.WaitFor, Message: "waits for " + names(ids), Detail: strings.Join(ids[:min(len(ids), maxDetail)], " "), Since: r.CreatedAt,
			}
		}
	case ci.StepQueued:
		w, ok := a.cfg.Explainer.Why(r.ID, s.ID)
		if ok && w.Code != ci.WaitBackoff {
			return &w
		}
		if w := a.backoff(s); w != nil { // it knows how long
			return w
		}
		if ok {
			return &w
		}
	default:
		return nil
	}
	since := r.CreatedAt
	if at := s.Last(); at != nil {
		since = at.QueuedAt
	}
	if _, ok := a.cfg.Leader(); !ok {
		return &ci.WaitReason{Code: ci.WaitNoQuorum, Message: "no coordinator leads the cluster, so nothing is decided", Since: since}
	}
	return &ci.WaitReason{Code: ci.WaitFairShare, Message: "is about to get its turn", Since: since}
}

// maxDetail is how many steps a detail names: a run may have thousands, each
// waiting for all before it.
const maxDetail = 100

// backoff is the pause before an automatic retry.
func (a *API) backoff(s *ci.StepRun) *ci.WaitReason {
	at := s.Last()
	if at == nil {
		return nil
	}
	left := at.NotBefore.Sub(a.cfg.Now())
	if left <= 0 {
		return nil
	}
	return &ci.WaitReason{
		Code: ci.WaitBackoff, Since: at.QueuedAt,
		Message: fmt.Sprintf("tried again in %s", left.Round(time.Second)),
		Detail:  fmt.Sprintf("attempt %d", at.Number),
	}
}

// ExplainStep says why a step waits or how it ended, in sentences.
func (a *API) ExplainStep(ctx context.Context, req *pb.ExplainStepRequest) (*pb.ExplainStepResponse, error) {
	v := a.cfg.Store.View()
	r, err := a.find(ctx, v, req.GetRun())
	if err != nil {
		return nil, err
	}
	s, err := findStep(r, req.GetStep())
	if err != nil {
		return nil, err
	}
	c := a.runContext(v)
	return &pb.ExplainStepResponse{Step: wire.Step(r, s, c), Explanation: a.explain(r, s, c)}, nil
}

func (a *API) explain(r *ci.Run, s *ci.StepRun, c wire.RunContext) []string {
	out := []string{sentence("step "+s.ID+" is "+words(string(s.State)), s.Reason, s.Message)}
	if w := c.Wait(r, s); w != nil {
		line := "it has not begun: " + w.Message
		if s.State == ci.StepQueued && w.Detail != "" {
			line += " (" + w.Detail + ")"
		}
		if !w.Since.IsZero() {
			line += ", since " + w.Since.UTC().Format(time.RFC3339)
		}
		out = append(out, line)
	}
	if s.SkipNote != "" {
		out = append(out, fmt.Sprintf("%s skipped it: %s", s.SkippedBy.Name, s.SkipNote))
	}
	if r.Workflow != nil {
		for _, need := range r.Workflow.Step(s.ID).Needs {
			if n := r.Step(need); n != nil && !n.State.Satisfies() {
				out = append(out, sentence("it needs step "+need+", which is "+words(string(n.State)), n.Reason, ""))
			}
		}
	}
	if s.Generation > 1 {
		out = append(out, fmt.Sprintf("it was opened again: this is generation %d", s.Generation))
	}
	for _, at := range s.Attempts {
		out = append(out, attemptSentence(at, c))
	}
	return out
}

func attemptSentence(at *ci.Attempt, c wire.RunContext) string {
	who := fmt.Sprintf("attempt %d", at.Number)
	if at.Agent != "" {
		who += " on " + c.AgentName(at.Agent)
	}
	text := sentence(who+": "+words(at.State.String()), at.Reason, at.Message)
	if at.Exited && !strings.Contains(text, "exit code") { // the agent's message may have it already
		text += fmt.Sprintf(", exit code %d", at.ExitCode)
	}
	return text
}

func words(state string) string { return strings.ReplaceAll(state, "_", " ") }

func sentence(what string, why ci.Reason, message string) string {
	if why != ci.ReasonNone {
		what += " (" + string(why) + ")"
	}
	if message != "" {
		what += ": " + message
	}
	return what
}
