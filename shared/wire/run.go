package wire

import (
	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// RunContext is what a run's message says beyond the run itself. Nil functions
// leave their field empty.
type RunContext struct {
	// AgentName names an agent.
	AgentName func(ci.AgentID) string
	// LogPath is where an assigned attempt's files lie, as s3://...
	LogPath func(r *ci.Run, step string, a *ci.Attempt) string
	// Wait says why a step that has not begun waits; nil when it does not.
	Wait func(r *ci.Run, s *ci.StepRun) *ci.WaitReason
}

// RunRow renders a run without its steps, as a row of a list.
func RunRow(r *ci.Run) *pb.Run {
	m := &pb.Run{
		Id: string(r.ID), Tenant: string(r.Tenant),
		State: string(r.State), Reason: string(r.Reason), Message: r.Message,
		Repo: r.Source.Repo, Sha: r.Source.SHA, Ref: r.Source.Ref,
		Branch: r.Source.Branch, Tag: r.Source.Tag, Dirty: r.Source.Dirty,
		Params:    r.Params,
		CreatedBy: r.CreatedBy.String(),
		CreatedAt: stamp(r.CreatedAt), StartedAt: stamp(r.StartedAt), FinishedAt: stamp(r.FinishedAt),
		Round:    int32(r.Round),
		ExitCode: uint32(ci.ExitCode(r)), Final: Final(r),
	}
	if r.Workflow != nil {
		m.Workflow, m.Description = r.Workflow.Name, r.Workflow.Description
	}
	return m
}

// Run renders a run with its steps and attempts.
func Run(r *ci.Run, c RunContext) *pb.Run {
	m := RunRow(r)
	for _, s := range r.Steps {
		m.Steps = append(m.Steps, Step(r, s, c))
	}
	return m
}

// Step renders one step of a run.
func Step(r *ci.Run, s *ci.StepRun, c RunContext) *pb.Step {
	m := &pb.Step{
		Id: s.ID, State: string(s.State), Reason: string(s.Reason), Message: s.Message,
		Generation: int32(s.Generation), Outputs: s.Outputs,
		StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt),
	}
	if r.Workflow != nil {
		if def := r.Workflow.Step(s.ID); def != nil {
			m.Name, m.Needs, m.Finally = def.Name, def.Needs, def.Finally
		}
	}
	if s.SkippedBy.Name != "" {
		m.SkippedBy = s.SkippedBy.String()
		if m.Message == "" {
			m.Message = s.SkipNote
		}
	}
	if last := s.Last(); last != nil {
		m.Progress, m.Note = last.Progress, last.Note
		m.Uploading = last.Live() && last.Outcome != 0
	}
	if c.Wait != nil {
		m.WaitReason = WaitReason(c.Wait(r, s))
	}
	for _, a := range s.Attempts {
		m.Attempts = append(m.Attempts, attempt(r, s.ID, a, c))
	}
	return m
}

func attempt(r *ci.Run, step string, a *ci.Attempt, c RunContext) *pb.Attempt {
	m := &pb.Attempt{
		Id: string(a.ID), Number: int32(a.Number), Generation: int32(a.Generation),
		State: a.State.String(), Reason: string(a.Reason), Message: a.Message,
		AgentId: string(a.Agent), Agent: string(a.Agent),
		ImageDigest: a.ImageDigest, Fence: float64(a.Fence),
		QueuedAt: stamp(a.QueuedAt), StartedAt: stamp(a.StartedAt), FinishedAt: stamp(a.FinishedAt),
	}
	if a.Exited {
		code := int32(a.ExitCode)
		m.ExitCode = &code
	}
	if a.Agent != "" && c.AgentName != nil {
		m.Agent = c.AgentName(a.Agent)
	}
	if a.Fence != 0 && c.LogPath != nil {
		m.LogPath = c.LogPath(r, step, a)
	}
	if a.Log != (ci.LogManifest{}) {
		m.Log = &pb.LogManifest{
			Lines: float64(a.Log.Lines), Bytes: float64(a.Log.Bytes), Chunks: int32(a.Log.Chunks),
			Sha256: a.Log.SHA256, Truncated: a.Log.Truncated,
		}
	}
	for _, f := range a.Artifacts {
		m.Artifacts = append(m.Artifacts, Artifact(step, a.Number, f))
	}
	return m
}

// Artifact renders a file that an attempt of a step kept.
func Artifact(step string, number int, f ci.Artifact) *pb.Artifact {
	return &pb.Artifact{Path: f.Path, Size: float64(f.Size), Sha256: f.SHA256, Step: step, Attempt: int32(number)}
}

// Final reports whether nothing of the run will change any more by itself: it
// is terminal, and so is every attempt, so that logs and artifacts are whole.
func Final(r *ci.Run) bool {
	if !r.State.Terminal() {
		return false
	}
	for _, s := range r.Steps {
		for _, a := range s.Attempts {
			if a.Live() {
				return false
			}
		}
	}
	return true
}
